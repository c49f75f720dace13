"""`--filter quality`: what it refuses, what it keeps, and what of it the report gets."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from helpers import patterns, pool, train_tiny

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.core.errors import UsageError
from balancegan.folder import quality_filter as quality
from balancegan.folder.copy_filter import CopyFilter
from balancegan.folder.quality_filter import FEWEST, FOLDS, Band, QualityFilter, QualityKeep, _band, _folds
from balancegan.runs.directory import RunDir
from balancegan.verdict import utility

CPU = torch.device("cpu")


def fit(*parts, steps=60, classes=None):
    found = pool(*parts)
    return QualityFilter.fit(found.images, found.labels, classes or int(found.labels.max()) + 1, steps=steps)


@pytest.fixture(scope="module")
def judge():
    return fit((patterns(0, 60), 0), (patterns(1, 45), 1), (patterns(2, 3, modes=1), 2))


def test_images_of_the_class_that_it_did_not_see_are_mostly_kept(judge):
    for label in (0, 1):
        assert judge(patterns(label, 60, seed=1), label).mean() > 0.75


def test_images_of_another_class_are_refused(judge):
    for label, other in ((0, 1), (1, 0)):
        assert judge(patterns(other, 60, seed=1), label).mean() < 0.05


NOISE = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16), dtype=np.uint8)


def test_noise_is_refused():
    judge = fit((patterns(0, 30, modes=1), 0), (patterns(1, 30, modes=1), 1), steps=25)
    assert max(judge(NOISE, label).mean() for label in (0, 1)) < 0.05


def test_noise_is_refused_by_a_class_of_many_kinds(judge):
    assert max(judge(NOISE, label).mean() for label in (0, 1)) < 0.1


def test_a_class_of_three_images_only_has_to_be_recognised(judge):
    assert judge.bands[2] == Band(0.0, float("inf"), float("inf"))
    assert judge(patterns(2, 9, seed=1, modes=1), 2).mean() > 0.7
    assert judge(patterns(0, 30, seed=1), 2).mean() < 0.1


@pytest.mark.parametrize("few", [1, 2, 4, 5])
def test_a_class_of_hardly_any_images_works(few):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge = fit((patterns(0, 12), 0), (patterns(1, few), 1), steps=4)
    assert np.isinf(judge.bands[1].radius) == (few < FEWEST)
    found = judge(patterns(1, 8), 1)
    assert found.shape == (8,) and found.dtype == bool
    assert not np.isnan([judge.bands[0].low, judge.bands[0].high, judge.bands[0].radius]).any()


def test_a_class_without_images_works():
    judge = fit((patterns(0, 9), 0), (patterns(2, 9), 2), steps=5)
    assert judge(patterns(1, 4), 1).shape == (4,)


def test_two_images_in_all():
    assert fit((patterns(0, 1), 0), (patterns(1, 1), 1), steps=3)(patterns(0, 4), 0).shape == (4,)


def test_the_answer_depends_on_the_image_alone(judge):
    images = patterns(0, 12, seed=4)
    together = judge(images, 0)
    assert together.tolist() == [bool(judge(images[i : i + 1], 0)[0]) for i in range(12)]
    assert judge(images[:0], 0).shape == (0,)


def test_the_same_images_give_the_same_filter():
    first, again = (fit((patterns(0, 12), 0), (patterns(1, 9), 1), steps=5) for _ in range(2))
    assert first.bands == again.bands


def test_progress_counts_the_classifiers():
    calls, found = [], pool((patterns(0, 9), 0), (patterns(1, 9), 1))
    QualityFilter.fit(found.images, found.labels, 2, steps=1, progress=lambda *call: calls.append(call))
    assert calls == [("quality filter", i + 1, FOLDS) for i in range(FOLDS)]


def test_every_class_is_spread_over_the_folds():
    labels = np.repeat(np.arange(4), [10, 3, 2, 1])
    fold = _folds(labels, 4)
    for label in range(4):
        each = np.bincount(fold[labels == label], minlength=FOLDS)
        assert each.max() - each.min() <= 1
    assert set(fold) == set(range(FOLDS))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_margins_are_against_all_others(scale, classes):
    logits = scale * np.random.default_rng(0).normal(size=(50, classes)).astype(np.float32)
    logits[0] = 1.0  # all alike
    plain = logits.astype(np.float64)
    plain -= np.stack([np.logaddexp.reduce(np.delete(plain, k, axis=1), axis=1) for k in range(classes)], axis=1)
    np.testing.assert_allclose(quality._margins(logits), plain, rtol=1e-9, atol=1e-9)


def test_the_band_is_that_of_real_images():
    band = _band(np.arange(101.0), np.arange(101.0))
    assert band == Band(5.0, 75 + 1.5 * 50, 95.0)
    assert _band(np.arange(-80.0, 21.0), np.ones(101)).low == 0.0  # hard to recognise: still likelier than the others
    unsure = _band(np.full(20, -3.0), np.ones(20))
    assert unsure.low == 0.0 and unsure.high == float("inf")  # a fence below 0 would let nothing pass
    assert _band(np.full(9, np.nan), np.ones(9)).radius == float("inf")


# --- beside the copy filter -------------------------------------------------------------------------------------------


def keep_of(seen, limit=3, total=100):
    """Dark images are refused, then copies of these."""
    judged = []

    def bright(images):
        judged.append(images)
        return images.mean(axis=(1, 2, 3)) > 100

    return QualityKeep(CopyFilter(seen, total), CopyFilter(seen, total), bright, limit=limit), judged


def shades(*values):
    rng = np.random.default_rng(sum(values))
    noise = rng.integers(-20, 20, (len(values), 1, 16, 16))
    return (np.array(values)[:, None, None, None] + noise).astype(np.uint8)


def test_what_is_refused_takes_up_no_room_and_copies_go_last():
    seen = shades(200, 206, 212, 218)
    keep, judged = keep_of(seen)
    images = np.concatenate([seen[:2], shades(40, 130), seen[3:], shades(160)])
    assert keep(images).tolist() == [False, False, False, True, False, True]
    (shown,) = judged
    assert (shown == images).all() and keep.refused == 1
    assert (np.stack(keep.passed) == images[[2, 3, 5]]).all()
    assert sum(map(len, keep.copies._accepted)) == 2 and sum(map(len, keep.alone._accepted)) == 3


def test_the_images_without_the_filter_are_the_first_ones_that_are_no_copies():
    keep, _ = keep_of(shades(200, 206, 212, 218), limit=3)
    first, second = shades(30, 110), shades(70, 140, 170)
    assert keep(first).tolist() == [False, True] and keep(second).tolist() == [False, True, True]
    assert (np.stack(keep.passed) == np.concatenate([first, second])[:3]).all() and keep.refused == 2
    none, _ = keep_of(shades(200, 206, 212, 218), limit=0)
    none(first)
    assert none.passed == [] and none.refused == 1


# --- in augment -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(discs, tmp_path):
    return RunDir(train_tiny(discs, tmp_path / "runs")["run"])


def go(run, out, **options):
    return augment(run, AugmentOptions(out=out, **{"filter": "quality", "fill": "generated", **options}), device=CPU)


@pytest.mark.usefixtures("quick_reports")
def test_augment_with_the_filter_reports_both_ways(run, tmp_path, monkeypatch):
    """Of three samples one is a copy and one is taken for another class."""
    monkeypatch.setattr(QualityFilter, "__call__", lambda self, images, label: np.arange(len(images)) % 2 == 0)
    monkeypatch.setattr(CopyFilter, "__call__", lambda self, images, seeds: np.arange(len(images)) % 3 > 0)
    monkeypatch.setattr("balancegan.verdict.scores.MIN_TEST", 1)
    monkeypatch.setattr(utility, "DECIDING", (*utility.DECIDING, "real + synthetic, unfiltered"))
    document = go(run, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    json.dumps(document, allow_nan=False)
    assert document["complete"]
    rows = {row["name"]: row for row in report["classes"]}
    made = {c["name"]: c for c in document["classes"]}
    assert rows["ant"]["refused"] == 0 == made["ant"]["rejected"]
    for name in ("bee", "cat"):
        assert 0 < rows[name]["refused"] <= rows[name]["rejected"] == made[name]["rejected"]
    fields = {"name", "real", "synthetic", "generated", "transformed", "beside", "rejected", "refused"}
    assert set(document["classes"][0]) == fields
    assert document["utility"]["unfiltered_verdict"] == report["utility"]["unfiltered_verdict"]
    assert "real + synthetic, unfiltered" in [arm["name"] for arm in report["utility"]["arms"]]
    again = go(run, tmp_path / "again", report=False)
    assert again["classes"] == document["classes"]  # the report is no part of the choice


@pytest.mark.usefixtures("quick_reports")
def test_a_filter_that_refuses_everything_leaves_the_class_short(run, tmp_path, monkeypatch):
    from balancegan.sampling.samplers import Patience, Sampler

    monkeypatch.setattr(Sampler, "patience", Patience(2, 0.005, 100))
    monkeypatch.setattr(QualityFilter, "__call__", lambda self, images, label: np.zeros(len(images), bool))
    document = go(run, tmp_path / "out")
    assert document["short"] == ["bee", "cat"] and not document["complete"]
    assert document["utility"]["verdict"] is None and document["gate"] is None
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["n_fake"] for row in report["classes"]] == [0, 0, 0]


def test_the_classifiers_see_what_the_generator_saw(run, tmp_path, monkeypatch):
    """The images behind the verdict stay unseen."""
    shown = []

    def stop(images, labels, *args, **kwargs):
        shown.append((images, labels))
        raise UsageError("seen enough")

    monkeypatch.setattr(QualityFilter, "fit", stop)
    with pytest.raises(UsageError, match="seen enough"):
        go(run, tmp_path / "out", report=False)
    counts = run.read_json("dataset.json")["train_counts"]
    assert np.bincount(shown[0][1]).tolist() == list(counts.values()) and sum(counts.values()) < 38
    assert not (tmp_path / "out").exists()


def test_where_nothing_is_needed_nothing_is_trained(run, tmp_path, monkeypatch):
    monkeypatch.setattr(QualityFilter, "fit", partial(pytest.fail, "trained"))
    assert go(run, tmp_path / "out", target_ir=4.0, report=False)["complete"]
