"""The loop: exact resume, rollback, signals, time limits, records."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers import Quiet, train_tiny

from balancegan.core.errors import CheckpointError, StoppedError, TrainingDivergedError, UsageError
from balancegan.methods import METHODS, load_method
from balancegan.methods.sgbgan import SGBGAN
from balancegan.runs.directory import RunDir


def newest(document):
    return RunDir(document["run"]).load_checkpoint()


def assert_same_state(a, b):
    """Check that weights and optimiser states are equal, tensor by tensor."""
    assert a.step == b.step and a.weights.keys() == b.weights.keys()
    assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
    for name, state in a.state["optimisers"].items():
        other = b.state["optimisers"][name]["state"]
        for index, values in state["state"].items():
            assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other[index][k])) for k, v in values.items())
    rates = [{n: s["param_groups"][0]["lr"] for n, s in c.state["optimisers"].items()} for c in (a, b)]
    assert rates[0] == rates[1]
    assert all(a.state[key] == b.state[key] for key in ("stage", "images_seen", "rollbacks"))


class StopAt(Quiet):
    """Sends a signal to this process after a given step."""

    def __init__(self, step, signum=signal.SIGTERM, pretrain_steps=0):
        super().__init__()
        self.at, self.signum, self.pretrain_steps = step, signum, pretrain_steps

    def step(self, stage, step, total):
        if step + (self.pretrain_steps if stage == "adversarial" else 0) == self.at:
            os.kill(os.getpid(), self.signum)


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_steps_equal_straight_ones(discs, tmp_path, method):
    """10 + 10 = 20 through both stages, with interruptions inside each."""
    pretrain = 8 if load_method(method).pretrains() else 0
    settings = {"pretrain_steps": pretrain, "steps": 20 - pretrain, "method": method}
    straight = train_tiny(discs, tmp_path / "a", **settings)
    for at in (3, 8, 10, 13):
        with pytest.raises(StoppedError) as caught:
            train_tiny(discs, tmp_path / "b", StopAt(at, pretrain_steps=pretrain), **settings)
        assert caught.value.exit_code == 143
    resumed = train_tiny(discs, tmp_path / "b", **settings)
    assert resumed["resumed_from"] and resumed["steps"] == straight["steps"] == 20 - pretrain
    assert resumed["images_seen"] == straight["images_seen"]
    assert_same_state(newest(straight), newest(resumed))
    rows = [[r["step"] for r in RunDir(d["run"]).read_metrics()] for d in (straight, resumed)]
    assert set(rows[0]) <= set(rows[1]) and rows[1] == sorted(set(rows[1]))


def test_more_steps_continue_a_finished_run(discs, tmp_path):
    straight = train_tiny(discs, tmp_path / "a", steps=9)
    first = train_tiny(discs, tmp_path / "b", steps=4)
    more = train_tiny(discs, tmp_path / "b", steps=9)
    assert more["run"] == first["run"]
    assert_same_state(newest(straight), newest(more))


def test_the_same_command_reports_a_finished_run(discs, tmp_path):
    first = train_tiny(discs, tmp_path)
    monitor = Quiet()
    again = train_tiny(discs, tmp_path, monitor)
    assert again["run"] == first["run"] and not monitor.steps and any("already" in n for n in monitor.notes)
    other = train_tiny(discs, tmp_path, resume="never")
    assert other["run"] != first["run"]
    assert_same_state(newest(first), newest(other))  # the same seed gives the same run


def test_another_configuration_gets_a_run_of_its_own(discs, tmp_path):
    first = train_tiny(discs, tmp_path)
    second = train_tiny(discs, tmp_path, lambda_gp=7.0)
    assert Path(first["run"]).name == "00000-sgbgan-discs" and Path(second["run"]).name == "00001-sgbgan-discs"
    with pytest.raises(CheckpointError, match="lambda_gp"):
        train_tiny(discs, tmp_path, resume="0", lambda_gp=7.0)


def test_seeds_differ(discs, tmp_path):
    a, b = (newest(train_tiny(discs, tmp_path, seed=s)) for s in (0, 1))
    assert not torch.equal(a.weights["G.dense.weight"], b.weights["G.dense.weight"])


def test_max_time_stops_cleanly_and_continues(discs, tmp_path):
    straight = train_tiny(discs, tmp_path / "a")
    part = train_tiny(discs, tmp_path / "b", max_seconds=0.0)
    assert not part["finished"] and newest(part).step == 1
    assert_same_state(newest(straight), newest(train_tiny(discs, tmp_path / "b")))


@pytest.fixture
def sigint_heard():
    """Restore SIGINT's default handler: a test run started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigint_exits_130_and_saves(discs, tmp_path, sigint_heard):
    with pytest.raises(StoppedError) as caught:
        train_tiny(discs, tmp_path, StopAt(3, signal.SIGINT))
    assert caught.value.exit_code == 130
    (run,) = (p for p in tmp_path.iterdir() if p.is_dir() and p.name.startswith("0"))
    assert RunDir(run).load_checkpoint().step == 3


