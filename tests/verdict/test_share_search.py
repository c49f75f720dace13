"""The search for the share of generated images: what it compares, on which images, and what it concludes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import patterns, pool, tiny_network
from scipy import stats

from balancegan.verdict import folds, share_runs, share_search
from balancegan.verdict.classifiers import Result
from balancegan.verdict.folds import MOST_TESTED, class_groups
from balancegan.verdict.material import Material, Pool, Varied
from balancegan.verdict.paired_gains import Compared, calibrated_losses, compared_gains
from balancegan.verdict.share_runs import Question
from balancegan.verdict.share_search import SHARES, first_look, search_shares, why_not

CPU = torch.device("cpu")
TINY = replace(tiny_network(), updates=(60, 60))


def question(real, fake, *, fill, test=None, **changes):
    names = [str(k) for k in range(len(fill))]
    given = {"kind": "val" if test else "folds", "delivered": (), "may_have_seen": test is None, **changes}
    material = Material(names, real, fake, test, **given)
    return Question(material, np.bincount(real.labels).tolist(), fill, CPU, network=TINY)


# --- groups of classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "fill", "expected"),
    [
        ([900, 800, 700], [0, 100, 200], []),  # alike
        ([1000, 900, 300, 250, 90, 60], [0, 1, 1, 1, 1, 1], [(1, 2, 3), (4, 5)]),
        ([60, 250, 1000, 90, 900, 300], [1, 1, 0, 1, 1, 1], [(4, 5, 1), (3, 0)]),  # whatever their order
        ([1000, 900, 300, 40, 10], [0, 1, 1, 1, 1], []),  # too few images for a choice of their own
        ([4000, 900, 150, 20], [1, 1, 1, 1], [(0,), (1,), (2, 3)]),
        ([1000, 10], [0, 0], []),
    ],
)
def test_classes_of_similar_size_share_a_choice(real, fill, expected):
    assert class_groups(real, fill) == expected


# --- scores and bounds ------------------------------------------------------------------------------------------------


def test_one_class_in_one_run_is_a_plain_t_test():
    x = np.random.default_rng(0).normal(0.1, 1, 30)
    (found,) = compared_gains(x[None, None], np.zeros(30, int), np.arange(30), [0])
    error = x.std(ddof=1) / np.sqrt(30)
    margin = stats.t.ppf(0.95, 29) * error
    assert [found.value, found.low, found.high] == pytest.approx([x.mean(), x.mean() - margin, x.mean() + margin])
    assert found.p_value == pytest.approx(stats.ttest_1samp(x, 0, alternative="greater").pvalue)


def test_classes_count_alike_and_others_not_at_all():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 10, 9])
    gains = rng.normal(0, 1, (3, 1, 59)) + labels
    found = compared_gains(gains, labels, np.arange(59), [0, 1])
    for row, x in zip(found, gains[:, 0], strict=True):
        parts = [x[labels == k] for k in (0, 1)]
        error = np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / 2
        assert row.value == pytest.approx(np.mean([part.mean() for part in parts]))
        freedom = sum(part.var(ddof=1) / len(part) for part in parts) ** 2 / sum(
            (part.var(ddof=1) / len(part)) ** 2 / (len(part) - 1) for part in parts
        )  # Welch
        assert row.low == pytest.approx(row.value - stats.t.ppf(0.95, freedom) * error)


def test_the_images_of_a_group_count_as_one():
    x, labels = np.random.default_rng(0).normal(0.2, 1, (2, 1, 24)), np.repeat([0, 1], 12)
    alone = compared_gains(x, labels, np.arange(24), [0, 1])
    twice = compared_gains(x.repeat(3, axis=2), labels.repeat(3), np.arange(24).repeat(3), [0, 1])
    apart = compared_gains(x.repeat(3, axis=2), labels.repeat(3), np.arange(72), [0, 1])
    for one, same, narrow in zip(alone, twice, apart, strict=True):
        assert (same.value, same.low, same.p_value) == pytest.approx((one.value, one.low, one.p_value))
        assert narrow.low > one.low + 0.1


def test_what_helps_nothing_seems_sure_to_help_once_in_twenty():
    """Images differ, and so do training runs, each by another chance."""
    rng = np.random.default_rng(0)
    labels, sure, trials = np.repeat([0, 1, 2], [60, 30, 15]), 0, 300
    for _ in range(trials):
        gains = rng.normal(0, 1, (4, 1, 105)) + rng.normal(0, 0.1, (4, 2, 1)) + rng.normal(0, 0.3, (4, 2, 105))
        sure += sum(row.low > 0 for row in compared_gains(gains, labels, np.arange(105), [0, 1, 2]))
    assert 0.02 < sure / (4 * trials) < 0.08


def test_an_image_that_one_run_did_not_test_counts_by_the_others():
    gains = np.array([[[1.0, 2.0, np.nan], [3.0, np.nan, 5.0]]])
    (found,) = compared_gains(gains, np.zeros(3, int), np.arange(3), [0])
    assert found.value == pytest.approx((2 + 2 + 5) / 3)


def softmax(logits):
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])


def test_calibrated_losses_are_log_losses_at_the_best_temperature():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 30, 10])
    logits = rng.normal(0, 1, (100, 3)) + 2 * np.eye(3)[truth]
    at = np.arange(100)
    tried = [-np.log(softmax(logits / t)[at, truth]) for t in np.linspace(0.3, 3, 400)]
    means = [np.mean([losses[truth == k].mean() for k in range(3)]) for losses in tried]
    for sharper in (1.0, 4.0):  # overconfidence alone costs nothing
        found = calibrated_losses(softmax(sharper * logits), truth, 3)
        np.testing.assert_allclose(found, tried[int(np.argmin(means))], atol=0.02)
    assert np.isfinite(calibrated_losses(np.eye(3)[(truth + 1) % 3], truth, 3)).all()


# --- what is trained on and tested ------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Jobs and shelves of the trainings that are asked for; nothing is learned."""
    seen = []

    def answer(jobs, shelf, network, device, progress):
        seen.extend((job, shelf) for job in jobs)
        classes = shelf.num_classes
        return [Result(np.full((len(job.plan.test), classes), 1 / classes, np.float32), 1.0) for job in jobs]

    monkeypatch.setattr(share_runs, "train_jobs", answer)
    return seen


