"""The benchmark scripts on tiny folders: cells are made, kept, replaced and shown beside the published numbers."""

import importlib.util
import json
import re
import sys
import types
import typing
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_images
from PIL import Image

from balancegan.commands import train as launch_module
from balancegan.commands.compare import measure, run
from balancegan.core.errors import TrainingDivergedError, WeightsMissingError
from balancegan.methods import load_method
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.fid import frechet_distance
from balancegan.sampling.samplers import Patience, Sampler
from balancegan.training.monitor import SilentMonitor

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = {"image_size": 16, "width": 16, "batch_size": 4, "pretrain_steps": 1, "steps": 2, "n_critic": 1}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not part of this copy")


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scripts(monkeypatch):
    """The scripts find what they share."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("common", "edm_on_gpu", "paper_tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import common

    return common


@pytest.fixture
def tables(scripts, monkeypatch):
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


def test_no_cell_begins_after_the_time_and_a_running_one_goes_on_later(call, tables, scripts, tmp_path, capsys):
    status, path = call(*ONE, "--max-minutes", "0")
    assert status == 0 and not path.exists() and not (tmp_path / "work").exists()
    clock = iter([0.0, 0.0])  # the time is over when the first step is made
    with pytest.MonkeyPatch.context() as patch:
        for module in (tables, scripts):
            patch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: next(clock, 99.0)))
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


# Damage GAN -----------------------------------------------------------------------------------------------------------

SMALL = {"image_size": 16, "width": 4, "d_width": 4, "latent_dim": 4, "batch_size": 4, "steps": 2, "warmup_steps": 0}
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = {
    "full": dict.fromkeys(TEN, 9),
    "partial": dict.fromkeys(TEN, 3),
    "imbalanced": dict(zip(TEN, (3, 4, 2, 3, 5, 2, 9, 4, 7, 2), strict=True)),
}


class Inception:
    """Stands in for it: twelve features, and four logits of them."""

    name, comparable, has_head = "inception", True, True

    def __init__(self, weights, **options):
        self.weights = weights

    def __call__(self, images):
        return images.reshape(len(images), -1)[:, ::64].astype(np.float32)

    def classify(self, features):
        return features[:, :4] / 50


@pytest.fixture
def damage(scripts, monkeypatch):
    module = load("damage_gan_tables")
    monkeypatch.setattr(module, "COUNTS", COUNTS)
    monkeypatch.setattr(module, "QUICK", SMALL)
    monkeypatch.setattr(module, "QUICK_SHARE", 1)
    monkeypatch.setattr(module, "QUICK_TEST", 3)
    monkeypatch.setattr(module, "SUBSET", 20)
    monkeypatch.setattr(module, "DRAWS", 3)
    monkeypatch.setattr(module.OwnExtractor, "fit", partial(OwnExtractor.fit, steps=3))
    monkeypatch.setattr(module, "InceptionExtractor", Inception)
    monkeypatch.setattr(Sampler, "patience", Patience(2, 0.005, 1))
    for method in module.METHODS:
        kind = load_method(method)
        monkeypatch.setattr(kind, "presets", {**kind.presets, "paper": {**kind.presets["paper"], **SMALL}})
    return module


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Ten classes of nine, and three of each to compare with."""
    root = tmp_path_factory.mktemp("private") / "cifar"
    write_images(root / "train", COUNTS["full"])
    write_images(root / "test", dict.fromkeys(TEN, 3), seed=1)
    return root


@pytest.fixture
def make(damage, cifar, tmp_path):
    """The command with its folders, returning the exit status and the results."""
    (tmp_path / "weights.pth").write_bytes(b"some weights")

    def called(*words):
        where = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"), "--device", "cpu"]
        weights = [] if "--quick" in words else ["--weights", str(tmp_path / "weights.pth")]
        status = damage.main([str(cifar), *where, *weights, "--images", "64", "--class-images", "20", *words])
        path = tmp_path / "results" / f"damage-gan-cifar-10{'-quick' * ('--quick' in words)}.json"
        return status, damage.common.read(path)

    return called


CELL = ("--sets", "imbalanced", "--methods", "damage-gan")


