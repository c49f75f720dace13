"""Several processes at once in one place: each gets its result or is refused, and nothing is corrupted."""

import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from check import broken_run, differences, state
from crash import eventually, serious
from helpers import write_images

from balancegan.runs.directory import RunDir

FLAGS = {"batch_size": 4, "pretrain_steps": 1, "steps": 3, "save_every": 1, "keep_checkpoints": 1, "log_every": 1}


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path / "discs", {"ant": 12, "bee": 8, "cat": 6})


def of_run(path):
    return state(Path(path))


def test_the_same_training_twice_at_once(zygote, data, tmp_path):
    """The second is refused, or comes so early that it gets a run of its own, or so late that nothing is left to do."""
    expected = of_run(zygote.run("train", data=data, out=tmp_path / "alone", **FLAGS)["run"])
    out = tmp_path / "runs"
    children = []
    for delay in (0, 0, 0.1, 0.2):
        time.sleep(delay)
        children.append(zygote.start("train", data=data, out=out, **FLAGS))
    refused = [child for child in children if child.wait()]
    assert len(refused) < len(children)
    assert all("is being trained by another process" in child.output for child in refused)
    runs = list(out.glob("0*"))
    assert not serious(broken_run(out)) and all(not differences(of_run(run), expected) for run in runs)


def test_different_trainings_in_one_folder(zygote, data, tmp_path):
    expected = {
        seed: of_run(zygote.run("train", data=data, out=tmp_path / f"alone{seed}", seed=seed, **FLAGS)["run"])
        for seed in (0, 1)
    }
    start = partial(zygote.start, "train", data=data, out=tmp_path / "runs", **FLAGS)
    runs = {seed: child.document()["run"] for seed, child in [(seed, start(seed=seed)) for seed in (0, 1)]}
    assert len(set(runs.values())) == 2
    assert all(not differences(of_run(runs[seed]), expected[seed]) for seed in runs)


def test_many_runs_are_created_at_once(zygote, tmp_path):
    children = [zygote.start("create", out=tmp_path / "runs", times=8) for _ in range(4)]
    names = [name for child in children for name in child.document()["names"]]
    assert sorted(names) == [f"{n:05d}-m-d" for n in range(32)]


@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_several_build_one_cache(zygote, data, tmp_path, monkeypatch, before):
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(tmp_path / "cache"))
    expected = zygote.run("store", data=data, workers=1)
    path = Path(expected["path"])
    assert list(path.parent.iterdir()) == [path]
    for _ in range(5):
        if before == "damaged":
            (path / "meta.json").write_text("{")
        else:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        children = [zygote.start("store", data=data, workers=1, chunk=2) for _ in range(4)]
        assert [child.document() for child in children] == [expected] * 4
        assert list(path.parent.iterdir()) == [path]


def test_a_store_that_vanishes_while_it_is_opened_is_built_again(data, monkeypatch):
    """Another process moved it away, thinking it damaged, just after this one had read its tables."""
    from balancegan.data import store
    from balancegan.data.decode import DecodeSettings
    from balancegan.data.scan import scan

    first = store.open_store(scan(data), DecodeSettings(image_size=16))
    expected, read = np.array(first.images), store.read_tables

    def overtaken(where, folder):
        built = read(where, folder)
        monkeypatch.setattr(store, "read_tables", read)
        (where / "images.u8").unlink()
        return built

    monkeypatch.setattr(store, "read_tables", overtaken)
    again = store.open_store(scan(data), DecodeSettings(image_size=16))
    np.testing.assert_array_equal(again.images, expected)


@pytest.fixture
def trained(zygote, data, tmp_path):
    return Path(zygote.run("train", data=data, out=tmp_path / "runs", **FLAGS)["run"])


def test_one_process_at_a_time_writes_a_balanced_folder(zygote, trained, tmp_path):
    """The same command and another one are refused while the first is at it; a killed one holds nothing."""
    zygote.run("augment", run=trained, out=tmp_path / "alone")
    expected, out, flag = state(tmp_path / "alone"), tmp_path / "out", tmp_path / "writing"
    first = zygote.start("augment", run=trained, out=out, slow=("image", flag, 60.0))
    assert eventually(flag.exists)
    for more in ({}, {"seed": 1}):
        other = zygote.start("augment", run=trained, out=out, **more)
        assert other.wait() == 1
        assert ("another process is writing" if not more else "another command") in other.output
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and (out / ".balancegan.lock").exists()
    zygote.run("augment", run=trained, out=out)
    assert not differences(state(out), expected)


def test_augments_that_begin_at_once(zygote, trained, tmp_path):
    zygote.run("augment", run=trained, out=tmp_path / "alone")
    expected = state(tmp_path / "alone")
    for attempt in range(3):
        out = tmp_path / f"out{attempt}"
        children = [zygote.start("augment", run=trained, out=out) for _ in range(3)]
        refused = [child for child in children if child.wait()]
        assert len(refused) < 3 and all("another process is writing" in child.output for child in refused)
        assert not differences(state(out), expected)


def test_a_checkpoint_that_is_pruned_while_it_is_read(trained, monkeypatch):
    """With one checkpoint kept, the one that was seen is gone when it is opened, and another one is there."""
    run = RunDir(trained)
    listing, newest = RunDir.checkpoint_dirs, run.checkpoint_dirs()[0]

    def before(self):
        monkeypatch.setattr(RunDir, "checkpoint_dirs", listing)
        return [newest.with_name("step-000001")]

    monkeypatch.setattr(RunDir, "checkpoint_dirs", before)
    assert run.load_checkpoint().path == newest


def test_a_run_is_read_while_it_trains_and_prunes(zygote, data, tmp_path):
    out = tmp_path / "runs"
    training = zygote.start("train", data=data, out=out, **{**FLAGS, "steps": 60, "method": "dcgan"})
    assert eventually(lambda: bool(list(out.glob("*/checkpoints/step-000002"))))
    reader = zygote.start("reading", run=next(out.glob("0*")), seconds=2.0)
    steps = reader.document()["steps"]
    assert steps == sorted(steps) and len(set(steps)) > 3
    assert training.document()["finished"]
