"""The benchmark scripts on tiny folders: one cell is made, kept, replaced and shown beside the published numbers."""

import importlib.util
import json
import sys
import types
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import write_images

from balancegan.compare import measure, run
from balancegan.errors import TrainingDivergedError
from balancegan.metrics.features import OwnExtractor

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = {"image_size": 16, "width": 16, "batch_size": 4, "pretrain_steps": 1, "steps": 2, "n_critic": 1}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not part of this copy")


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tables(monkeypatch):
    module = load("sgbgan_tables")
    monkeypatch.setattr(module, "PAPER", TINY)
    monkeypatch.setattr(module, "QUICK", TINY)
    monkeypatch.setattr(module, "IMAGES", 12)
    monkeypatch.setattr(module, "QUICK_IMAGES", 12)
    monkeypatch.setattr(measure.OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))
    monkeypatch.setattr(run, "write_comparison", lambda document, sheets, out: None)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 20, and 10 of each to compare with."""
    root = tmp_path_factory.mktemp("private") / "discs"
    write_images(root / "train", {"a": 20, "b": 20, "c": 20})
    write_images(root / "test", {"a": 10, "b": 10, "c": 10}, seed=1)
    return root


@pytest.fixture
def call(tables, folder, tmp_path):
    """The command with its folders, returning the exit status and the results file."""

    def called(*words, dataset="fashion-mnist"):
        where = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"), "--device", "cpu"]
        status = tables.main([dataset, str(folder), *where, *words])
        return status, tmp_path / "results" / f"sgbgan-{dataset}{'-quick' * ('--quick' in words)}.json"

    return called


ONE = ("--ir", "5", "--methods", "dcgan")


def test_a_cell_is_made_kept_and_shown(call, tables, folder, tmp_path, capsys):
    status, path = call(*ONE, "--commit", "abc123")
    (item,) = json.loads(path.read_text())
    assert status == 0 and (item["ir"], item["method"], item["seed"]) == (5.0, "dcgan", 0)
    assert item["train_counts"] == {"a": 20, "b": 4, "c": 4} and item["majority"] == "a" and item["n_fake"] == 12
    assert item["references"]["b"] == {"kind": "holdout", "used": 10, "unseen": 10}
    classes = item["fid"]["classes"]
    assert item["fid"]["majority"] == classes["a"]
    assert item["fid"]["minority"] == pytest.approx((classes["b"] + classes["c"]) / 2, rel=1e-4)
    assert item["settings"]["lr_d"] == 2e-4 and item["preset"] == "paper"
    assert item["commit"] == "abc123" and item["hardware"]["device"] == "cpu" and item["versions"]["torch"]
    text = path.read_text()
    assert not any(str(place) in text for place in (tmp_path, folder, folder.parent, Path.home(), Path.cwd()))
    shown = capsys.readouterr().out
    assert f"| 5 | DCGAN | {item['fid']['minority']:.2f}* (343.35) | {item['fid']['majority']:.2f}* (290.33) |" in shown
    assert "not comparable with published FIDs" in shown and tables.WARNING not in shown


def test_results_accumulate_and_the_same_cell_is_replaced(call, tables):
    _, path = call("--ir", "20,5", "--methods", "sgbgan,dcgan", "--commit", "first")
    before = json.loads(path.read_text())
    assert [(i["ir"], i["method"]) for i in before] == [(r, m) for r in (5, 20) for m in ("dcgan", "sgbgan")]
    tables.PAPER = {**TINY, "steps": 3}
    _, path = call(*ONE, "--commit", "second")
    after = json.loads(path.read_text())
    assert after[1:] == before[1:] and [i["commit"] for i in after] == ["second", "first", "first", "first"]
    assert after[0]["settings"]["steps"] == 3


def test_what_is_only_read_keeps_the_commit_that_made_it(call):
    _, path = call(*ONE, "--commit", "first")
    made = path.read_text()
    call(*ONE, "--commit", "second")
    assert path.read_text() == made
    path.unlink()
    call(*ONE, "--commit", "second")
    assert json.loads(path.read_text())[0]["commit"].startswith("unknown")


def test_quick_results_lie_apart_between_two_warnings(call, tables, capsys):
    _, path = call(*ONE, "--quick")
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == lines[-1] == tables.WARNING
    assert json.loads(path.read_text())[0]["quick"] and not path.with_name("sgbgan-fashion-mnist.json").exists()


def test_cells_keep_their_rate_and_stand_apart_from_the_published_types(call, capsys):
    _, path = call("--methods", "sgbgan", dataset="cells")
    (item,) = json.loads(path.read_text())
    assert item["ir"] is None and item["imbalance_rate"] == 1.0
    shown = capsys.readouterr().out
    assert "FID a (20)" in shown and "| SGBGAN | 103.80 | 122.38 | 205.68 | 137.96 | 0.738 |" in shown


def test_no_cell_begins_after_the_time_and_a_running_one_goes_on_later(call, tables, tmp_path, capsys):
    status, path = call(*ONE, "--max-minutes", "0")
    assert status == 0 and not path.exists() and not (tmp_path / "work").exists()
    clock = iter([0.0, 0.0])  # the time is over when the first step is made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "time", types.SimpleNamespace(monotonic=lambda: next(clock, 99.0)))
        status, path = call(*ONE, "--max-minutes", "1")
    assert status == 0 and not path.exists() and "at step 1 of 2" in capsys.readouterr().err
    status, path = call(*ONE)
    assert status == 0 and len(json.loads(path.read_text())) == 1
    (log,) = (tmp_path / "work").glob("fashion-mnist/runs/*/log.txt")
    assert "continuing" in log.read_text()


def test_a_training_that_fails_leaves_the_others(call, monkeypatch):
    launch = run.launch

    def launched(training, *rest):
        if training.method == "dcgan":
            raise TrainingDivergedError("it diverged")
        return launch(training, *rest)

    monkeypatch.setattr(run, "launch", launched)
    status, path = call("--ir", "5", "--methods", "dcgan,sgbgan")
    assert status == TrainingDivergedError.exit_code
    assert [item["method"] for item in json.loads(path.read_text())] == ["sgbgan"]


def kept(**changes):
    measures = {m: {"minority": 1.0, "majority": 2.0, "classes": {"a": 2.0}} for m in ("fid", "ssim")}
    head = {"dataset": "cifar-10", "quick": False, "ir": 100.0, "method": "sgbgan", "seed": 0}
    about = {"extractor": {"comparable": True}, "references": {"a": {"kind": "holdout", "used": 9, "unseen": 9}}}
    return {**head, **measures, **about, **changes}


def test_seeds_are_averaged_and_marks_say_what_does_not_compare(tables):
    second = kept(seed=1, fid={"minority": 3.0, "majority": 2.0, "classes": {}})
    assert tables.summary([kept(), second], "fid", "minority") == "2.00 ± 1.41"
    own = kept(seed=2, extractor={"comparable": False}, fid={"minority": 99.0, "majority": 0.0, "classes": {}})
    assert tables.summary([kept(), own], "fid", "minority") == "1.00"
    assert tables.summary([own], "fid", "minority") == "99.00*"
    few = kept(references={"a": {"kind": "holdout", "used": 5, "unseen": 9}})
    assert tables.summary([few], "fid", "majority") == "2.00†" and tables.summary([], "ssim", "minority") == "–"
    lines = tables.show("cifar-10", [kept()]).splitlines()
    assert "| 100 | SGBGAN | 1.00 (233.65) | 2.00 (226.01) | 1.00 (0.0694) | 2.00 (0.0767) |" in lines
    assert "| 50 | BAGAN-GP | – (244.63) | – (239.35) | – (0.0592) | – (0.0801) |" in lines


def test_results_of_another_machine_are_merged(tables, tmp_path, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    tables.merge(here / "sgbgan-cifar-10.json", [kept(seed=1, commit="old"), kept(commit="old")])
    tables.merge(there / "sgbgan-cifar-10.json", [kept(commit="new")])
    assert tables.main(["--merge", str(there), "--results", str(here)]) == 0
    merged = json.loads((here / "sgbgan-cifar-10.json").read_text())
    assert [(i["seed"], i["commit"]) for i in merged] == [(0, "new"), (1, "old")]
    assert "SGBGAN | 1.00 ± 0.00 (233.65)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("fashion-mnist",),
        ("cells", "FOLDER", "--ir", "5"),
        ("cifar-10", "FOLDER", "--ir", "7"),
        ("cifar-10", "FOLDER", "--methods", "vae"),
        ("cifar-10", "FOLDER/train"),
    ],
)
def test_what_is_not_in_the_tables_is_refused(tables, folder, words):
    with pytest.raises(SystemExit) as stopped:
        tables.main([word.replace("FOLDER", str(folder)) for word in words])
    assert stopped.value.code == 2


def test_every_method_passes_through_its_stages_on_the_gpu_script(tables, folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(sys.modules, "sgbgan_tables", tables)
    script = load("on_gpu")
    script.CUDA = torch.device("cpu")
    rows = script.methods(None, steps=1, **{k: TINY[k] for k in ("image_size", "width", "batch_size", "n_critic")})
    assert set(rows) == set(script.METHODS) and "pretrain" in rows["sgbgan"]["losses"]
    args = types.SimpleNamespace(data_tables=folder, out=tmp_path, work=None, minutes=5, weights=None, commit="abc")
    monkeypatch.setattr(tables, "RATES", (5, 100))
    result = script.tables(args)
    assert result["status"] == 0 and [c["method"] for c in result["cells"]] == ["bagan-gp", "sgbgan"]
