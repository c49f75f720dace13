"""Names, metrics and checkpoints of runs."""

import threading

import pytest
import torch

from balancegan.core.errors import CheckpointError, UsageError
from balancegan.runs.checkpoint import read_checkpoint
from balancegan.runs.directory import RunDir, find_run, list_runs


def save(run, step, keep=3):
    return run.save_checkpoint(step, {"G.w": torch.full((4,), float(step))}, {"step": step}, keep)


def test_runs_started_at_once_get_different_numbers(tmp_path):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(RunDir.create(tmp_path, "sgbgan", "a b/c").name)) for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(made) == [f"{i:05d}-sgbgan-a-b-c" for i in range(8)]


def test_odd_data_names_make_safe_run_names(tmp_path):
    assert RunDir.create(tmp_path, "m", "../\n").name == "00000-m-data"
    assert RunDir.create(tmp_path, "m", "Zellen Größe").name == "00001-m-Zellen-Gr-e"


def test_checkpoints_round_trip_and_only_the_newest_are_kept(tmp_path):
    run = RunDir.create(tmp_path, "m", "d")
    for step in (1, 2, 3, 4):
        save(run, step)
    assert [p.name for p in run.checkpoint_dirs()] == ["step-000004", "step-000003", "step-000002"]
    loaded = run.load_checkpoint()
    assert loaded.step == 4 and loaded.state == {"step": 4} and loaded.weights["G.w"].tolist() == [4.0] * 4
    assert not list((run.path / "checkpoints").glob(".partial*"))


def test_a_checkpoint_may_be_written_twice(tmp_path):
    run = RunDir.create(tmp_path, "m", "d")
    save(run, 1)
    save(run, 1)
    assert run.load_checkpoint().step == 1


def test_a_partial_checkpoint_is_invisible(tmp_path):
    run = RunDir.create(tmp_path, "m", "d")
    save(run, 1)
    (run.path / "checkpoints" / ".partial-1").mkdir()
    (run.path / "checkpoints" / "step-000002").mkdir()
    warnings = []
    assert run.load_checkpoint(warn=warnings.append).step == 1 and len(warnings) == 1


def test_a_malicious_pickle_is_not_run(tmp_path):
    import hashlib
    import json
    import pickle

    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return marker.touch, ()

    run = RunDir.create(tmp_path / "runs", "m", "d")
    path = save(run, 1)
    (path / "state.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest["files"]["state.pt"] = hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not marker.exists()


def test_another_format_version_is_refused_with_advice(tmp_path):
    run = RunDir.create(tmp_path, "m", "d")
    path = save(run, 1)
    text = (path / "MANIFEST.json").read_text().replace('"schema_version": 1', '"schema_version": 99')
    (path / "MANIFEST.json").write_text(text)
    with pytest.raises(CheckpointError, match="99"):
        read_checkpoint(path)


def test_torn_metrics_lines_are_passed_over(tmp_path):
    run = RunDir.create(tmp_path, "m", "d")
    run.append_metrics({"step": 1})
    run.append_metrics({"step": 2})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert [r["step"] for r in run.read_metrics()] == [1, 2]
    run.truncate_metrics(1)
    assert [r["step"] for r in run.read_metrics()] == [1]


def test_find_run_by_name_number_path_and_newest(tmp_path):
    runs = [RunDir.create(tmp_path, "m", "d") for _ in range(3)]
    for run in runs:
        (run.path / "config.yaml").write_text("method: m\n")
    save(runs[1], 5)
    assert find_run(None, tmp_path).name == runs[1].name  # the newest with a checkpoint
    for way in ("2", "00002", runs[2].name, str(runs[2].path)):
        assert find_run(way, tmp_path).name == runs[2].name
    with pytest.raises(UsageError):
        find_run("nope", tmp_path)
    with pytest.raises(UsageError, match="no trained run"):
        find_run(None, tmp_path / "empty")
    assert [r.name for r in list_runs(tmp_path)] == [r.name for r in reversed(runs)]


def test_a_damaged_checkpoint_that_was_asked_for_is_not_replaced(tmp_path):
    run = RunDir.create(tmp_path, "sgbgan", "x")
    for step in (1, 2):
        run.save_checkpoint(step, {"w": torch.ones(2)}, {"step": step}, keep=5)
    (run.checkpoint_dirs()[0] / "state.pt").write_bytes(b"no")
    said = []
    with pytest.raises(CheckpointError, match="step-000002 is damaged") as caught:
        run.load_checkpoint(said.append, "2")
    assert "one of 1" in caught.value.hint and not said
    assert run.load_checkpoint(said.append).step == 1 and "falling back" in said[0]
