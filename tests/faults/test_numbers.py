"""NaN and infinity in losses, gradients and weights, at every stage: rolled back, at most three times, never saved.

And mode collapse: noticed, written down, and the checkpoint before it kept.
"""

import json

import numpy as np
import pytest
import torch
from helpers import Quiet, train_tiny

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.sample import look
from balancegan.core.errors import TrainingDivergedError, UsageError
from balancegan.methods.base import Method
from balancegan.methods.sgbgan import SGBGAN
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.training.collapse import COLLAPSED, DiversityWatch, by_name, spread

CPU = torch.device("cpu")
STAGES = {"pretrain": "pretrain_loss", "d": "d_loss", "g": "g_loss"}
PARAMETERS = {"pretrain": "pretrain_parameters", "d": "d_parameters", "g": "g_parameters"}


class Injected:
    """Spoils the given calls of one of SGBGAN's losses."""

    def __init__(self, monkeypatch, stage, where, value, bad):
        self.calls = 0
        original, hooks = getattr(SGBGAN, STAGES[stage]), []

        def loss(method, x, c):
            self.calls += 1
            for hook in hooks:
                hook.remove()
            hooks.clear()
            first = next(iter(getattr(method, PARAMETERS[stage])()))
            if bad(self.calls) and where == "weight":
                with torch.no_grad():
                    first[(0,) * first.ndim] = value
            if bad(self.calls) and where == "gradient":
                hooks.append(first.register_hook(lambda grad: grad * value))
            terms = original(method, x, c)
            if bad(self.calls) and where == "loss":
                name = next(iter(terms))
                terms[name] = terms[name] * value
            return terms

        monkeypatch.setattr(SGBGAN, STAGES[stage], loss)


def the_run(out):
    (run,) = (RunDir(p) for p in out.iterdir() if p.is_dir() and p.name.startswith("00"))
    return run


def finite(checkpoint):
    tensors = list(checkpoint.weights.values())
    for optimiser in checkpoint.state["optimisers"].values():
        tensors += [v for state in optimiser["state"].values() for v in state.values() if isinstance(v, torch.Tensor)]
    return all(t.isfinite().all() for t in tensors if t.is_floating_point())


CASES = [
    (stage, where, value)
    for stage in STAGES
    for where in ("loss", "gradient", "weight")
    for value in (float("nan"), float("inf"))
]


@pytest.mark.parametrize("stage, where, value", CASES)
def test_one_bad_number_is_rolled_back(discs, tmp_path, monkeypatch, stage, where, value):
    """Whatever was spoilt, the run ends with finite weights, half the learning rate, and a line about it."""
    Injected(monkeypatch, stage, where, value, lambda call: call == 3)
    monitor = Quiet()
    document = train_tiny(discs, tmp_path, monitor, save_every=2)
    run = RunDir(document["run"])
    checkpoint = run.load_checkpoint()
    assert document["finished"] and finite(checkpoint) and checkpoint.state["rollbacks"] == 1
    assert (
        sum("not finite" in note for note in monitor.notes) == 1 and "not finite" in (run.path / "log.txt").read_text()
    )
    assert checkpoint.state["optimisers"]["g"]["param_groups"][0]["lr"] == pytest.approx(8e-4 / 2)
    rows = run.read_metrics()
    json.dumps(rows, allow_nan=False)
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps))  # rows of thrown away steps are gone


@pytest.mark.parametrize("stage, where, value", CASES[::2])
def test_lasting_bad_numbers_end_the_run(discs, tmp_path, monkeypatch, stage, where, value):
    """After three halvings exit 4; all that was saved is finite and can be gone on with."""
    injected = Injected(monkeypatch, stage, where, value, lambda call: call >= 2)
    with pytest.raises(TrainingDivergedError) as caught:
        train_tiny(discs, tmp_path, save_every=2)
    assert caught.value.exit_code == 4
    assert ("lr_pretrain=" if stage == "pretrain" else "lr_g=") in caught.value.hint
    assert injected.calls <= 4 * 4  # first attempt and three more, each over before two savings
    run = the_run(tmp_path)
    assert all(finite(run.load_checkpoint(choice=str(int(p.name[5:])))) for p in run.checkpoint_dirs())
    monkeypatch.undo()
    assert train_tiny(discs, tmp_path, save_every=2)["finished"]


# --- collapse ---------------------------------------------------------------------------------------------------------


def images(rng, n, share=1.0):
    """n images that differ by so much of the range."""
    return (128 + share * rng.uniform(-120, 120, (n, 3, 16, 16))).astype(np.uint8)