def random_images(n, classes=2):
    rng = np.random.default_rng(0)
    return Pool(rng.integers(0, 256, (n, 1, 16, 16), dtype=np.uint8), np.sort(np.arange(n) % classes))


def test_groups_stay_whole_in_the_folds(trained, monkeypatch):
    monkeypatch.setattr(share_search, "UNLIKELY", 1.0)
    real, groups = random_images(60), np.arange(60) // 4
    search_shares(question(real, Pool(real.images[:0], real.labels[:0]), fill=(0, 9), groups=groups))
    tested = [job.plan.test for job, _ in trained]
    for job, _ in trained:
        assert not {*groups[job.plan.train]} & {*groups[job.plan.test]}
        assert {*job.plan.train} | {*job.plan.test} == {*range(60)}
    assert len({tuple(rows) for rows in tested}) == 15  # three folds, five times
    assert all(np.bincount(np.concatenate(tested), minlength=60) == len(trained) / 3)  # each image equally often


def test_at_most_so_many_images_of_a_class_are_tested(trained, monkeypatch):
    monkeypatch.setattr(folds, "MOST_TESTED", 5)
    real = random_images(60)
    first_look(question(real, Pool(real.images[:0], real.labels[:0]), fill=(0, 9)))
    assert MOST_TESTED > 100 and all(np.bincount(real.labels[job.plan.test]).tolist() == [5, 5] for job, _ in trained)