def test_run_directory_holds_what_the_contract_names(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path, sample_every=3)["run"])
    for name in ("config.yaml", "env.json", "dataset.json", "log.txt", "metrics.jsonl", "samples/real.png"):
        assert (run.path / name).stat().st_size > 0, name
    assert [p.name for p in run.checkpoint_dirs()] == ["step-000010", "step-000009", "step-000006"]
    assert {p.name for p in run.checkpoint_dirs()[0].iterdir()} == {"weights.safetensors", "state.pt", "MANIFEST.json"}
    steps = {p.name for p in run.samples.glob("step-*.png")}
    assert {"step-000003.png", "step-000004.png", "step-000010.png"} <= steps
    row = run.read_metrics()[-1]
    assert row["step"] == 10 and row["stage"] == "adversarial" and {"loss/d/gp", "loss/g/fake"} <= row.keys()
    assert run.read_yaml()["method"] == "sgbgan"
    weights = run.load_checkpoint().weights
    assert {key.split(".")[0] for key in weights} == {"G", "D", "E", "G_ema"}


def test_losses_are_means_over_the_tick(discs, tmp_path):
    every = RunDir(train_tiny(discs, tmp_path / "a", log_every=1)["run"]).read_metrics()
    pairs = RunDir(train_tiny(discs, tmp_path / "b", log_every=2)["run"]).read_metrics()
    mean = sum(r["loss/d/real"] for r in every if r["step"] in (7, 8)) / 2
    assert next(r for r in pairs if r["step"] == 8)["loss/d/real"] == pytest.approx(mean, rel=1e-4)


class Broken:
    """Makes g_loss NaN in the calls selected by `bad`."""

    def __init__(self, monkeypatch, bad):
        self.calls = 0
        original = SGBGAN.g_loss

        def g_loss(method, x, c):
            self.calls += 1
            terms = original(method, x, c)
            return {k: v * float("nan") for k, v in terms.items()} if bad(self.calls) else terms

        monkeypatch.setattr(SGBGAN, "g_loss", g_loss)


def test_a_nan_rolls_back_with_half_the_rate(discs, tmp_path, monkeypatch):
    Broken(monkeypatch, lambda call: call == 3)
    monitor = Quiet()
    document = train_tiny(discs, tmp_path, monitor)
    assert document["steps"] == 6 and any("not finite" in n for n in monitor.notes)
    checkpoint = newest(document)
    assert checkpoint.state["rollbacks"] == 1
    assert checkpoint.state["optimisers"]["g"]["param_groups"][0]["lr"] == pytest.approx(8e-4 / 2)
    assert all(t.isfinite().all() for t in checkpoint.weights.values())
    json.dumps(RunDir(document["run"]).read_metrics(), allow_nan=False)


def test_divergence_is_bounded_and_exits_4(discs, tmp_path, monkeypatch):
    broken = Broken(monkeypatch, lambda call: True)
    with pytest.raises(TrainingDivergedError) as caught:
        train_tiny(discs, tmp_path)
    assert caught.value.exit_code == 4 and broken.calls <= 4 * 2


def test_a_damaged_checkpoint_falls_back(discs, tmp_path):
    straight = train_tiny(discs, tmp_path / "a", steps=12)
    part = train_tiny(discs, tmp_path / "b", steps=8)
    run = RunDir(part["run"])
    weights = run.checkpoint_dirs()[0] / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    monitor = Quiet()
    resumed = train_tiny(discs, tmp_path / "b", monitor, steps=12)
    assert any("damaged" in n and "step-000012" in n for n in monitor.notes)
    assert resumed["resumed_from"].endswith("step-000010")
    assert_same_state(newest(straight), newest(resumed))


def test_nothing_intact_is_exit_8(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path)["run"])
    for path in run.checkpoint_dirs():
        (path / "state.pt").write_bytes(b"no")
    with pytest.raises(CheckpointError) as caught:
        train_tiny(discs, tmp_path, steps=20)
    assert caught.value.exit_code == 8


def test_a_live_run_is_locked(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path)["run"])
    run.lock()
    with pytest.raises(UsageError, match="another process"):
        train_tiny(discs, tmp_path)
    run.unlock()


def test_no_pretraining_and_every_image_size_of_batches(discs, tmp_path):
    assert train_tiny(discs, tmp_path, pretrain_steps=0, steps=2)["images_seen"] == 16
    five = train_tiny(discs, tmp_path, pretrain_steps=1, steps=2, n_critic=5)
    assert five["images_seen"] == 8 + 2 * 5 * 8


def test_resume_after_a_roll_back_is_exact_too(discs, tmp_path, monkeypatch):
    Broken(monkeypatch, lambda call: call == 3)
    straight = train_tiny(discs, tmp_path / "a", steps=12)
    monkeypatch.undo()
    Broken(monkeypatch, lambda call: call == 3)
    train_tiny(discs, tmp_path / "b", steps=8)
    assert_same_state(newest(straight), newest(train_tiny(discs, tmp_path / "b", steps=12)))


