"""What is said of classes that a method assigns: shares, recall, acceptance, and how an evaluator's mistakes show."""

import numpy as np
import pytest
import torch
from helpers import make_method, train_tiny, write_images

from balancegan.assigned import (
    assignment_json,
    assignment_notes,
    class_shares,
    distribution_json,
    over_training,
    real_shares,
)
from balancegan.balance import AugmentOptions, augment
from balancegan.compare.distribution import distribution_table
from balancegan.compare.matrix import Cell
from balancegan.data.training_set import reopen_training_set
from balancegan.pixels import to_float
from balancegan.restore import restore
from balancegan.rundir import RunDir
from balancegan.sample import CHUNK, Patience, Sampler, Tally

CPU = torch.device("cpu")


def test_table_4_by_hand():
    found = over_training([0.5, 0.3, 0.2, 0.0], [50, 30, 10, 0])
    assert found["ratios"] == pytest.approx([0.9, 0.9, 1.8, None], nan_ok=True)
    assert found["mean"] == pytest.approx(1.2) and found["mean_deviation"] == pytest.approx(1.0 / 3)
    assert over_training([], [])["mean"] is None


def test_published_imbalanced_row_gives_the_published_mean():
    """Damage GAN's Table 3 and 4 (arXiv 2312.04862): its ratios times the training shares are shares, about 1."""
    counts = [348, 969, 125, 208, 1617, 75, 4500, 581, 2697, 45]
    ratios = [1.16, 0.94, 2.85, 1.05, 0.75, 0.64, 0.85, 1.17, 0.85, 1.42]
    shares = [r * n / sum(counts) for r, n in zip(ratios, counts, strict=True)]
    assert sum(shares) == pytest.approx(0.89, abs=0.01)
    assert over_training(shares, counts)["mean"] == pytest.approx(1.168)


def test_a_poor_evaluator_shows_in_the_real_images():
    confused = np.array([[90, 10], [0, 10]])  # it takes a tenth of the large class for the small one
    shares, mix = real_shares(confused, [900, 100])
    assert shares == pytest.approx([0.81, 0.19]) and mix == [900, 100]
    assert over_training(shares, mix)["ratios"] == pytest.approx([0.9, 1.9])
    shares, mix = real_shares(np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]]), [50, 7, 50])
    assert shares == pytest.approx([0.45, 0.1, 0.45]) and mix == [50, 0, 50]  # nothing is known of the second
    assert over_training(shares, mix)["ratios"][1] is None


def test_shares_count_every_sample(monkeypatch):
    method = make_method("contrad", d_width=8)
    method.evaluator.fitted.fill_(True)
    monkeypatch.setattr(
        method, "assign", lambda x: (torch.arange(len(x)) % 2, torch.zeros(len(x), dtype=torch.bool))
    )  # never sure
    sampler = Sampler(method, CPU)
    assert class_shares(sampler, CHUNK + 1) == [0.5, 0.5, 0.0] and len(sampler._assigned) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = write_images(tmp_path_factory.mktemp("data") / "discs", {"ant": 24, "bee": 12, "cat": 8})
    flags = {"width": 8, "d_width": 8}
    return RunDir(train_tiny(data, tmp_path_factory.mktemp("runs"), method="damage-gan", **flags)["run"])


def test_the_document(trained):
    restored = restore(trained, CPU)
    data = reopen_training_set(trained.read_json("dataset.json"), restored.method.cfg)
    tallies = {"ant": {}, "bee": {"rejection": Tally(640, 3, 2), "langevin": Tally(128, 40, 30)}}
    document = assignment_json(restored, data, tallies)
    held = data.holdout_rows
    predicted = restored.method.assign(to_float(torch.from_numpy(data.store.images[held])))[0].numpy()
    for label, name in enumerate(data.class_names):
        mine = data.labels[held] == label
        assert document["held_out_recall"][name] == pytest.approx((predicted[mine] == label).mean())
    assert document["acceptance"]["bee"]["langevin"] == {"samples": 128, "assigned": 40, "accepted": 30}
    sampler = Sampler(restored.method, CPU)
    found = distribution_json(restored, data, sampler)
    assert found["shares"] == class_shares(sampler) and sum(found["shares"]) == pytest.approx(1)
    assert found["train_counts"] == list(data.class_counts)
    assert found["synthetic"] == over_training(found["shares"], data.class_counts)