def test_all_cells_of_damage_gan_are_made_and_shown(make, tmp_path, cifar, capsys):
    status, found = make("--quick", "--sets", "imbalanced")
    out = capsys.readouterr().out.strip().splitlines()
    assert status == 0 and out[0] == out[-1] and out[0].startswith("NOT COMPARABLE")
    assert [item["method"] for item in found] == ["sndcgan", "contrad", "damage-gan"]
    item = found[-1]
    assert item["set"] == "imbalanced" and item["train_counts"] == COUNTS["imbalanced"]
    assert {name: fid["n_real"] for name, fid in item["fid"].items()} == {"full": 90, "test": 30, "training": 41}
    assert item["n_fake"] == 64 and item["inception_score"]["mean"] is None and item["inception_score"]["reason"]
    assert ["classes" in item for item in found] == [False, True, True]
    ratios = item["distribution"]["ratios"]
    assert sum(ratios[name] * n / 41 for name, n in COUNTS["imbalanced"].items()) == pytest.approx(1, rel=1e-4)
    text = json.dumps(found)
    assert not any(str(place) in text for place in (tmp_path, cifar, Path.home(), Path.cwd()))
    assert any(f"| imbalanced (41) | Damage GAN | {item['fid']['full']['fid']:.2f} (28.45) |" in line for line in out)
    assert "| partial (30) | ContraD | – (16.72) | – | – | – (7.92) | – (0.21) |" in out


def test_a_measured_cell_is_only_read(make, damage, monkeypatch, tmp_path):
    status, found = make(*CELL, "--commit", "first")
    (item,) = found
    assert status == 0 and item["commit"] == "first" and item["steps"] == 2 and item["extractor"]["comparable"]
    assert item["inception_score"]["mean"] > 1 and item["inception_score"]["splits"] == 10
    monkeypatch.setattr(damage, "launch", None)
    monkeypatch.setattr(Inception, "__call__", None)
    assert make(*CELL, "--commit", "second") == (0, found)
    (tmp_path / "results" / "damage-gan-cifar-10.json").unlink()
    assert make(*CELL, "--commit", "second", "--max-time", "0s") == (0, found)


def test_other_steps_and_other_weights_make_a_cell_anew(make, damage, tmp_path, capsys):
    make(*CELL)
    status, found = make(*CELL, "--steps", "3")
    assert status == 0 and [item["steps"] for item in found] == [3, 2]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("###")][-2:] == [
        f"### After {n} steps: ours (published in arXiv 2312.04862, theirs after 200,000)" for n in (3, 2)
    ]
    (tmp_path / "weights.pth").write_bytes(b"other weights")  # two steps cannot be had of a run that has made three
    status, again = make(*CELL)
    assert status == 2 and again == found and "give --steps 3" in capsys.readouterr().err
    assert make(*CELL, "--steps", "3", "--commit", "new")[1][0]["commit"] == "new"
    assert len(list((tmp_path / "work" / "runs").glob("0*"))) == 1


def test_slices_of_a_training_add_up(make, damage, tmp_path, capsys):
    assert make(*CELL, "--max-time", "0s") == (0, [])
    clock = iter([0.0])  # next to nothing is left when the training begins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "time", types.SimpleNamespace(monotonic=lambda: next(clock, 4.999999)))
        assert make(*CELL, "--max-time", "5s") == (0, [])
    assert "the time is over after 1 of 2 steps" in capsys.readouterr().err
    status, found = make(*CELL)
    assert status == 0 and len(found) == 1
    (log,) = (tmp_path / "work" / "runs").glob("*/log.txt")
    assert "continuing" in log.read_text()


def test_without_weights_nothing_is_trained(damage, cifar, tmp_path, capsys):
    words = [str(cifar), "--work", str(tmp_path / "work"), "--results", str(tmp_path), "--device", "cpu"]
    assert damage.main(words) == WeightsMissingError.exit_code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not (tmp_path / "work" / "runs").exists()


def test_a_training_of_damage_gan_that_fails_leaves_the_others(make, damage, monkeypatch):
    launch = damage.launch

    def launched(training, *rest):
        if training.method == "damage-gan":
            raise TrainingDivergedError("it diverged")
        return launch(training, *rest)

    monkeypatch.setattr(damage, "launch", launched)
    status, found = make("--sets", "imbalanced", "--methods", "damage-gan,sndcgan")
    assert status == TrainingDivergedError.exit_code and [item["method"] for item in found] == ["sndcgan"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("FOLDER", "--sets", "half"),
        ("FOLDER", "--methods", "sgbgan"),
        ("FOLDER", "--max-time", "soon"),
        ("FOLDER", "--steps", "0"),
        ("FOLDER", "--images", "5"),
        ("FOLDER/train",),
    ],
)
def test_what_is_not_in_damage_gans_tables_is_refused(damage, cifar, words):
    with pytest.raises(SystemExit) as stopped:
        damage.main([word.replace("FOLDER", str(cifar)) for word in words])
    assert stopped.value.code == 2


