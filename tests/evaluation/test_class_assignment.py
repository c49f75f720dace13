"""What is said of classes that a method assigns: shares, recall, acceptance, and how an evaluator's mistakes show."""

import numpy as np
import pytest
import torch
from helpers import make_method, train_tiny, write_images
from safetensors.torch import load_file

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.compare.distribution import distribution_table
from balancegan.commands.compare.matrix import Cell
from balancegan.compute.pixels import to_float
from balancegan.data.training_set import reopen_training_set
from balancegan.evaluation.class_assignment import (
    Confusion,
    assignment_json,
    assignment_notes,
    class_shares,
    confusion,
    distribution_json,
    over_training,
)
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import Tally
from balancegan.sampling.samplers import CHUNK, Patience, RejectionSampler

pytestmark = pytest.mark.usefixtures("quick_reports")

CPU = torch.device("cpu")


def test_table_4_by_hand():
    found = over_training([0.5, 0.3, 0.2, 0.0], [50, 30, 10, 0])
    assert found["ratios"] == pytest.approx([0.9, 0.9, 1.8, None], nan_ok=True)
    assert found["mean"] == pytest.approx(1.2) and found["mean_deviation"] == pytest.approx(1.0 / 3)
    assert over_training([], [])["mean"] is None


def confused(likeliest, taken=None):
    return Confusion(np.array(likeliest), np.array(likeliest if taken is None else taken))