def test_sentences():
    none = {"samples": 6400, "assigned": 0, "accepted": 0}
    document = {
        "held_out_recall": {"ant": 0.9, "bee": 0.2, "cat": None},
        "acceptance": {
            "ant": {},
            "bee": {"rejection": {**none, "assigned": 7, "accepted": 5}, "langevin": {**none, "samples": 512}},
            "cat": {"rejection": none},
        },
    }
    notes, warnings = assignment_notes(document)
    assert "ant 90%, bee 20%" in notes[1] and "cat" not in notes[1]
    assert notes[2].startswith("bee: of 6,400 samples 7 were of the class; of 512 samples after Langevin steps")
    assert notes[2].endswith("5 were taken.")
    assert warnings[0].startswith("bee: the evaluator recognises only 20%")
    assert warnings[1].startswith("cat: none of 6,400 samples") and len(warnings) == 2
    assert assignment_notes(None) == ([], [])


def only(label):
    """Nothing but images of one class comes."""
    return lambda self, x: (torch.full((len(x),), label), torch.ones(len(x), dtype=torch.bool))


def test_a_class_that_never_comes_is_left_short_after_both_samplers(trained, tmp_path, monkeypatch):
    from balancegan.methods.unconditional import UnconditionalGAN
    from balancegan.sample import LangevinSampler

    monkeypatch.setattr(UnconditionalGAN, "assign", only(1))
    monkeypatch.setattr(Sampler, "patience", Patience(2, 0.005, 100))
    monkeypatch.setattr(LangevinSampler, "patience", Patience(1, 0.05, 20))
    monkeypatch.setattr("balancegan.langevin.STEPS", 2)
    notes = []
    options = AugmentOptions(out=tmp_path / "out", filter="none", report=False)
    document = augment(trained, options, device=CPU, note=notes.append)
    assert document["complete"] is False and document["short"] == ["cat"]
    assert {c["name"]: c["synthetic"] for c in document["classes"]} == {"ant": 0, "bee": 12, "cat": 0}
    assert document["assignment"]["acceptance"] == {
        "ant": {},
        "bee": {"rejection": {"samples": 12, "assigned": 12, "accepted": 12}},
        "cat": {
            "rejection": {"samples": 2 * CHUNK, "assigned": 0, "accepted": 0},
            "langevin": {"samples": CHUNK, "assigned": 0, "accepted": 0},
        },
    }
    assert any("cat: 16 of 16 are still missing; now by langevin" in note for note in notes)


def test_langevin_alone_fills_with_seeds_of_its_own(trained, tmp_path, monkeypatch):
    from balancegan.methods.unconditional import UnconditionalGAN

    monkeypatch.setattr(UnconditionalGAN, "assign", only(2))
    monkeypatch.setattr("balancegan.langevin.STEPS", 2)
    options = AugmentOptions(out=tmp_path / "out", filter="none", report=False, classes=("cat",), sampler="langevin")
    document = augment(trained, options, device=CPU)
    assert document["complete"] and set(document["assignment"]["acceptance"]["cat"]) == {"langevin"}
    names = sorted(p.name for p in (tmp_path / "out" / "cat").glob("syn_*"))
    assert len(names) == 16 and names[0].endswith("_5000000.png")


def test_over_seeds_in_a_comparison():
    def cell(mean, ratios):
        row = {"ratios": ratios, "mean": mean, "mean_deviation": 0.5}
        found = {"samples": 64, "classes": ["a", "b"], "train_counts": [9, 1], "synthetic": row}
        return {"distribution": {**found, "real": {**row, "ratios": [1.0, None]}}}

    results = {
        Cell(0.0, 0, "contrad"): cell(1.0, [1.0, 2.0]),
        Cell(0.0, 1, "contrad"): cell(2.0, [3.0, 2.0]),
        Cell(0.0, 0, "sgbgan"): {"distribution": None},
        Cell(5.0, 0, "contrad"): cell(9.0, [9.0, 9.0]),
        Cell(0.0, 2, "contrad"): {"status": "failed"},
    }
    found = distribution_table(results, ["sgbgan", "contrad"], 0.0)
    synthetic, real = found["rows"]
    assert (synthetic["method"], synthetic["kind"], real["kind"]) == ("contrad", "synthetic", "real")
    assert synthetic["values"][0] == {"mean": 2.0, "std": pytest.approx(2**0.5), "n": 2}
    assert synthetic["mean"]["mean"] == 1.5 and real["values"][1] == {"mean": None, "std": None, "n": 0}
    assert distribution_table({Cell(0.0, 0, "sgbgan"): {}}, ["sgbgan"], 0.0) is None