def test_another_data_set_is_refused(damage, folder, tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(b"some weights")
    words = ["--work", str(tmp_path), "--device", "cpu", "--weights", str(tmp_path / "weights.pth")]
    assert damage.main([str(folder), *words]) == 2
    assert "is not CIFAR-10" in capsys.readouterr().err


def test_features_of_the_real_images_are_kept_and_of_a_set_picked_out(make, damage, cifar, tmp_path):
    make(*CELL)
    kept = sorted((tmp_path / "work" / "features").glob("*.npy"))
    assert [path.name.split("-")[0] for path in kept] == ["test", "train"]
    args = damage.parse([str(cifar), "--work", str(tmp_path / "work"), "--weights", str(tmp_path / "weights.pth")])
    args.device = "cpu"
    worker = damage.Worker(args, 0.0)
    place = damage.folder_of("imbalanced", args, worker.full, worker.watch)
    _, data = worker._open(damage.Cell("imbalanced", "damage-gan", 0), place)
    own = Inception(None)(data.store.images[data.train_rows])
    np.testing.assert_array_equal(worker.ruler._features_of("training", data), own)
    rows = worker.full.train_rows
    images = worker.full.store.images[rows[np.isin(worker.full.labels[rows], [6, 8])]]
    np.testing.assert_array_equal(worker.ruler._features_of("major", None), Inception(None)(images))


@pytest.mark.parametrize("n", [5, 9, 200])
def test_condensed_features_have_the_same_distance(scripts, n):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(n, 8)) @ rng.normal(size=(8, 8)) + 3, rng.normal(size=(50, 8))
    few = scripts.condensed(real)
    assert len(few) == min(n, 9)
    expected = frechet_distance(feats_real=real, feats_fake=fake)
    assert frechet_distance(feats_real=few, feats_fake=fake) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(np.cov(few, rowvar=False), np.cov(real, rowvar=False), atol=1e-12)


class FixedRuler:
    """Distances from a table instead of features: {(images, reference): FID}."""

    FIDS: typing.ClassVar = {
        (320, "training"): 30.0,
        (20, "training"): 240.0,
        (60, "major"): 45.0,
        (20, "major"): 200.0,
    }

    def features(self, images):
        return images

    def reference(self, name):
        return 10_000, name

    def fid(self, features, reference):
        return {"fid": self.FIDS[len(features), reference[1]], "n_real": reference[0]}


def test_scaled_distances_of_groups_of_classes(damage, monkeypatch):
    made = {"frog": 40, "ship": 30, "dog": 50, "truck": 9}
    monkeypatch.setattr(damage, "first_images", lambda samplers, label, n: ([], np.zeros((made[TEN[label]], 1))))
    data = types.SimpleNamespace(class_names=TEN)
    found = damage.by_group(FixedRuler(), None, data, np.zeros((320, 1)), (11_165, "training"), 40)
    assert found["scale"]["factor"] == 0.125  # 30 / 240
    major, minor = found["major"], found["minor"]
    assert major["accepted"] == {"frog": 40, "ship": 30} and (major["n_fake"], major["n_real"]) == (60, 10_000)
    assert major["fid"] == 45.0 and major["scaled"] == 25.0 and major["reason"] is None  # 200 / 8
    assert minor["n_fake"] == 18 and minor["fid"] is None and minor["scaled"] is None
    assert "9 images of truck were found" in minor["reason"]


def of_damage(name="imbalanced", method="damage-gan", fid=20.0, **changes):
    head = {"set": name, "quick": False, "method": method, "seed": 0, "steps": 200_000, "n_fake": 10_000}
    fids = {"full": {"fid": fid, "n_real": 50_000}, "test": {"fid": fid + 1, "n_real": 10_000}}
    values = {
        "fid": {**fids, "training": {"fid": fid - 1, "n_real": 11_165}},
        "inception_score": {"mean": 8.0, "std": 0.2, "reason": None},
        "distribution": {"ratios": dict.fromkeys(TEN, 1.1), "mean": 1.1, "mean_deviation": 0.1},
        "train_counts": {"frog": 11_165},
        "extractor": {"comparable": True},
    }
    return {**head, **values, **changes}