def test_spread_is_the_mean_distance_of_pairs():
    x = images(np.random.default_rng(0), 5)
    features = x.astype(np.float64).reshape(5, -1) / 255
    pairs = [np.sqrt(((features[i] - features[j]) ** 2).mean()) for i in range(5) for j in range(i)]
    assert spread(x) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert spread(np.repeat(x[:1], 4, axis=0)) == pytest.approx(0, abs=1e-6) and np.isnan(spread(x[:1]))


def test_a_class_collapses_once_it_was_diverse():
    rng = np.random.default_rng(0)
    watch = DiversityWatch([("ant", images(rng, 20)), ("bee", images(rng, 20)), ("one", images(rng, 1))])

    def seen(ant, bee):
        return watch.look({"ant": images(rng, 8, ant), "bee": images(rng, 8, bee), "one": images(rng, 8)})

    assert seen(0.01, 1.0) == []  # a generator that has not begun is not collapsed
    assert seen(0.9, 0.8) == [] and watch.lowest == pytest.approx(0.8, abs=0.1)
    assert seen(0.5, 0.02) == ["bee"] and watch.collapsed == ["bee"]
    assert seen(0.5, 0.02) == [] and watch.collapsed == ["bee"]  # said once
    assert seen(0.5, 0.5) == [] and watch.collapsed == []  # it may recover
    assert seen(0.05, 0.05) == ["ant", "bee"]
    again = DiversityWatch([("ant", images(rng, 9))], {"ant": 1.0})
    assert again.look({"ant": images(rng, 8, 0.01)}) == ["ant"]
    known = DiversityWatch([("ant", images(rng, 9))], {"ant": 1.0}, ["ant"])
    assert known.collapsed == ["ant"] and known.look({"ant": images(rng, 8, 0.01)}) == []  # said by an earlier call


def test_a_generator_without_classes_is_judged_by_a_part_of_many_images():
    rows = [images(np.random.default_rng(k), 8) for k in range(1000)]
    together = by_name(["all"], rows)["all"]
    assert len(together) == 256 and (together[:1] == rows[0][:1]).all() and (together[255] == rows[255][0]).all()
    assert len(by_name(["all"], rows[:3])["all"]) == 24
    assert [len(of) for of in by_name(["a", "b", "c"], rows[:3]).values()] == [8, 8, 8]


@pytest.fixture
def collapsing(monkeypatch):
    """Samples vary with the latent until so many steps were made; then those of the last class are all alike."""
    state = {"step": 0, "from": 6}
    original = SGBGAN.g_loss

    def g_loss(method, x, c):
        state["step"] += 1
        return original(method, x, c)

    def sample(method, z, c, source=None):
        rng = np.random.default_rng(0)
        pattern = torch.from_numpy(rng.normal(size=(z.shape[1], 3 * 16 * 16))).float()
        alike = (c == method.data.num_classes - 1) & (state["step"] >= state["from"])
        return torch.tanh(torch.where(alike[:, None], torch.zeros(()), z) @ pattern).view(-1, 3, 16, 16)

    monkeypatch.setattr(SGBGAN, "g_loss", g_loss)
    monkeypatch.setattr(Method, "sample", sample)
    return state


def test_collapse_is_noticed_and_the_checkpoint_before_it_stays(discs, tmp_path, collapsing):
    monitor = Quiet()
    settings = {"pretrain_steps": 2, "steps": 16, "save_every": 2, "keep_checkpoints": 2}
    document = train_tiny(discs, tmp_path / "runs", monitor, **settings)
    run = RunDir(document["run"])
    told = [note for note in monitor.notes if "mode collapse" in note]
    assert len(told) == 1 and "cat" in told[0] and "Step 8" in told[0] and document["collapsed"] == ["cat"]
    assert "mode collapse" in (run.path / "log.txt").read_text() and "step 6 is kept" in told[0]
    assert train_tiny(discs, tmp_path / "runs", **settings)["collapsed"] == ["cat"]  # nothing to do: as it was left
    low = {row["step"]: row["diversity"] for row in run.read_metrics() if "diversity" in row}
    assert low[6] > COLLAPSED > low[8] and low[18] < COLLAPSED
    assert [int(p.name[5:]) for p in run.checkpoint_dirs()] == [18, 16, 6]

    notes = []
    assert restore(run, CPU, notes.append, checkpoint="auto").checkpoint.step == 6
    assert "mode collapse" in notes[0] and "--checkpoint newest" in notes[0]
    assert restore(run, CPU).checkpoint.step == 18  # training goes on from the last, comparisons measure it
    assert restore(run, CPU, checkpoint="16").checkpoint.step == 16
    with pytest.raises(UsageError, match="no checkpoint '7'") as caught:
        restore(run, CPU, checkpoint="7")
    assert "18, 16, 6" in caught.value.hint

    options = AugmentOptions(out=tmp_path / "out", fill="generated", counts={"cat": 8}, report=False)
    assert augment(run, options, device=CPU)["step"] == 6
    assert restore(run, CPU, checkpoint="auto").warnings == [
        "The images are from step 6; the training continued to step 18."
    ]
    shown = look(run, (), None, 4, tmp_path / "grid.png", device=CPU, note=notes.append, checkpoint="newest")
    assert shown["step"] == 18