def test_a_poor_evaluator_shows_in_a_perfect_generators_shares():
    found = confused([[90, 10], [0, 10]])  # it takes a tenth of the large class for the small one
    assert found.shares([900, 100]) == pytest.approx([0.81, 0.19])
    assert found.recall() == pytest.approx([0.9, 1.0])
    blind = confused([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
    assert blind.shares([50, 7, 50]) == pytest.approx([0.45, 0.1, 0.45])  # nothing is known of the second
    assert blind.recall() == [0.8, None, 0.9]


def test_a_few_mistakes_on_a_large_class_spoil_a_small_one():
    """Bayes: 2% of 5,600 are more than 95% of 20."""
    found = confused([[98, 2], [1, 19]])
    assert found.precision([5600, 20])[1] == pytest.approx(0.95 * 20 / (0.95 * 20 + 0.02 * 5600))
    assert found.precision([1, 1])[1] == pytest.approx(0.95 / 0.97)
    unsure = confused([[98, 2], [1, 19]], taken=[[90, 0], [0, 10]])  # those two were below the threshold
    assert unsure.precision([5600, 20]) == [1.0, 1.0]
    assert confused([[5, 0], [0, 0]]).precision([9, 1]) == [1.0, None]


def test_shares_count_every_sample(monkeypatch):
    method = make_method("contrad", d_width=8)
    method.evaluator.fitted.fill_(True)
    monkeypatch.setattr(
        method, "assign", lambda x: (torch.arange(len(x)) % 2, torch.zeros(len(x), dtype=torch.bool))
    )  # never sure
    sampler = RejectionSampler(method, CPU)
    assert class_shares(sampler, CHUNK) == [0.5, 0.5, 0.0]
    half = CHUNK / 2
    assert class_shares(sampler, CHUNK + 1) == [(half + 1) / (CHUNK + 1), half / (CHUNK + 1), 0.0]
    assert len(sampler._assigned) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = write_images(tmp_path_factory.mktemp("data") / "discs", {"ant": 24, "bee": 12, "cat": 8})
    flags = {"width": 8, "d_width": 8, "sampling": "sqrt"}
    return RunDir(train_tiny(data, tmp_path_factory.mktemp("runs"), method="damage-gan", **flags)["run"])


def test_the_document(trained):
    restored = restore(trained, CPU)
    data = reopen_training_set(trained.read_json("dataset.json"), restored.method.cfg)
    tallies = {"ant": {}, "bee": {"rejection": Tally(640, 3, 2), "langevin": Tally(128, 40, 30)}}
    found = confusion(restored, data)
    document = assignment_json(restored, data, found, tallies)
    held = data.holdout_rows
    predicted, sure = (t.numpy() for t in restored.method.assign(to_float(torch.from_numpy(data.store.images[held]))))
    for label, name in enumerate(data.class_names):
        mine = data.labels[held] == label
        assert document["held_out_recall"][name] == pytest.approx((predicted[mine] == label).mean())
        assert found.taken[label].sum() == sure[mine].sum()
    roots = [count**0.5 for count in data.class_counts]  # sampling: sqrt
    assert list(document["expected_precision"].values()) == found.precision(roots)
    assert document["acceptance"]["bee"]["langevin"] == {"samples": 128, "assigned": 40, "accepted": 30}
    shares = distribution_json(restored, data, found)
    assert shares["shares"] == class_shares(RejectionSampler(restored.method, CPU))
    assert sum(shares["shares"]) == pytest.approx(1)
    assert shares["train_counts"] == list(data.class_counts) and shares["sampling"] == "sqrt"
    assert shares["synthetic"] == over_training(shares["shares"], data.class_counts)
    assert shares["perfect"] == over_training(found.shares(roots), data.class_counts)


def test_sentences():
    none = {"samples": 6400, "assigned": 0, "accepted": 0}
    document = {
        "held_out_recall": {"ant": 0.9, "bee": 0.2, "cat": None},
        "expected_precision": {"ant": 0.1, "bee": 0.3, "cat": None},
        "acceptance": {
            "ant": {},
            "bee": {"rejection": {**none, "assigned": 7, "accepted": 5}, "langevin": {**none, "samples": 512}},
            "cat": {"rejection": none},
        },
    }
    notes, warnings = assignment_notes(document)
    assert "ant 90%, bee 20%" in notes[1] and "cat" not in notes[1]
    assert notes[2].startswith("It is not known whether it recognises cat:")
    assert "ant 10%, bee 30%" in notes[3]
    assert notes[4].startswith("bee: 7 of 6,400 samples were assigned to it; 0 of 512 samples after Langevin steps")
    assert notes[4].endswith("5 were accepted.")
    assert warnings[0].startswith("bee: the evaluator recognises only 20%")
    assert warnings[1].startswith("bee: perhaps only 30% of the images assigned to this class")
    assert warnings[2].startswith("cat: none of 6,400 samples")
    assert len(warnings) == 3  # nothing of the ant, which nobody asked for
    assert assignment_notes(None) == ([], [])


def only(label):
    """Nothing but images of one class comes."""
    return lambda self, x: (torch.full((len(x),), label), torch.ones(len(x), dtype=torch.bool))


def test_a_class_that_never_comes_is_left_short_after_both_samplers(trained, tmp_path, monkeypatch):
    from balancegan.methods.unconditional import UnconditionalGAN
    from balancegan.sampling.samplers import LangevinSampler

    monkeypatch.setattr(UnconditionalGAN, "assign", only(1))
    monkeypatch.setattr(RejectionSampler, "patience", Patience(2, 0.005, 100))
    monkeypatch.setattr(LangevinSampler, "patience", Patience(1, 0.05, 20))
    monkeypatch.setattr("balancegan.sampling.langevin.STEPS", 2)
    notes = []
    options = AugmentOptions(out=tmp_path / "out", fill="generated", filter="none", report=False)
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
    assert any("cat: 16 of 16 still missing; trying langevin sampling" in note for note in notes)


def test_langevin_alone_fills_with_seeds_of_its_own(trained, tmp_path, monkeypatch):
    from balancegan.methods.unconditional import UnconditionalGAN

    monkeypatch.setattr(UnconditionalGAN, "assign", only(2))
    monkeypatch.setattr("balancegan.sampling.langevin.STEPS", 2)
    changes = {"fill": "generated", "filter": "none", "classes": ("cat",), "sampler": "langevin"}
    options = AugmentOptions(out=tmp_path / "out", report=False, **changes)
    document = augment(trained, options, device=CPU)
    assert document["complete"] and set(document["assignment"]["acceptance"]["cat"]) == {"langevin"}
    names = sorted(p.name for p in (tmp_path / "out" / "cat").glob("syn_*"))
    assert len(names) == 16 and names[0].endswith("_5000000.png")


def test_over_seeds_in_a_comparison():
    def cell(mean, ratios):
        row = {"ratios": ratios, "mean": mean, "mean_deviation": 0.5}
        found = {"samples": 64, "classes": ["a", "b"], "train_counts": [9, 1], "synthetic": row}
        return {"distribution": {**found, "perfect": {**row, "ratios": [1.0, None]}}}

    results = {
        Cell(0.0, 0, "contrad"): cell(1.0, [1.0, 2.0]),
        Cell(0.0, 1, "contrad"): cell(2.0, [3.0, 2.0]),
        Cell(0.0, 0, "sgbgan"): {"distribution": None},
        Cell(5.0, 0, "contrad"): cell(9.0, [9.0, 9.0]),
        Cell(0.0, 2, "contrad"): {"status": "failed"},
    }
    found = distribution_table(results, ["sgbgan", "contrad"], 0.0)
    synthetic, perfect = found["rows"]
    assert (synthetic["method"], synthetic["kind"], perfect["kind"]) == ("contrad", "synthetic", "perfect")
    assert synthetic["values"][0] == {"mean": 2.0, "std": pytest.approx(2**0.5), "n": 2}
    assert synthetic["mean"]["mean"] == 1.5 and perfect["values"][1] == {"mean": None, "std": None, "n": 0}
    assert distribution_table({Cell(0.0, 0, "sgbgan"): {}}, ["sgbgan"], 0.0) is None


def test_the_shares_are_those_of_samples_as_they_come_whatever_fills_the_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("balancegan.sampling.langevin.STEPS", 1)
    found = []
    for sampler in ("rejection", "langevin"):
        counts = {"ant": 25}
        given = {"fill": "generated", "filter": "none", "counts": counts, "sampler": sampler}
        options = AugmentOptions(out=tmp_path / sampler, **given)
        found.append(augment(trained, options, device=CPU)["assignment"]["distribution"])
    assert found[0] == found[1] and found[0]["samples"] == 5120


def test_a_training_that_goes_on_forgets_its_evaluator(tmp_path):
    """What was fitted to features of an earlier step must not assign images of a later one."""
    data = write_images(tmp_path / "discs", {"ant": 12, "bee": 8})
    flags = {"method": "contrad", "width": 8, "d_width": 8, "save_every": 2, "keep_checkpoints": 9}
    run = RunDir(train_tiny(data, tmp_path / "runs", steps=4, **flags)["run"])
    assert restore(run, CPU).method.ready
    train_tiny(data, tmp_path / "runs", steps=10, **flags)
    ready = {}
    for folder in sorted((run.path / "checkpoints").glob("step-*")):
        state = load_file(folder / "weights.safetensors")
        ready[int(folder.name[-6:])] = bool(state["evaluator.fitted"])
    assert ready == {0: False, 2: False, 4: True, 6: False, 8: False, 10: True}