def test_damage_gans_tables_stand_beside_the_published(damage):
    classes = {
        "scale": {"factor": 0.0625},
        "major": {"fid": 40.0, "scaled": 31.0, "n_fake": 2000, "n_real": 10_000, "reason": None},
        "minor": {"fid": None, "scaled": None, "n_fake": 80, "n_real": 10_000, "reason": "too few"},
    }
    entries = [of_damage("full", fid=10.0), of_damage(classes=classes), of_damage(seed=1, fid=22.0)]
    lines = damage.show(entries).splitlines()
    assert lines[0] == "### After 200,000 steps: ours (published in arXiv 2312.04862)"
    row = "| imbalanced (11,165) | Damage GAN | 21.00 ± 1.41 (28.45) | 22.00 ± 1.41 | 20.00 ± 1.41 |"
    assert row + " 8.00 ± 0.00 (7.95) | 0.20 ± 0.00 (0.15) |" in lines
    assert any("10,000 generated images" in line for line in lines)
    assert any("the full training set (50,000) | FID to the test images (10,000)" in line for line in lines)
    assert "| Damage GAN | +110% (+158%) | +11.00 (+17.41) |" in lines
    assert "| SNDCGAN | – (+117%) | – (+29.68) |" in lines
    published = next(line for line in lines if line.startswith("| partial (30) | ContraD | – (0.96)"))
    assert published.endswith("| – (1.02) | – (1.00) | – (0.12) |")
    ours = "| Damage GAN | 21.00 ± 1.41 (28.45) | 31.00 (31.15) | – (31.15) | 40.00 (2,000 / 10,000) | – |"
    assert f"{ours} 0.0625 (about 1/16) |" in lines and "Damage GAN, minor: too few." in lines