def test_fewer_steps_than_made_change_nothing(discs, tmp_path):
    first = train_tiny(discs, tmp_path)
    config = (Path(first["run"]) / "config.yaml").read_text()
    again = train_tiny(discs, tmp_path, steps=2)
    assert again["finished"] and again["steps"] == 6 and (Path(first["run"]) / "config.yaml").read_text() == config


def test_a_damaged_checkpoint_does_not_push_out_good_ones(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path, keep_checkpoints=2)["run"])
    (run.checkpoint_dirs()[0] / "state.pt").write_bytes(b"no")
    train_tiny(discs, tmp_path, keep_checkpoints=1, max_seconds=0.0)
    assert run.load_checkpoint() is not None
    train_tiny(discs, tmp_path, keep_checkpoints=1)
    assert run.load_checkpoint().step == 10


def test_rows_name_the_stage_of_their_losses(discs, tmp_path):
    for row in RunDir(train_tiny(discs, tmp_path, log_every=1)["run"]).read_metrics():
        networks = {key.split("/")[1] for key in row if key.startswith("loss/")}
        assert networks == ({"pretrain"} if row["stage"] == "pretrain" else {"d", "g"})


def test_a_named_run_brings_its_configuration(discs, tmp_path):
    from balancegan.commands.train import TrainRequest, launch

    first = train_tiny(discs, tmp_path, lambda_gp=3.0)
    request = TrainRequest(data=discs, flags={"steps": 8}, device="cpu", out=tmp_path, resume="0")
    more = launch(request, Quiet())
    assert more["run"] == first["run"] and more["steps"] == 8


def test_the_source_is_never_written_to(discs, monkeypatch):
    with pytest.raises(UsageError, match="source"):
        train_tiny(discs, discs / "runs")
    assert sorted(p.name for p in discs.iterdir()) == ["ant", "bee", "cat"]


def test_a_moved_source_is_remembered(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    moved = discs.rename(tmp_path / "moved")
    train_tiny(moved, tmp_path / "runs")
    assert run.read_json("dataset.json")["data"] == str(moved)


def test_a_damaged_run_does_not_block_others(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path)["run"])
    (run.path / "config.yaml").write_text("method: 5\n")
    (run.path / "metrics.jsonl").write_bytes(b"\xff\xfe")
    assert train_tiny(discs, tmp_path)["run"] != str(run.path)


def test_running_out_of_memory_is_exit_5(discs, tmp_path, monkeypatch):
    from balancegan.core.errors import OutOfMemoryError

    def too_much(method, x, c):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(SGBGAN, "d_loss", too_much)
    with pytest.raises(OutOfMemoryError) as caught:
        train_tiny(discs, tmp_path)
    assert caught.value.exit_code == 5 and "--batch-size" in caught.value.hint


def test_weights_that_are_not_finite_are_never_saved(discs, tmp_path, monkeypatch):
    """An infinite gradient spoils the weights although every loss is finite; a stop right then must not save them."""
    original, calls, hooks = SGBGAN.g_loss, [], []

    def g_loss(method, x, c):
        calls.append(1)
        for hook in hooks:
            hook.remove()
        if len(calls) == 3:
            hooks.append(next(method.g_parameters()).register_hook(lambda grad: grad * float("inf")))
        return original(method, x, c)

    monkeypatch.setattr(SGBGAN, "g_loss", g_loss)
    with pytest.raises(StoppedError):
        train_tiny(discs, tmp_path, StopAt(7, pretrain_steps=4), steps=30)
    (run,) = (RunDir(p) for p in tmp_path.iterdir() if p.name.startswith("00"))
    checkpoint = run.load_checkpoint()
    assert all(t.isfinite().all() for t in checkpoint.weights.values()) and checkpoint.state["rollbacks"] == 1


def test_a_stopped_run_has_its_loss_plot(discs, tmp_path):
    with pytest.raises(StoppedError):
        train_tiny(discs, tmp_path, StopAt(6, pretrain_steps=4))
    (run,) = (p for p in tmp_path.iterdir() if p.name.startswith("00"))
    assert (run / "losses.png").stat().st_size > 1000


def test_a_stop_in_the_last_step_is_no_stop(discs, tmp_path):
    assert train_tiny(discs, tmp_path, StopAt(10, pretrain_steps=4))["finished"]


def test_a_named_run_keeps_its_preset(discs, tmp_path):
    from balancegan.commands.train import TrainRequest, configure

    train_tiny(discs, tmp_path)
    with pytest.raises(UsageError, match="preset tiny"):
        configure(TrainRequest(data=discs, preset="paper", out=tmp_path, resume="0"))


def test_groups_that_leave_nothing_to_hold_out_are_said(discs, tmp_path):
    monitor = Quiet()
    train_tiny(discs, tmp_path, monitor, group_by="a|b|c")
    assert any("ant are held out" in note for note in monitor.notes)