def test_what_a_fold_tests_is_not_learned_in_any_form(trained):
    """Neither a copy that the generator made, nor its mirror image, nor a variation."""
    real = random_images(60)
    source = np.tile(np.arange(60), 2)
    noisy = np.clip(real.images.astype(int) + np.random.default_rng(1).integers(-3, 4, real.images.shape), 0, 255)
    copies = np.concatenate([noisy, noisy[..., ::-1]]).astype(np.uint8)
    fake = Pool(copies, real.labels[source])
    varied = Varied(Pool(255 - real.images, real.labels), np.arange(60))
    first_look(question(real, fake, fill=(500, 500), transformed=varied))
    for job, shelf in trained:
        tested = {*job.plan.test} & {*range(60)}
        made = job.draw.rows[(job.draw.rows >= shelf.starts[1]) & (job.draw.rows < shelf.starts[2])] - shelf.starts[1]
        of_variations = job.draw.rows[job.draw.rows >= shelf.starts[2]] - shelf.starts[2]
        kept = {*range(60)} - tested
        assert {*of_variations} == {*job.plan.train} == kept
        assert {*source[made]} <= kept and (len(made) > 1.8 * len(kept) or len(made) == 2)  # share 0 draws none


def test_a_class_is_trained_on_as_many_images_as_the_folder_would_hold(trained):
    real, fake = random_images(60), random_images(60)
    first_look(question(real, fake, fill=(0, 8)))
    counts = {int(((job.draw.rows >= shelf.starts[1]) & (job.draw.often > 0)).sum()) for job, shelf in trained}
    assert counts <= {0, 2, 4}  # of 8, a quarter and half


def test_where_nothing_can_be_told_nothing_is_asked():
    real = Pool(random_images(60).images[:12], np.array([0] * 8 + [1] * 4))
    asked = question(real, random_images(20), fill=(0, 4))
    assert why_not(asked) and why_not(replace(asked, fill=(4, 0)))
    good = question(random_images(60), random_images(20), fill=(0, 4))
    assert why_not(good) is None
    alone = replace(
        good, material=replace(good.material, groups=np.where(random_images(60).labels == 1, 99, np.arange(60)))
    )
    assert why_not(alone)  # one group cannot be divided


def test_each_share_is_trained_on_in_its_proportion(trained):
    real, fake = random_images(60), random_images(20)
    varied = Varied(Pool(255 - real.images, real.labels), np.arange(60))
    search_shares(question(real, fake, fill=(0, 90), transformed=varied, test=random_images(24)))
    found = set()
    for job, shelf in trained:
        of_class = (shelf.labels[job.draw.rows] == 1).numpy()
        ends = np.searchsorted(shelf.starts[1:], job.draw.rows, side="right")
        parts = [job.draw.often[of_class & (ends == kind)].sum() for kind in range(3)]
        found.add(tuple(np.round(2 * np.array(parts) * 120, 6)))  # of 30 real and 90 synthetic images
        assert job.draw.often[~of_class & (ends > 0)].sum() == 0  # a class that is not filled
    assert found == {(30.0, 90 * share, 90 - 90 * share) for share in (0, *SHARES)}