def test_tables_show_the_published_numbers_before_there_is_any_result(damage, tmp_path, capsys):
    assert damage.main(["--print", "--results", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| full (90) | SNDCGAN | – (25.47) | – | – | – (7.40) | – (0.19) |" in shown
    assert damage.worsened(10.0, 25.0) == ("+150%", "+15.00") and damage.worsened(10.0, 9.999) == ("+0%", "+0.00")


def test_damage_gans_results_of_another_machine_are_merged(damage, tmp_path, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    name = "damage-gan-cifar-10.json"
    damage.merge(here / name, [of_damage(commit="old"), of_damage("full", commit="old")])
    damage.merge(there / name, [of_damage(commit="new"), of_damage(steps=1000, commit="new")])
    assert damage.main(["--merge", str(there), "--results", str(here)]) == 0
    merged = [(i["steps"], i["set"], i["commit"]) for i in damage.common.read(here / name)]
    assert merged == [(200_000, "full", "old"), (200_000, "imbalanced", "new"), (1000, "imbalanced", "new")]
    assert "### After 1,000 steps" in capsys.readouterr().out and not (here / name.replace("10", "10-quick")).exists()


def test_running_time_prints_the_ratio(scripts, capsys):
    times = load("running_time")
    words = (
        "--preset tiny --device cpu --image-size 16 --batch-size 4 --rounds 2 --steps 1 --methods damage-gan,contrad"
    )
    assert times.main(words.split()) == 0
    out = capsys.readouterr().out
    last = out.strip().splitlines()[-1]
    assert re.search(r"^Damage GAN / ContraD: \d+\.\d\d a step, \d+\.\d\d with renewals every 11,165 images", last), out
    assert "| ContraD | 4 | 16 |" in out
    with pytest.raises(SystemExit):
        times.main(["--methods", "contrad"])


def test_running_times_are_medians_over_rounds(scripts, monkeypatch):
    times = load("running_time")
    monkeypatch.setattr(times, "build", lambda *args, **flags: FixedMethod())
    monkeypatch.setattr(times, "random_images", lambda *args: None)
    monkeypatch.setattr(times, "Updates", lambda *args, amp: types.SimpleNamespace(step=0, alone={"d": 1, "g": 2}.get))
    warm_up = [1.0] * 8
    a, b = ([[3.0, 2.0, 1.0, 8.0], [30.0, 2.0, 2.0, 8.0], [3.2, 2.0, 1.0, 8.0]], [[2.0, 1.0, 1.0, 0.0]] * 3)
    calls = iter([*warm_up, *(value for pair in zip(a, b, strict=True) for one in pair for value in one)])
    monkeypatch.setattr(times, "seconds_of", lambda *args: next(calls))
    found = times.measure(["damage-gan", "contrad"], "paper", torch.device("cpu"), rounds=3, epoch=100)
    assert found["ratio"] == {"median": 1.6, "range": [1.5, 15.0]}
    assert found["ratio_with_epoch"]["median"] == 2.0  # (3.2 + 8 * 10 / 100) / 2
    assert found["methods"]["damage-gan"]["step_ms"] == 3200 and found["methods"]["damage-gan"]["d_share"] == 0.667
    assert "published: 2" in times.show(found)


class FixedMethod:
    cfg = types.SimpleNamespace(batch_size=10, n_critic=1, image_size=32)

    schedule = types.SimpleNamespace(last=types.SimpleNamespace(begin=lambda batches: None))

    def on_epoch(self):
        pass


# All of it on a GPU ---------------------------------------------------------------------------------------------------


def test_every_method_passes_through_its_stages_on_the_gpu_script(tables, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sgbgan_tables", tables)
    script = load("on_gpu")
    script.CUDA = torch.device("cpu")
    rows = script.methods(None, steps=1, **{k: TINY[k] for k in ("image_size", "width", "batch_size", "n_critic")})
    assert set(rows) == set(script.METHODS) and "pretrain" in rows["sgbgan"]["losses"]
    args = types.SimpleNamespace(data_tables=folder, out=tmp_path, work=None, minutes=5.0, weights=None, commit="abc")
    monkeypatch.setattr(tables, "RATES", (5, 100))
    result = script.tables(args)
    assert result["status"] == 0 and [c["method"] for c in result["cells"]] == ["bagan-gp", "sgbgan"]


def test_damage_gans_slices_of_the_gpu_script(damage, cifar, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "damage_gan_tables", damage)
    monkeypatch.setattr(damage, "IMAGES", 64)
    script = load("on_gpu")
    script.CUDA = torch.device("cpu")
    (tmp_path / "weights.pth").write_bytes(b"some weights")
    args = types.SimpleNamespace(data_cifar=cifar, out=tmp_path, work=None, minutes=5.0, commit="abc", steps=1)
    args.weights = tmp_path / "weights.pth"
    result = script.damage(args)
    assert result["status"] == 0 and [(c["method"], c["steps"]) for c in result["cells"]] == [
        ("contrad", 1),
        ("damage-gan", 1),
    ]
    small = {"image_size": 16, "batch_size": 4, "width": 4, "d_width": 4}
    found = script.running_time(args, preset="tiny", rounds=1, steps=1, **small)
    assert found["ratio"]["median"] > 0 and len(found["methods"]) == 4
    args.data_cifar = None
    assert "skipped" in script.damage(args)


def test_a_step_of_the_gpu_script_comes_to_the_same_in_every_way(scripts, monkeypatch):
    script = load("on_gpu")
    monkeypatch.setattr(script, "CUDA", torch.device("cpu"))
    monkeypatch.setattr(script, "build", partial(script.build, image_size=16, batch_size=4))
    monkeypatch.setattr(script.floors, "matrix_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(script.floors, "copy_rate", lambda device: 1e9)
    monkeypatch.setitem(script.WAYS, "graph", lambda updates: updates.step)
    result = script.step(None, "tiny", methods=("damage-gan",), ways=("eager", "graph"), times=1)
    rows = result["damage-gan"]
    assert rows["graph"]["weights_relative_error"] == rows["eager"]["weights_relative_error"] == 0
    assert rows["eager"]["gflop_per_step"] > 0 and rows["eager"]["images_per_second"] > 0


def test_the_plain_loop_of_the_gpu_script(scripts, monkeypatch):
    script = load("on_gpu")
    monkeypatch.setattr(script, "CUDA", torch.device("cpu"))
    monkeypatch.setattr(script, "METHODS", ["dcgan"])
    monkeypatch.setattr("training_step.matrix_rate", lambda device, dtype: 1e9)
    found = script.plain(None, "tiny", rounds=1, steps=1, image_size=16, width=16, batch_size=4)
    assert found["methods"]["dcgan"]["ratio"] > 0 and found["methods"]["dcgan"]["floor_ms"] > 0


def test_the_memory_slice_of_the_gpu_script(scripts, tmp_path, monkeypatch):
    """With a CPU and a shim in place of a device that runs out."""
    from contextlib import contextmanager

    from balancegan.methods.base import Method
    from balancegan.methods.sgbgan import SGBGAN

    script = load("on_gpu")
    monkeypatch.setattr(script, "CUDA", torch.device("cpu"))
    monkeypatch.setattr(script, "build", partial(script.build, width=16, image_size=16, batch_size=16))
    d_loss, sample = SGBGAN.d_loss, Method.sample

    @contextmanager
    def memory_limit(size):
        def limited(original):
            def call(method, x, *more):
                if len(x) * 1000 > size:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return original(method, x, *more)

            return call

        with monkeypatch.context() as inside:
            inside.setattr(SGBGAN, "d_loss", limited(d_loss))
            inside.setattr(Method, "sample", limited(sample))
            yield

    monkeypatch.setattr(script, "memory_limit", memory_limit)
    monkeypatch.setattr(script, "memory", partial(script.memory, preset="tiny", peak=lambda: 16_000))
    result = script.memory(types.SimpleNamespace(out=tmp_path, data=None))
    assert (result["half"]["images_at_once"], result["eighth"]["images_at_once"]) == (8, 2)
    assert result["trained_steps"] == 5 and result["sample_difference_levels"] <= 1


def test_the_diffusion_slices_of_the_gpu_script_in_miniature(scripts, cifar, tmp_path, monkeypatch, capsys):
    script = load("on_gpu")
    monkeypatch.setattr(script.floors, "matrix_rate", lambda device, dtype: 1e9)
    words = ["--out", str(tmp_path), "--device", "cpu", "--miniature", "--commit", "abc", "--data-cifar", str(cifar)]
    assert script.main([*words, "--only", "edm"]) == 0
    assert len(list((tmp_path / "edm-work" / "imbalanced" / "train" / "truck").iterdir())) == 1
    monkeypatch.setattr(script.edm_on_gpu, "REST", -1000)  # no time for a second classifier
    assert script.main([*words, "--only", "edm-cells"]) == 0
    assert "time is over after 1 classifiers" in capsys.readouterr().out
    for name, classes, arms in (("edm", TEN, 4), ("edm-cells", ("four", "six", "three", "zero"), 1)):
        result = json.loads((tmp_path / f"{name}.json").read_text())["result"]
        assert result["step, eager"]["share_of_matrix_rate"] > 0 and "skipped" in result["step, graph"]
        assert result["train"]["finished"] and result["generated"]["of_class"] == dict.fromkeys(classes, 12)
        found = [row for row in result.values() if "balanced_accuracy" in row]
        assert len(found) == arms and all(len(row["recall"]) == len(classes) for row in found)
        for kind in ("generated", "training"):
            assert set(result[f"{kind} against test images"]["kid"]) == set(classes)
        assert result["generated against test images"]["mean_kid"] is not None
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as made:
            assert len(made.namelist()) == 12 * len(classes)
            assert Image.open(made.open(f"{classes[0]}/0000.jpg")).size == (16, 16)
        assert (tmp_path / f"{name}.png").is_file()


def test_a_slice_of_the_gpu_script_that_fails_keeps_what_it_had(scripts, tmp_path, monkeypatch):
    script = load("on_gpu")

    def fails(args):
        args.keep({"first": args.minutes})
        raise RuntimeError("no luck")

    monkeypatch.setitem(script.SLICES, "edm", fails)
    assert script.main(["--out", str(tmp_path), "--device", "cpu", "--commit", "abc", "--only", "edm"]) == 1
    record = json.loads((tmp_path / "edm.json").read_text())
    assert record["result"] == {"first": 2.5} and "no luck" in record["failed"]


# Start-up and sampling ------------------------------------------------------------------------------------------------


def test_the_floor_of_inspect_decodes_every_file(scripts, folder):
    start_up = load("start_up")
    paths = start_up.files_below(folder)
    assert len(start_up.decode_and_hash(paths)) == len(paths) and all(Path(path).is_file() for path in paths)


def test_ratios_of_start_up_are_taken_within_rounds(scripts, capsys):
    start_up = load("start_up")
    start_up.report("a title", {"floor": [(1.0, 2.0), (2.0, 2.0)], "now": [(2.0, 2.0), (3.0, 4.0)]}, "floor")
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "  floor: 1.50 s; 2.00 s of CPU"
    assert out[2].endswith("1.75 (1.50 to 2.00) times floor; 3.00 s of CPU = 1.50 (1.00 to 2.00) times floor")


def test_levels_of_compression_are_compared(scripts, folder, capsys):
    load("sampling").levels(folder, most=3)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 18 and out[0].startswith("32 px, level 6:")


def test_a_profile_of_a_step_adds_up_and_names_the_penalty(scripts):
    script = load("step_profile")
    flags = {"image_size": 16, "batch_size": 2, "width": 16}
    row = script.measure("sgbgan", "tiny", torch.device("cpu"), steps=1, times=1, **flags)
    assert {script.PENALTY, script.FIRST, script.SECOND, "d backward", "g optimiser"} <= set(row["phases_ms"])
    assert {"convolution", "attention", "optimiser"} <= set(row["kinds_ms"])
    for part in ("phases_ms", "kinds_ms", "phases_and_kinds_ms"):
        assert sum(row[part].values()) == pytest.approx(row["busy_ms"], abs=0.1)
    assert f"| {script.SECOND} |" in script.show({"methods": {"sgbgan": row}})


# Ablation and amounts -------------------------------------------------------------------------------------------------


@pytest.fixture
def ablation(scripts, plain_search, monkeypatch, folder, tmp_path):
    """The command on the training folder with networks that are made in a moment; gives its rows."""
    module = load("ablation")
    narrow = {"image_size": 16, "width": 16, "batch_size": 4, "pretrain_steps": 1}
    monkeypatch.setitem(module.NARROW, "sgbgan", narrow)
    monkeypatch.setitem(module.NARROW, "damage-gan", {**narrow, "width": 8, "d_width": 8, "pretrain_steps": 0})
    monkeypatch.setattr(module.OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))

    def called(*words):
        where = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"), "--images", "12"]
        data = [str(folder / "train"), "--name", "discs", "--seconds", "0.01"]
        assert module.main([*data, *where, *words]) == 0
        return json.loads((tmp_path / "results" / "ablation.json").read_text())

    called.module, called.work = module, tmp_path / "work"
    return called


def test_an_option_is_trained_measured_and_shown(ablation, capsys):
    rows = ablation("--methods", "sgbgan", "--options", "paper,before+share", "--holdout", "0.5")
    assert [(r["option"], r["seed"], r["data"]) for r in rows] == [("before+share", 0, "discs"), ("paper", 0, "discs")]
    row = rows[0]
    assert row["settings"]["penalty_every"] == 4 and "penalty_every" not in rows[1]["settings"]
    assert set(row["fid_by_class"]) == {"a", "b", "c"} and len(row["made"]) == 3 and row["steps"] >= 0
    assert (
        row["few_shot_kid"] is not None
        and 0 <= row["copy_rate"] <= row["near_rate"] <= 1
        and row["nearer_to_training"] > 0
    )
    assert (ablation.work / "discs-sgbgan-paper-0.png").is_file()
    shown = capsys.readouterr().out
    assert f"| paper | 1 | {1000 * rows[1]['few_shot_kid']:.0f} |" in shown


def test_finished_options_are_read_again(ablation):
    before = ablation("--options", "default", "--methods", "sgbgan")
    done = ablation.work / "discs-sgbgan-default-0.json"
    written = done.stat().st_mtime_ns
    after = ablation("--options", "default", "--methods", "sgbgan", "--seeds", "0,1")
    assert done.stat().st_mtime_ns == written and after[0] == before[0] and [r["seed"] for r in after] == [0, 1]


def test_the_test_split_is_measured_beside_the_validation_part(ablation, folder):
    (row,) = ablation("--options", "default", "--methods", "sgbgan", "--test", str(folder / "test"))
    assert row["few_shot_kid_test"] is not None and set(row["fid_test_by_class"]) == {"a", "b", "c"}


def test_a_rare_class_that_is_not_made_has_no_kid(ablation, monkeypatch):
    first = ablation.module.first_images
    monkeypatch.setattr(ablation.module, "first_images", lambda s, c, n: first(s, c, n if c else 0))
    (row,) = ablation("--options", "default", "--methods", "sgbgan")
    assert row["made"] == {"a": 0, "b": 12, "c": 12} and row["few_shot_kid"] is row["near_rate"] is None
    assert set(row["kid_by_class"]) == {"b", "c"}


def test_what_is_done_with_the_images_of_a_training_is_measured_without_another_one(ablation, monkeypatch):
    module, counted = ablation.module, []
    launch = module.launch
    monkeypatch.setattr(module, "launch", lambda *a: counted.append(1) or launch(*a))
    monkeypatch.setattr(module.QualityFilter, "fit", lambda *a: lambda images, label: np.ones(len(images), bool))
    options = ["default", *(f"default@{name}" for name in module.EXPORTS)]
    rows = ablation("--options", ",".join(options), "--methods", "sgbgan")
    found = {row["option"]: row for row in rows}
    assert len(counted) == 1 and set(found) == set(options)
    assert found["default@latents-x-0.8"]["few_shot_kid"] != found["default"]["few_shot_kid"]
    assert found["default@uncopied"]["near_rate"] in (0, None)


def test_every_change_changes_a_field_of_a_method(ablation):
    module = ablation.module
    fields = {f for name in module.NARROW for f in load_method(name).Config.__dataclass_fields__}
    assert all(set(change) <= fields for change in module.CHANGES.values())
    with pytest.raises(SystemExit):
        ablation("--options", "paper+nothing")


def test_amounts_of_synthetic_images_are_compared(scripts, folder, tmp_path, capsys, monkeypatch):
    module = load("amounts")
    flags = {
        "image_size": 16,
        "width": 16,
        "batch_size": 4,
        "pretrain_steps": 1,
        "steps": 2,
        "holdout": 0.5,
        "group_by": "none",
    }
    request = launch_module.TrainRequest(folder / "train", "sgbgan", "tiny", flags, device="cpu", out=tmp_path)
    trained = launch_module.launch(request, SilentMonitor())
    fit = partial(OwnExtractor.fit, steps=5)
    monkeypatch.setattr(module.QualityFilter, "fit", lambda *a, **k: lambda images, label: np.ones(len(images), bool))
    monkeypatch.setattr(OwnExtractor, "fit", fit)
    assert (
        module.main(
            [trained["run"], "--images", "8", "--seeds", "2", "--updates", "2", "--amounts", "to IR 1,1 per real"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    table = [line.split(" | ") for line in lines if line.startswith("| noise")]
    assert [[cells[1], cells[3]] for cells in table] == [
        ["copies", "to IR 1"],
        ["copies", "1 per real"],
        ["quality", "to IR 1"],
        ["quality", "1 per real"],
    ]


# EDM ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def edm_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))
    flags = {"image_size": 16, "width": 8, "batch_size": 4, "steps": 2, "solver_steps": 2, "flips": "never"}
    request = launch_module.TrainRequest(folder, "edm", "tiny", flags, device="cpu", out=tmp_path)
    return launch_module.launch(request, SilentMonitor())["run"]


def test_solvers_are_compared_by_evaluations(scripts, edm_run, capsys):
    assert load("solvers").main([edm_run, "--images", "8", "--evaluations", "3,150"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [
        ("| DPM-Solver++(2M)", "3"),
        ("| Heun", "3"),
        ("| DPM-Solver++(2M)", "150"),
        ("| Heun", "149"),
    ]
    off = [float(row[2]) for row in rows]
    assert max(off[2:]) < 1 < min(off[:2])  # both come close to one solution


def test_averages_are_compared_with_decays(scripts, folder, monkeypatch, capsys):
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))
    small = ["image_size=16", "width=8", "batch_size=4", "warmup_steps=1", "solver_steps=2", "flips=never"]
    words = [word for field in small for word in ("--set", field)]
    assert load("averaging").main([str(folder), "--steps", "10", "--images", "8", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {name: values for line in lines[:3] for name, values in json.loads(line).items()}
    assert list(rows) == ["constant, four fifths", "linear to 0", "constant"]
    assert rows["linear to 0"] != rows["constant"] != rows["constant, four fifths"]
    assert len(lines[-1].split("|")) == 8


def test_starts_from_real_images_are_compared(scripts, edm_run, capsys):
    words = ("--images", "8", "--seeds", "2", "--updates", "2", "--amounts", "1 per real", "--filters", "copies")
    assert load("amounts").main([edm_run, "--from", "noise,own:0.4", "--no-verdict", *words]) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in table] == ["| noise", "| own:0.4"]


def test_coverage_is_simulated_with_the_products_intervals(monkeypatch, capsys, tmp_path):
    script = load("interval_coverage")
    monkeypatch.setattr(script, "SETS", {"6, 9": (6, 9), "30": (30,)})
    out = tmp_path / "coverage.md"
    monkeypatch.setattr(sys, "argv", ["x", "--repeats", "30", "--seeds", "1", "3", "--out", str(out)])
    script.main()  # compares some repetitions with the product's intervals
    assert capsys.readouterr().out.startswith("## 1 seed") and "| 6, 9 |" in out.read_text()
    with monkeypatch.context() as changed, pytest.raises(AssertionError):
        changed.setattr(script, "LEAST_BETWEEN", 0.5)
        script.measure((6, 9), 3, 30, seed=0)


# The recipe -----------------------------------------------------------------------------------------------------------


def test_the_search_is_asked_about_images_of_known_worth(scripts, folder, tmp_path, monkeypatch, capsys):
    script = load("recipe_truths")
    monkeypatch.setattr("balancegan.verdict.share_runs.Question.updates", 2)
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=2))
    script.main(["digits", "--seeds", "1", "--truths", "noise,perfect", "--look"])
    more = write_images(tmp_path / "more" / "train", {"ant": 24, "bee": 14, "cat": 12}).parent
    script.main(
        [
            str(folder),
            "--pool",
            str(more),
            "--size",
            "16",
            "--seeds",
            "1",
            "--truths",
            "half,wrong,copies,one,blur,varied",
        ]
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [row["truth"] for row in rows] == ["noise", "perfect", "half", "wrong", "copies", "one", "blur", "varied"]
    assert all(
        set(row) >= {"shares", "table", "seconds", "hopeless" if k < 2 else "best"} for k, row in enumerate(rows)
    )


def test_short_trainings_tell_what_the_recipe_made_of_their_images(scripts, tmp_path, quick_reports, capsys):
    script = load("recipe_trainings")
    data = tmp_path / "discs"
    write_images(data / "train", {"ant": 24, "bee": 12})
    write_images(data / "test", {"ant": 12, "bee": 12}, seed=1)
    script.main(
        [str(tmp_path / "out"), f"discs={data}", "--methods", "cwgan-gp", "--minutes", "0.01", "--group-by", "none"]
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["set"], row["method"], row["how"]) for row in rows] == [
        ("discs", "cwgan-gp", "auto"),
        ("discs", "cwgan-gp", "generated"),
    ]
    assert rows[1]["share"] == 1 and not rows[1]["rows"] and len(rows[0]["against"]["oversampling"]) == 3
