"""`compare` on small folders with narrow networks: what it trains, reads, measures, marks and refuses."""

import csv
import json
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers import write_images
from typer.testing import CliRunner

from balancegan.cli.app import app
from balancegan.commands.compare import measure, run
from balancegan.commands.compare.matrix import Board
from balancegan.commands.compare.request import CompareRequest
from balancegan.commands.train import launch
from balancegan.core.errors import (
    CheckpointError,
    DatasetError,
    OutOfMemoryError,
    StoppedError,
    TrainingDivergedError,
    UsageError,
    WeightsMissingError,
)
from balancegan.core.files import write_json
from balancegan.data.store import open_store
from balancegan.evaluation.measures import measure_class
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.memorisation import copy_threshold, nearest, pixel_features
from balancegan.metrics.ssim import mean_ssim
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.samplers import Sampler
from balancegan.verdict.material import ClassImages

FLAGS = {"image_size": 16, "steps": 2, "pretrain_steps": 1, "batch_size": 4, "group_by": "none"}
SETTINGS = {"width": "16", "latent_dim": "8", "n_critic": "1", "lambda_gp": "3"}
METHODS = ("dcgan", "bagan-gp")


@pytest.fixture(autouse=True)
def quick_extractor(monkeypatch):
    """The small classifier after five steps: its quality plays no part here."""
    monkeypatch.setattr(measure.OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))
    monkeypatch.delenv("BALANCEGAN_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr("balancegan.metrics.extractors.find_weights", lambda name, explicit=None: explicit)


@pytest.fixture(autouse=True)
def plain_page(request, monkeypatch):
    """No figures, which take seconds each, unless a test is marked `page`."""
    if "page" not in request.keywords:
        monkeypatch.setattr(
            run, "write_comparison", lambda document, sheets, out: (out / "compare.html").write_text("-")
        )


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Three classes of 60, 20 and 16; a fifth held out leaves the smallest with too few to compare with."""
    return write_images(tmp_path_factory.mktemp("data") / "discs", {"a": 60, "b": 50, "c": 16})


def request(discs, out, **changes):
    usual = {"methods": METHODS, "seeds": (0, 1), "preset": "tiny", "flags": FLAGS, "images": 20, "device": "cpu"}
    made = CompareRequest(data=discs, out=out, **{**usual, **changes})
    known = [k for k in SETTINGS if k != "lambda_gp" or "bagan-gp" in made.methods]
    return replace(made, settings=changes.get("settings", {k: SETTINGS[k] for k in known}))


@pytest.fixture(scope="module")
def finished(discs, tmp_path_factory):
    """One comparison of two methods and two seeds."""
    out = tmp_path_factory.mktemp("out") / "comparison"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.OwnExtractor, "fit", partial(OwnExtractor.fit, steps=5))
        patch.setattr("balancegan.metrics.extractors.find_weights", lambda name, explicit=None: explicit)
        return run.compare(request(discs, out)), out


class Recorder(Board):
    def __init__(self):
        self.notes, self.positions, self.steps = [], [], 0

    def matrix(self, matrix):
        self.positions.append((matrix.position, {s.status for s in matrix.states.values()}))

    def step(self, stage, step, total):
        self.steps += 1

    def note(self, text):
        self.notes.append(text)


def no_training(*_):
    raise AssertionError("this must not train")


def test_the_document_holds_what_the_contract_names(finished):
    document, out = finished
    assert document["methods"] == list(METHODS) and document["seeds"] == [0, 1] and document["schema_version"] == 1
    assert len(document["cells"]) == 2 * 2 * 3 and len(document["runs"]) == 4
    for cell in document["cells"]:
        assert {"method", "seed", "class", "fid", "kid", "ssim"} <= cell.keys() and cell["status"] == "done"
        assert cell["n_fake"] == 20 and -1 <= cell["ssim"] <= 1
    assert {c["class"]: c["reference"] for c in document["cells"]} == {"a": "holdout", "b": "holdout", "c": "train"}
    assert json.loads((out / "compare.json").read_text())["table"] == document["table"]
    assert len(list(csv.DictReader((out / "compare.csv").open(newline="")))) == 12
    page = (out / "compare.html").read_text()
    assert "bagan-gp" in page and not re.search(r"(src|href)=.https?:", page)
    assert (document["baseline"], document["target"]) == METHODS


def test_the_table_is_made_of_the_cells(finished):
    document, _ = finished
    (block,) = document["table"]
    for row in block["measures"]["fid"]["rows"]:
        mine = [c for c in document["cells"] if c["method"] == row["method"]]
        of_seed = [np.mean([c["fid"] for c in mine if c["seed"] == s and c["class"] != "a"]) for s in (0, 1)]
        assert row["values"][0]["mean"] == pytest.approx(np.mean(of_seed))
        assert row["values"][0]["std"] == pytest.approx(np.std(of_seed, ddof=1))


def test_a_cell_is_measured_on_what_its_generator_makes_against_held_out_images(finished, discs):
    document, out = finished
    entry = next(r for r in document["runs"] if r["method"] == "bagan-gp" and r["seed"] == 1)
    restored = restore(RunDir(entry["run"]), torch.device("cpu"))
    assert (restored.method.cfg.seed, restored.method.cfg.lambda_gp, restored.method.cfg.width) == (1, 3.0, 16)
    fake = Sampler(restored.method, restored.device).images(1, range(20))
    data = run.open_training_set(discs, restored.method.cfg)
    held = data.store.images[data.holdout_rows[data.labels[data.holdout_rows] == 1]]
    (path,) = (out / "cells").glob("extractor-*.safetensors")
    extractor = OwnExtractor.load(path)
    cell = next(c for c in document["cells"] if (c["method"], c["seed"], c["class"]) == ("bagan-gp", 1, "b"))
    assert cell["n_real"] == len(held) == 10
    expected = frechet_distance(feats_real=extractor(held), feats_fake=extractor(fake))
    assert cell["fid"] == pytest.approx(expected, rel=1e-4) and cell["ssim"] == pytest.approx(mean_ssim(held, fake))
    mine = data.train_rows[data.labels[data.train_rows] == 1]
    train = pixel_features(data.store.images[mine])
    distances, _ = nearest(pixel_features(fake), train)
    assert cell["near_rate"] == pytest.approx((distances < copy_threshold(train)).mean())
    row = measure_class(
        ClassImages("b", data.store.images[mine], held, fake, 24, 20), extractor, seed=0, max_images=100
    )
    assert all(cell[key] == pytest.approx(row.row[key], rel=1e-4) for key in ("copy_rate", "near_rate_real", "kid"))


def test_every_seed_holds_out_the_same_images_but_trains_other_weights(finished):
    document, _ = finished
    runs = [RunDir(r["run"]) for r in document["runs"] if r["method"] == "dcgan"]
    first, second = (r.read_json("dataset.json")["holdout"]["files"] for r in runs)
    assert first == second and len(first) > 0
    a, b = (r.load_checkpoint().weights["G.decoder.dense.weight"] for r in runs)
    assert not torch.equal(a, b)


def test_a_second_call_reads(finished, discs, monkeypatch):
    before, out = finished
    monkeypatch.setattr(run, "launch", no_training)
    monkeypatch.setattr(measure.Ruler, "measure", no_training)
    board = Recorder()
    again = run.compare(request(discs, out), board)
    assert {**again, "created": 0} == {**before, "created": 0} and board.positions[0][0] == (4, 4)


def test_a_changed_measure_trains_nothing_again(finished, discs, monkeypatch):
    before, out = finished
    board = Recorder()
    again = run.compare(request(discs, out, images=12), board)
    assert board.steps == 0 and {c["n_fake"] for c in again["cells"]} == {12}
    assert [r["run"] for r in again["runs"]] == [r["run"] for r in before["runs"]]


def test_more_steps_continue_the_runs(discs, tmp_path):
    small = {"methods": ("dcgan",), "seeds": (0,)}
    first = run.compare(request(discs, tmp_path / "c", **small))
    more = run.compare(request(discs, tmp_path / "c", flags={**FLAGS, "steps": 5}, **small))
    assert first["runs"][0]["run"] == more["runs"][0]["run"] and more["runs"][0]["steps"] == 5
    straight = run.compare(request(discs, tmp_path / "d", flags={**FLAGS, "steps": 5}, **small))
    assert [c["fid"] for c in more["cells"]] == [c["fid"] for c in straight["cells"]]


def test_equal_time_ends_each_training_and_an_interrupted_one_starts_again(discs, tmp_path, monkeypatch):
    small = {"methods": ("dcgan",), "seeds": (0,), "flags": {**FLAGS, "steps": 10**6}, "max_seconds": 0.5}
    first = run.compare(request(discs, tmp_path / "c", **small))
    assert first["max_seconds"] == 0.5 and 0 < first["runs"][0]["steps"] < 10**6
    longer = run.compare(request(discs, tmp_path / "c", **{**small, "max_seconds": 0.6}))
    assert longer["runs"][0]["run"] != first["runs"][0]["run"]
    monkeypatch.setattr(run, "launch", no_training)
    assert run.compare(request(discs, tmp_path / "c", **{**small, "max_seconds": 0.6}))["cells"] == longer["cells"]


def failing(method, error):
    def launched(training, *rest):
        if training.method == method:
            raise error
        return launch(training, *rest)

    return launched


@pytest.mark.page
def test_a_diverged_method_is_marked_and_the_others_go_on(discs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "launch", failing("dcgan", TrainingDivergedError("it diverged at step 1")))
    board = Recorder()
    document = run.compare(request(discs, tmp_path / "c", seeds=(0,)), board)
    status = {r["method"]: r["status"] for r in document["runs"]}
    assert status == {"dcgan": "failed", "bagan-gp": "done"}
    marked = [c for c in document["cells"] if c["method"] == "dcgan"]
    assert len(marked) == 3 and all(c["fid"] is None and "diverged" in c["reason"] for c in marked)
    assert "diverged" in (tmp_path / "c" / "compare.html").read_text()
    assert any(note.startswith("dcgan, seed 0 failed: it diverged") for note in board.notes)
    monkeypatch.setattr(run, "launch", no_training)  # it would diverge again
    assert run.compare(request(discs, tmp_path / "c", seeds=(0,)))["runs"][0]["status"] == "failed"


def test_a_bug_in_one_method_is_marked_with_its_traceback_and_tried_again(discs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "launch", failing("dcgan", ZeroDivisionError("oops")))
    document = run.compare(request(discs, tmp_path / "c", seeds=(0,)))
    assert "ZeroDivisionError" in document["runs"][0]["reason"]
    assert "Traceback" in (tmp_path / "c" / "cells" / "dcgan-seed0.txt").read_text()
    monkeypatch.setattr(run, "launch", launch)
    assert run.compare(request(discs, tmp_path / "c", seeds=(0,)))["runs"][0]["status"] == "done"


def test_when_everything_failed_the_error_is_raised_after_the_page(discs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "launch", failing("dcgan", OutOfMemoryError("no memory")))
    with pytest.raises(OutOfMemoryError, match="every training run failed"):
        run.compare(request(discs, tmp_path / "c", methods=("dcgan",), seeds=(0,)))
    assert (tmp_path / "c" / "compare.html").is_file()


def test_an_interruption_keeps_what_is_finished(discs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "launch", failing("bagan-gp", StoppedError("at step 1", signum=2)))
    with pytest.raises(StoppedError):
        run.compare(request(discs, tmp_path / "c", seeds=(0,)))
    trained = []
    monkeypatch.setattr(
        run, "launch", lambda training, *rest: trained.append(training.method) or launch(training, *rest)
    )
    run.compare(request(discs, tmp_path / "c", seeds=(0,)))
    assert trained == ["bagan-gp"]


def test_a_damaged_record_is_made_again(finished, discs):
    before, out = finished
    (out / "cells" / "dcgan-seed0.json").write_text('{"key": 1')
    again = run.compare(request(discs, out))
    assert [c["fid"] for c in again["cells"]] == [c["fid"] for c in before["cells"]]


@pytest.mark.page
def test_rates_thin_the_training_part_and_leave_the_reference_alone(discs, tmp_path):
    document = run.compare(request(discs, tmp_path / "c", methods=("dcgan",), seeds=(0,), irs=(4.0, 10.0)))
    assert [b["counts"] for b in document["train_counts"]] == [{"a": 48, "b": 12, "c": 12}, {"a": 48, "b": 4, "c": 4}]
    assert [b["ir"] for b in document["table"]] == document["irs"] == [4.0, 10.0]
    for entry, counts in zip(document["runs"], document["train_counts"], strict=True):
        described = RunDir(entry["run"]).read_json("dataset.json")
        assert described["train_counts"] == counts["counts"]
    held = [RunDir(r["run"]).read_json("dataset.json")["holdout"]["files"] for r in document["runs"]]
    assert held[0] == held[1]
    assert (tmp_path / "c" / "figures" / "samples-ir4.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"irs": (2.0,)}, "cannot be reached"),
        ({"irs": (0.5,)}, "1 or more|--ir cannot be"),
        ({"methods": ()}, "no method"),
        ({"methods": ("dcgan", "dcgn")}, "unknown method 'dcgn'"),
        ({"seeds": ()}, "no seed"),
        ({"baseline": "sgbgan"}, "not among"),
        ({"baseline": "bagan-gp"}, "last method"),
        ({"images": 1}, "cannot be measured"),
        ({"extractor": "resnet"}, "extractor = .resnet. is invalid"),
        ({"settings": {"widht": "16"}}, "widht"),
        ({"settings": {"width": "12"}}, "width"),
        ({"settings": {"seed": "9"}}, "--seeds"),
        ({"settings": {"train_ir": "9"}}, "--ir"),
        ({"preset": "huge"}, "preset"),
        ({"flags": {"image_size": 48}}, "image_size"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(discs, tmp_path, changes, message):
    with pytest.raises(UsageError) as caught:
        run.compare(request(discs, tmp_path / "c", **changes))
    assert re.search(message, f"{caught.value.message} {caught.value.hint}")
    assert not (tmp_path / "c").exists()


def test_fewer_steps_than_an_earlier_call_get_a_training_of_their_own(discs, tmp_path):
    one = {"methods": ("dcgan",), "seeds": (0,)}
    run.compare(request(discs, tmp_path / "c", flags={**FLAGS, "steps": 6}, **one))
    fewer = run.compare(request(discs, tmp_path / "c", **one))
    assert fewer["runs"][0]["steps"] == FLAGS["steps"]
    straight = run.compare(request(discs, tmp_path / "d", **one))
    assert [c["fid"] for c in fewer["cells"]] == [c["fid"] for c in straight["cells"]]


def test_another_split_in_the_same_folder_is_measured_as_in_a_fresh_one(discs, tmp_path):
    one = {"methods": ("dcgan",), "seeds": (0,)}
    run.compare(request(discs, tmp_path / "c", flags={**FLAGS, "holdout": 0.5}, **one))
    again = run.compare(request(discs, tmp_path / "c", flags={**FLAGS, "holdout": 0.7}, **one))
    fresh = run.compare(request(discs, tmp_path / "d", flags={**FLAGS, "holdout": 0.7}, **one))
    assert [c["n_real"] for c in again["cells"]] == [c["n_real"] for c in fresh["cells"]] == [42, 35, 11]
    assert [c["fid"] for c in again["cells"]] == [c["fid"] for c in fresh["cells"]]
    assert [c["n_reference"] for c in again["classes"]] == [42, 35, 11]


def test_a_run_that_held_out_other_images_is_not_measured(discs, tmp_path):
    """As one that a version with another search for siblings began."""
    one = {"methods": ("dcgan",), "seeds": (0,)}
    first = run.compare(request(discs, tmp_path / "c", **one))["runs"][0]["run"]
    record = RunDir(first).read_json("dataset.json")
    record["holdout"]["files"] = record["holdout"]["files"][1:]
    write_json(Path(first) / "dataset.json", record)
    next((tmp_path / "c" / "cells").glob("*.json")).unlink()
    again = run.compare(request(discs, tmp_path / "c", **one))["runs"][0]["run"]
    assert again != first and len(RunDir(again).read_json("dataset.json")["holdout"]["files"]) == 25


def test_the_extractor_never_sees_a_held_out_image(discs, tmp_path, monkeypatch):
    seen = []
    fit = measure.OwnExtractor.fit
    monkeypatch.setattr(
        measure.OwnExtractor, "fit", lambda images, *a, **k: seen.append(images) or fit(images, *a, **k)
    )
    made = run.compare(request(discs, tmp_path / "c", methods=("dcgan",), seeds=(0,)))
    cfg = restore(RunDir(made["runs"][0]["run"]), torch.device("cpu")).method.cfg
    data = run.open_training_set(discs, cfg)
    shown = {image.tobytes() for image in seen[0]}
    assert len(seen[0]) == len(data.train_rows)
    assert not any(data.store.images[row].tobytes() in shown for row in data.holdout_rows)


def test_changed_data_are_trained_on_anew(tmp_path):
    data = write_images(tmp_path / "data", {"a": 30, "b": 30})
    one = {"methods": ("dcgan",), "seeds": (0,)}
    first = run.compare(request(data, tmp_path / "c", **one))
    write_images(tmp_path / "other", {"a": 30}, seed=9)
    (data / "a" / "000.png").write_bytes((tmp_path / "other" / "a" / "000.png").read_bytes())
    board = Recorder()
    second = run.compare(request(data, tmp_path / "c", **one), board)
    assert board.steps == FLAGS["steps"] and first["runs"][0]["run"] != second["runs"][0]["run"]


def test_data_that_change_while_others_train_are_an_error(tmp_path, monkeypatch):
    data = write_images(tmp_path / "data", {"a": 30, "b": 30})

    def launched(training, *rest):
        write_images(data / "new", {"c": 3})
        return launch(training, *rest)

    monkeypatch.setattr(run, "launch", launched)
    with pytest.raises(DatasetError, match="changed during"):
        run.compare(request(data, tmp_path / "c", methods=("dcgan",), seeds=(0,)))


def test_lost_or_torn_images_are_made_again_without_training(finished, discs):
    before, out = finished
    (out / "cells" / "dcgan-seed0.npy").unlink()
    (out / "cells" / "dcgan-seed1.npy").write_bytes(b"\x93NUMPY")
    board = Recorder()
    again = run.compare(request(discs, out), board)
    assert board.steps == 0 and [c["fid"] for c in again["cells"]] == [c["fid"] for c in before["cells"]]


def test_a_damaged_extractor_is_trained_again(finished, discs):
    before, out = finished
    (file,) = (out / "cells").glob("extractor-*.safetensors")
    file.write_bytes(b"torn")
    again = run.compare(request(discs, out))
    assert [c["fid"] for c in again["cells"]] == [c["fid"] for c in before["cells"]]


def test_a_file_that_is_no_inception_is_refused_before_any_training(discs, tmp_path, monkeypatch):
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"junk")
    monkeypatch.setattr(run, "launch", no_training)
    with pytest.raises(CheckpointError, match="junk"):
        run.compare(request(discs, tmp_path / "c", weights=junk))


def test_a_signal_in_the_last_step_stops_after_the_result_is_kept(discs, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "launch", lambda *a: {**launch(*a), "signum": 15})
    with pytest.raises(StoppedError) as caught:
        run.compare(request(discs, tmp_path / "c", seeds=(0,)))
    assert caught.value.exit_code == 143
    trained = []
    monkeypatch.setattr(
        run, "launch", lambda training, *rest: trained.append(training.method) or launch(training, *rest)
    )
    run.compare(request(discs, tmp_path / "c", seeds=(0,)))
    assert trained == ["bagan-gp"]


def test_a_data_set_called_cells_is_not_taken_for_a_comparison(tmp_path):
    data = write_images(tmp_path / "work" / "cells", {"a": 30, "b": 30})
    before = sorted(p for p in (tmp_path / "work").rglob("*"))
    with pytest.raises(UsageError):
        run.compare(request(data, tmp_path / "work", methods=("dcgan",), seeds=(0,)))
    other = tmp_path / "mine"
    (other / "cells").mkdir(parents=True)
    (other / "compare.html").write_text("precious")
    with pytest.raises(UsageError, match="is not a comparison"):
        run.compare(request(data, other, methods=("dcgan",), seeds=(0,)))
    assert (other / "compare.html").read_text() == "precious" and not list((other / "cells").iterdir())
    assert before == sorted(p for p in (tmp_path / "work").rglob("*"))


def test_settings_of_a_method_are_those_that_its_cells_share(finished):
    document, _ = finished
    assert "seed" not in document["settings"]["dcgan"] and document["settings"]["dcgan"]["width"] == 16


@pytest.mark.page
def test_hostile_class_names_reach_every_file(tmp_path):
    names = {"ctl\x01\x1b[31m": 30, "<b>&amp;\n,": 30, os.fsdecode(b"raw\xff"): 30}
    data = write_images(tmp_path / "data", names)
    document = run.compare(request(data, tmp_path / "c", methods=("dcgan", "bagan-gp"), seeds=(0,)))
    assert {c["class"] for c in document["cells"]} == set(names)
    assert {c["class"] for c in json.loads((tmp_path / "c" / "compare.json").read_text())["cells"]} == set(names)
    page = (tmp_path / "c" / "compare.html").read_text()
    assert "\x1b" not in page and "\x01" not in page and "<b>&amp;" not in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert pictures
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_folders_that_must_stay_as_they_are(discs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not a comparison"):
        run.compare(request(discs, other))
    with pytest.raises(UsageError):
        run.compare(request(discs, discs / "inside"))
    assert [p.name for p in other.iterdir()] == ["mine.txt"] and not (discs / "inside").exists()


def test_inception_without_weights_is_a_missing_file(discs, tmp_path):
    with pytest.raises(WeightsMissingError):
        run.compare(request(discs, tmp_path / "c", extractor="inception"))


def test_the_command_prints_tables_and_one_document(discs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "compare",
        str(discs),
        "--methods",
        "dcgan,cwgan-gp",
        "--seeds",
        "1",
        "--preset",
        "tiny",
        "--device",
        "cpu",
    ]
    arguments += ["--image-size", "16", "--steps", "2", "--batch-size", "4", "--images", "10"]
    arguments += ["--set", "width=16", "--set", "latent_dim=8", "--set", "n_critic=1"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.stderr
    assert "minority average" in " ".join(shown.stdout.split()) and "gain over dcgan" in shown.stdout
    assert "0 of 2 training runs: dcgan, seed 0" in shown.stderr
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert {"methods", "seeds", "cells", "table"} <= document.keys() and Path(document["page"]).is_file()
    assert document["settings"]["cwgan-gp"]["lambda_gp"] == 5.0 and "lambda_gp" not in document["settings"]["dcgan"]


def test_the_store_is_decoded_once(discs, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "balancegan.data.training_set.open_store", lambda *a, **k: calls.append(1) or open_store(*a, **k)
    )
    run.compare(request(discs, tmp_path / "c", methods=("dcgan",), seeds=(0,)))
    assert len(calls) == 2  # for the measures and for the run; from the cache both