@pytest.mark.parametrize(
    ("right", "trained_again"),
    [
        ({0.0: 0.5, 0.25: 0.4, 0.5: 0.4, 0.75: 0.4}, set()),
        ({0.0: 0.5, 0.25: 0.4, 0.5: 0.6, 0.75: 0.4}, {0.0, 0.5}),
    ],
)
def test_shares_that_are_unlikely_to_help_are_not_trained_again(monkeypatch, right, trained_again):
    """Classifiers of a share give each image's class the probability `right`, give or take."""
    seen = []

    def answer(jobs, shelf, network, device, progress):
        results = []
        for job in jobs:
            made = (job.draw.rows >= shelf.starts[1]) & (job.draw.rows < shelf.starts[2])
            of_class = (shelf.labels[job.draw.rows] == 1).numpy()
            share = round(float(job.draw.often[made].sum() / job.draw.often[of_class].sum()) * 120 / 90, 2)
            seen.append((job.seed, share))
            truth = shelf.labels[job.plan.test].numpy()
            sure = right[share] + np.random.default_rng(len(seen)).normal(0, 0.02, len(truth))
            results.append(Result(np.where(np.eye(2)[truth] > 0, sure[:, None], 1 - sure[:, None]), 1.0))
        return results

    monkeypatch.setattr(share_runs, "train_jobs", answer)
    real, fake = random_images(60), random_images(60)
    varied = Varied(Pool(255 - real.images, real.labels), np.arange(60))
    found = search_shares(question(real, fake, fill=(0, 90), transformed=varied))
    assert {share for repeat, share in seen if repeat == 0} == {0.0, *SHARES}
    assert {share for repeat, share in seen if repeat in (1, 2)} == trained_again
    assert {repeat for repeat, _ in seen} <= {0, 1, 2}  # sure after three
    assert len(seen) == len(set(seen)) * 3  # every training once
    assert found.shares == (0.0, 0.5 if trained_again else 0.0)


def test_a_share_that_was_trained_once_only_is_not_chosen(monkeypatch):
    """However sure it seemed: one repeat does not show how much trainings differ."""
    sure, doubtful = Compared(0.3, 0.2, 0.4, 0.0001), Compared(0.01, -0.1, 0.1, 0.2)

    def compare(self, candidates, groups, repeats):
        best = Compared(0.4, 0.3, 0.5, 0.0001) if len(repeats) == 1 else doubtful
        return [[best if max(shares) == 0.5 else sure] for shares in candidates]

    monkeypatch.setattr(share_search.Runs, "compare", compare)
    found = search_shares(question(random_images(60), random_images(60), fill=(0, 90)))
    assert found.shares == (0.0, 0.0) and [row.compared for row in found.rows] == [sure, doubtful, sure]


def test_a_class_does_not_train_on_more_generated_images_than_it_can_get(trained):
    """What the generator could not make is made up by transformed images, as in the folder."""
    real, fake = random_images(60), random_images(20)
    varied = Varied(Pool(255 - real.images, real.labels), np.arange(60))
    first_look(replace(question(real, fake, fill=(0, 90), transformed=varied), most=(9, 9)))
    found = set()
    for job, shelf in trained:
        of_class = (shelf.labels[job.draw.rows] == 1).numpy()
        ends = np.searchsorted(shelf.starts[1:], job.draw.rows, side="right")
        found.add(tuple(round(240 * job.draw.often[of_class & (ends == kind)].sum()) for kind in range(3)))
    assert found == {(30, 0, 90), (30, 9, 81)}  # neither 22 nor 45


def test_a_val_split_is_tested_on_and_all_real_images_are_learned(trained):
    real, val = random_images(40), random_images(24)
    first_look(question(real, random_images(10), fill=(0, 9), test=val))
    for job, shelf in trained:
        assert job.plan.train.tolist() == [*range(40)]
        assert job.plan.test[:24].tolist() == [*range(40, 64)]
        assert all(job.plan.test[24:] >= shelf.starts[1])  # generated images, to be recognised
    assert len(trained) == 3  # shares 0, 0.25 and 0.5, once


# --- known truths -----------------------------------------------------------------------------------------------------

MANY, FEW = (patterns(0, 60), 0), (patterns(1, 13)[::12][:2], 1)  # all kinds of images, and one kind
VAL = pool((patterns(0, 30, seed=1), 0), (patterns(1, 30, seed=1), 1))


