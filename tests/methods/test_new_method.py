"""A new method is one file and one line in METHODS: toy methods train, resume, fill a folder and pass the contract."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import call_json, hashes, train_tiny
from methods.test_contract import CHECKS

from balancegan.data.sources import SourceImages
from balancegan.data.training_set import reopen_training_set
from balancegan.methods import METHODS
from balancegan.methods.stages import Schedule, Stage, Update
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.choice import make_samplers

TOYS = {"toy-stages": "methods.toy_stages:ToyStages", "toy-source": "methods.toy_source:ToySource"}
CPU = torch.device("cpu")


@pytest.fixture(params=TOYS)
def toy(request, monkeypatch):
    monkeypatch.setitem(METHODS, request.param, TOYS[request.param])
    return request.param


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_toy_keeps_the_contract(toy, check):
    check(toy)


def test_a_toy_trains_and_resumes_bit_for_bit(toy, discs, tmp_path):
    pretrain = {} if toy == "toy-stages" else {"pretrain_steps": 0}
    flags = {"method": toy, "steps": 6, "save_every": 2, "sample_every": 3, "log_every": 1, **pretrain}
    straight = train_tiny(discs, tmp_path / "a", **flags)
    for steps in (1, 3, 6):
        resumed = train_tiny(discs, tmp_path / "b", **{**flags, "steps": steps})
    one, other = (RunDir(document["run"]) for document in (straight, resumed))
    a, b = one.load_checkpoint(), other.load_checkpoint()
    assert a.step == b.step and all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)
    seen = [[row["images_seen"] for row in run.read_metrics()] for run in (one, other)]
    assert seen[0] == seen[1] and seen[0][-1] == straight["images_seen"]
    assert straight["steps"] == resumed["steps"] == 6 and resumed["resumed_from"]


def test_a_toy_fills_a_folder_and_shows_samples(toy, discs, tmp_path):
    run = train_tiny(discs, tmp_path / "runs", method=toy)["run"]
    words = (run, "--target-ir", 1, "--device", "cpu", "--no-report", "--filter", "none", "--fill", "generated")
    folders = [call_json("augment", *words, "--out", tmp_path / out) for out in ("one", "two")]
    classes = folders[0]["classes"]
    assert len({c["real"] + c["synthetic"] for c in classes}) == 1 and classes == folders[1]["classes"]
    one, two = (
        {k: v for k, v in hashes(tmp_path / out).items() if Path(k).name.startswith("syn_")} for out in ("one", "two")
    )
    assert one == two and len(one) == sum(c["synthetic"] for c in classes) > 0
    found = call_json("sample", run, "--n", 2, "--out", tmp_path / "grid.png", "--device", "cpu")
    assert found["images"] == 6 and (tmp_path / "grid.png").is_file()
    costs = call_json("train", discs, "--method", toy, "--preset", "tiny", "--device", "cpu", "--dry-run")
    assert costs["parameters"]["G"] > 0 and costs["seconds_estimated"] >= 0


def test_stages_that_cannot_be_told_apart_are_a_bug():
    update = Update("g", lambda x, c: {}, lambda: (), 1e-3)
    for updates in ((), (update, update), (replace(update, repeats=0),)):
        with pytest.raises(ValueError, match="updates"):
            Stage("one", 1, updates)
    with pytest.raises(ValueError, match="names"):
        Schedule.of([Stage("one", 1, (update,)), Stage("one", 2, (update,))])
    left = Schedule.of([Stage("none", 0, (update,)), Stage("first", 2, (update,)), Stage("last", 0, (update,))])
    assert [stage.name for stage in left.stages] == ["first", "last"] and (left.total, left.before_last) == (2, 2)
    assert [left.index(step) for step in (0, 1, 2)] == [0, 0, 1] and left.within(2) == (2, 2)


def test_three_stages_follow_each_other(monkeypatch, discs, tmp_path):
    monkeypatch.setitem(METHODS, "toy-stages", TOYS["toy-stages"])
    document = train_tiny(discs, tmp_path, method="toy-stages", steps=4, pretrain_steps=2, log_every=1)
    run = RunDir(document["run"])
    rows = run.read_metrics()
    assert [row["stage"] for row in rows] == ["colours"] * 2 + ["middle"] * 3 + ["last"] * 4
    assert [row["images_seen"] // 8 for row in rows] == [1, 2, 4, 6, 8, 9, 10, 11, 12]
    assert {"loss/helper/mse", "loss/g/mse", "loss/g/helper"} <= set(rows[-1])
    assert run.load_checkpoint().weights["mean"].abs().max() > 0 and document["steps"] == 4


def test_a_source_is_a_training_image_of_an_allowed_class_by_the_seed(monkeypatch, discs, tmp_path):
    monkeypatch.setitem(METHODS, "toy-source", TOYS["toy-source"])
    run = RunDir(train_tiny(discs, tmp_path, method="toy-source")["run"])
    restored = restore(run, CPU)
    data = reopen_training_set(run.read_json("dataset.json"), restored.method.cfg)
    sources = SourceImages.of(data)
    rows = sources.rows(restored.method.source_classes(1), range(200))
    assert set(rows) <= set(data.train_rows) and set(data.labels[rows]) == {0, 2}
    assert np.array_equal(rows[50:60], sources.rows((0, 2), range(50, 60)))
    (sampler,) = make_samplers(restored.method, CPU, sources=sources)
    image = sampler.images(1, [3, 70])[1].astype(int)
    distances = np.abs(data.store.images[data.train_rows].astype(int) - image).mean((1, 2, 3))
    assert data.train_rows[distances.argmin()] == rows[70]  # the toy hardly changes an image
