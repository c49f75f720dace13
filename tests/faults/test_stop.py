"""SIGINT, SIGTERM and SIGHUP in real processes: save once, say so in a line, and stop at once when asked again."""

import signal
from pathlib import Path

import pytest
from check import broken_run
from crash import eventually, serious
from helpers import write_images

from balancegan.runs.directory import RunDir

SETTINGS = ("width=16", "latent_dim=8")
SMALL = ["--preset", "tiny", "--image-size", "16", "--batch-size", "4", "--device", "cpu"]
SMALL += [part for setting in SETTINGS for part in ("--set", setting)]
TRAIN = [*SMALL, "--method", "dcgan", "--pretrain-steps", "0", "--set", "log_every=1"]
LONG = ["--steps", "100000", "--set", "save_every=100000", "--set", "sample_every=100000"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path / "discs", {"ant": 12, "bee": 8, "cat": 6})


def stopped(child, signum):
    """Whether a command ended as a signal should end it: exit code, one line that says so, no traceback."""
    status, output = child.wait(), child.output
    assert status == CODES[signum], output
    assert "Traceback" not in output and output.count("stopped ") == 1, output
    return True


def train(data, out, *more):
    return ["train", str(data), *TRAIN, "--out", str(out), *more]


def steps_are_made(child, folder):
    made = eventually(lambda: child.ended(0) or any(p.read_text() for p in folder.glob("runs/*/metrics.jsonl")))
    return made and not child.ended(0)


def steps(run):
    return [int(path.name[5:]) for path in run.checkpoint_dirs()]


@pytest.mark.parametrize("signum", CODES)
def test_a_signal_saves_once(zygote, data, tmp_path, signum):
    child = zygote.start("cli", arguments=train(data, tmp_path / "runs", *LONG))
    assert steps_are_made(child, tmp_path)
    child.send(signum)
    assert stopped(child, signum)
    (run,) = map(RunDir, tmp_path.glob("runs/0*"))
    reached = run.read_metrics()[-1]["step"]
    assert steps(run) == [reached, 0] and not serious(broken_run(tmp_path / "runs"))


def test_a_second_signal_stops_while_the_first_is_being_handled(zygote, data, tmp_path):
    command = train(data, tmp_path / "runs", *LONG)
    flag = tmp_path / "saving"
    child = zygote.start("cli", arguments=command, slow=("checkpoint", flag, 60.0))
    assert steps_are_made(child, tmp_path)
    child.send(signal.SIGTERM)
    assert eventually(flag.exists)
    child.send(signal.SIGINT)
    assert child.wait(10) == -signal.SIGINT
    (run,) = map(RunDir, tmp_path.glob("runs/0*"))
    assert steps(run) == [0] and not serious(broken_run(tmp_path / "runs"))
    assert zygote.start("cli", arguments=[*command, "--max-time", "0.01s"]).wait() == 0
    assert next(map(RunDir, tmp_path.glob("runs/0*"))).path == run.path and len(steps(run)) == 2


@pytest.fixture
def trained(zygote, data, tmp_path):
    flags = {"batch_size": 4, "steps": 2, "method": "dcgan"}
    return Path(zygote.run("train", data=data, out=tmp_path / "runs", **flags)["run"])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_augment_stops_and_goes_on(zygote, trained, tmp_path, signum):
    words = ["--fill", "generated", "--filter", "none", "--no-report"]
    command = ["augment", str(trained), *words, "--out", str(tmp_path / "out")]
    flag = tmp_path / "writing"
    child = zygote.start("cli", arguments=command, slow=("image", flag, 60.0))
    assert eventually(flag.exists)
    child.send(signum)
    assert stopped(child, signum)
    names = [path.name for path in (tmp_path / "out").rglob("*")]
    assert not [name for name in names if name.startswith(".tmp-") or name == ".balancegan.lock"]
    assert zygote.start("cli", arguments=command).wait() == 0
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 36


def test_compare_stops_and_goes_on(zygote, data, tmp_path):
    command = ["compare", str(data), *SMALL, "--methods", "dcgan", "--seeds", "0,", "--steps", "1", "--images", "4"]
    command += ["--out", str(tmp_path / "out")]
    flag = tmp_path / "measuring"
    child = zygote.start("cli", arguments=command, slow=("measure", flag, 60.0))
    assert eventually(flag.exists)
    child.send(signal.SIGTERM)
    assert stopped(child, signal.SIGTERM)
    assert zygote.start("cli", arguments=command).wait() == 0
    assert (tmp_path / "out" / "compare.json").is_file() and not list((tmp_path / "out").rglob(".tmp-*"))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_building_a_cache_stops_and_leaves_nothing(zygote, data, tmp_path, monkeypatch, signum):
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(tmp_path / "cache"))
    flag = tmp_path / "decoding"
    command = train(data, tmp_path / "runs", "--dry-run")
    child = zygote.start("cli", arguments=command, slow=("decode", flag, 0.5))
    assert eventually(flag.exists)
    child.send(signum)
    assert stopped(child, signum)
    assert not list((tmp_path / "cache" / "stores").iterdir())
    assert zygote.start("cli", arguments=command).wait() == 0


def test_a_signal_is_not_taken_for_a_damaged_cache(monkeypatch):
    """`except Exception` around a reader must not swallow the request to stop."""
    import os

    from balancegan.cli.registrar import signals_stop

    with pytest.raises(KeyboardInterrupt), signals_stop():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("swallowed")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