def test_perfect_images_of_a_starved_class_are_chosen():
    asked = question(pool(MANY, FEW), pool((patterns(1, 58, seed=2), 1)), fill=(0, 58), test=VAL)
    assert first_look(asked).hopeless == ""
    found = search_shares(asked)
    assert found.shares[0] == 0 and found.shares[1] >= 0.1
    (chosen,) = [row for row in found.rows if row.chosen]
    assert chosen.share == found.shares[1] and chosen.group == (1,)
    assert 0 < chosen.compared.low < chosen.compared.value < chosen.compared.high
    look = first_look(asked)
    assert look.recognised > 0 and look.recognised_real > 0.3


def test_noise_is_hopeless_and_gets_no_share():
    rng = np.random.default_rng(0)
    real = pool((patterns(0, 60), 0), *((patterns(label, 24), label) for label in range(1, 6)))
    noise = pool(*((rng.integers(0, 256, (40, 1, 16, 16), dtype=np.uint8), label) for label in range(1, 6)))
    asked = question(real, noise, fill=(0, *[36] * 5))
    look = first_look(asked)
    assert "recognise" in look.hopeless and look.shares == (0.0,) * 6 and not any(row.chosen for row in look.rows)
    found = search_shares(asked)
    assert found.shares == (0.0,) * 6 and all(row.compared.low < 0 for row in found.rows)


def test_noise_that_is_taken_for_one_of_two_filled_classes_is_hopeless():
    rng = np.random.default_rng(0)
    real = pool((patterns(0, 60), 0), (patterns(1, 24), 1), (patterns(2, 24), 2))
    noise = pool(*((rng.integers(0, 256, (40, 1, 16, 16), dtype=np.uint8), label) for label in (1, 2)))
    assert "hardly recognise" in first_look(question(real, noise, fill=(0, 36, 36))).hopeless


def test_swapped_labels_are_hopeless():
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    fake = pool((patterns(1, 40, seed=2), 0), (patterns(0, 40, seed=2), 1))
    assert (
        "classifiers trained on real images hardly recognise"
        in first_look(question(real, fake, fill=(20, 20), test=VAL)).hopeless
    )


def test_one_image_over_and_over_is_hopeless():
    real = pool((patterns(0, 40), 0), (patterns(1, 40), 1))
    fake = pool((patterns(1, 1, seed=2).repeat(40, axis=0), 1))
    asked = question(real, fake, fill=(0, 20), test=VAL)
    assert first_look(asked).hopeless
    good = question(real, pool((patterns(1, 40, seed=2), 1)), fill=(0, 20), test=VAL)
    assert first_look(good).hopeless == ""


# --- other images of the same generator -------------------------------------------------------------------------------


def test_other_images_are_compared_where_some_help(monkeypatch):
    """With the chosen share, on the same folds; they are made only then."""
    asked, made = [], []
    real, fake, other = random_images(60), random_images(60), random_images(40)

    def losses(self, candidates, repeats):
        asked.append((len(self.question.material.fake), [max(shares) for shares in candidates], repeats))
        better = 0.1 if len(self.question.material.fake) == 40 else 0.0
        rng = np.random.default_rng(len(asked))
        found = [rng.normal(0.5 - helps * max(shares) - better, 0.01, (len(repeats), 60)) for shares in candidates]
        return np.array(found)

    monkeypatch.setattr(share_search.Runs, "losses", losses)
    for helps in (0.0, 0.2):
        found = search_shares(
            question(real, fake, fill=(0, 90)), lambda: made.append(1) or question(real, other, fill=(0, 90))
        )
        assert found.shares == ((0.0, 0.75) if helps else (0.0, 0.0))
        assert (found.alternative is not None) == bool(helps) == bool(made)
    assert found.alternative.value == pytest.approx(0.1, abs=0.01) and found.alternative.low > 0
    assert [(n, shares) for n, shares, _ in asked[-2:]] == [(60, [0.75]), (40, [0.75])]
    assert asked[-1][2] == asked[-2][2] and not {*asked[-1][2]} & {n for *_, repeats in asked[:-2] for n in repeats}
    assert search_shares(question(real, fake, fill=(0, 90))).alternative is None