def test_a_run_that_recovers_forgets_the_collapse(discs, tmp_path, collapsing):
    settings = {"pretrain_steps": 2, "save_every": 2, "keep_checkpoints": 1}
    document = train_tiny(discs, tmp_path, steps=8, **settings)
    assert [int(p.name[5:]) for p in RunDir(document["run"]).checkpoint_dirs()] == [10, 6]
    collapsing["from"] = 10**6
    more = train_tiny(discs, tmp_path, steps=12, **settings)
    run = RunDir(more["run"])
    assert more["collapsed"] == [] and [int(p.name[5:]) for p in run.checkpoint_dirs()] == [14]
    assert restore(run, CPU, checkpoint="auto").checkpoint.step == 14


def test_a_generator_without_classes_is_watched_as_a_whole(discs, tmp_path, monkeypatch):
    looked = []
    original = DiversityWatch.look
    monkeypatch.setattr(DiversityWatch, "look", lambda self, fake: looked.append(set(fake)) or original(self, fake))
    document = train_tiny(discs, tmp_path, method="sndcgan")
    assert looked and all(names == {"all classes"} for names in looked)
    assert all(row["diversity"] >= 0 for row in RunDir(document["run"]).read_metrics() if "diversity" in row)


def test_a_collapsed_generator_without_classes_is_taken_from_before_too(discs, tmp_path, monkeypatch):
    """Its evaluator is fitted when a training ends; here, when the checkpoint is taken."""
    from balancegan.methods.sndcgan import SNDCGAN

    steps, original = [], SNDCGAN.g_loss
    monkeypatch.setattr(SNDCGAN, "g_loss", lambda self, x, c: steps.append(1) or original(self, x, c))

    def sample(self, z, c, source=None):
        pattern = torch.from_numpy(np.random.default_rng(0).normal(size=(z.shape[1], 3 * 16 * 16))).float()
        return torch.tanh((z if len(steps) < 6 else 0 * z) @ pattern).view(-1, 3, 16, 16)

    monkeypatch.setattr(Method, "sample", sample)
    document = train_tiny(discs, tmp_path / "runs", method="sndcgan", steps=12, save_every=2, accept_above=0.0)
    assert document["collapsed"] == ["all classes"]
    run, notes = RunDir(document["run"]), []
    restored = restore(run, CPU, checkpoint="auto")
    assert restored.checkpoint.step == 4 and not restored.method.ready
    steps.clear()
    given = {"fill": "generated", "filter": "none", "counts": {"cat": 8}}
    options = AugmentOptions(out=tmp_path / "out", report=False, **given)
    assert augment(run, options, device=CPU)["step"] == 4
    assert look(run, (), None, 2, tmp_path / "grid.png", device=CPU, note=notes.append)["step"] == 12
    assert any("without the data" in note for note in notes)


def test_without_a_checkpoint_from_before_it_is_said(discs, tmp_path, collapsing):
    collapsing["from"] = 2
    monitor, notes = Quiet(), []
    document = train_tiny(discs, tmp_path, monitor, pretrain_steps=2, steps=8, save_every=4)
    assert any("No checkpoint from before the collapse" in note for note in monitor.notes), monitor.notes
    restore(RunDir(document["run"]), CPU, notes.append, checkpoint="auto")
    assert any("in every earlier checkpoint too" in note for note in notes)


def test_a_gradient_so_large_that_only_its_square_is_infinite(discs, tmp_path, monkeypatch):
    """The optimiser's second moment, not the weight, is what it spoils, for ever."""
    Injected(monkeypatch, "g", "gradient", 1e25, lambda call: call == 3)
    document = train_tiny(discs, tmp_path, save_every=2)
    checkpoint = RunDir(document["run"]).load_checkpoint()
    assert finite(checkpoint) and checkpoint.state["rollbacks"] == 1


def test_old_checkpoints_say_nothing_about_collapse(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path)["run"])
    manifest = run.checkpoint_dirs()[0] / "MANIFEST.json"
    document = json.loads(manifest.read_text())
    del document["collapsed"]
    manifest.write_text(json.dumps(document))
    assert restore(run, CPU, checkpoint="auto").checkpoint.step == 10
