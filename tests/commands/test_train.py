"""What a run records of its data and how the held-out part is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, Quiet, train_tiny, write_images
from PIL import Image

from balancegan.commands import train as command
from balancegan.compute import device as devices
from balancegan.compute.device import resolve_device
from balancegan.core.files import write_json
from balancegan.core.grid import grid_image
from balancegan.data.training_set import reopen_training_set
from balancegan.methods import WHY_RECOMMENDED
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import read_config, restore
from balancegan.training.estimate import count_parameters


def test_holdout_is_recorded_and_reproduced(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    recorded = run.read_json("dataset.json")
    assert recorded["train_counts"] == {"ant": 19, "bee": 6, "cat": 5}
    assert recorded["counts"]["train"] == {"ant": 24, "bee": 8, "cat": 6}
    assert len(recorded["holdout"]["files"]) == 8 and recorded["fingerprint"]
    assert recorded["class_names"] == ["ant", "bee", "cat"] and recorded["bad_files"] == []
    _, cfg = read_config(run)
    again = reopen_training_set(recorded, cfg)
    assert [again.store.files[i].rel for i in again.holdout_rows] == recorded["holdout"]["files"]
    assert not set(again.train_rows) & set(again.holdout_rows)
    assert again.split_counts() == {"ant": 24, "bee": 8, "cat": 6}


def test_the_seed_of_the_training_does_not_change_what_is_held_out(discs, tmp_path):
    def held(**flags):
        return RunDir(train_tiny(discs, tmp_path / "runs", **flags)["run"]).read_json("dataset.json")["holdout"][
            "files"
        ]

    assert held(seed=1) == held(seed=2) != held(holdout_seed=5)


def test_a_run_from_before_the_holdout_had_a_seed_of_its_own_keeps_its_split(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs", seed=7, holdout_seed=7)["run"])
    path = run.path / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "holdout_seed" not in line))
    _, cfg = read_config(run)
    assert cfg.holdout_seed == 7
    reopen_training_set(run.read_json("dataset.json"), cfg)  # raises where the split is another
    again = train_tiny(discs, tmp_path / "runs", resume="0", seed=7, steps=8)
    assert again["run"] == str(run.path)
    assert run.read_json("dataset.json")["holdout"]["seed"] == 7


def test_a_test_split_takes_the_place_of_the_holdout(split_discs, tmp_path):
    run = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    recorded = run.read_json("dataset.json")
    assert recorded["holdout"]["files"] == [] and recorded["train_counts"] == {"ant": 24, "bee": 8, "cat": 6}


def test_groups_are_not_split(tmp_path):
    data = write_images(tmp_path / "data", {"ant": 20, "bee": 10})
    for folder in ("ant", "bee"):
        for i, path in enumerate(sorted((data / folder).glob("*.png"))):
            path.rename(path.with_name(f"p{i // 3}_{i}.png"))
    run = RunDir(train_tiny(data, tmp_path / "runs", group_by=r"\w+/p\d+_")["run"])
    held = run.read_json("dataset.json")["holdout"]["files"]
    groups = {f.rsplit("_", 1)[0] for f in held}
    everything = [f"{p.parent.name}/{p.name}" for p in data.glob("*/*.png")]
    assert held and {f for f in everything if f.rsplit("_", 1)[0] in groups} == set(held)


@pytest.fixture
def alike(tmp_path):
    """Two classes of which one shows a single object, beside a table of groups."""
    data = write_images(tmp_path / "alike", {"ant": 20, "bee": 10})
    names = [f"{p.parent.name}/{p.name}" for p in sorted(data.glob("*/*.png"))]
    groups = [f"{name},{i // 4 if name.startswith('ant') else 'one'}" for i, name in enumerate(names)]
    (tmp_path / "groups.csv").write_text("file_name,group\n" + "\n".join(groups))
    return data


def test_training_says_what_is_kept_together_and_what_cannot_be_tested(alike, tmp_path, monkeypatch):
    monitor = Quiet()
    monkeypatch.chdir(tmp_path)
    run = RunDir(train_tiny(alike, tmp_path / "runs", monitor, group_by="groups.csv")["run"])
    assert monitor.notes[:3] == [
        "30 of 30 images have siblings (6 groups, largest 10): each group stays on one side of the split.",
        "no images of bee are held out: all of them belong to one group, so no honest test of this class is possible.",
        "4 of 30 images are held out for the quality report; no network sees them.",
    ]
    recorded = run.read_json("dataset.json")
    assert recorded["groups"] == {"number": 6, "largest": 10, "images": 30}
    assert len({int(Path(name).stem) // 4 for name in recorded["holdout"]["files"]}) == 1
    assert read_config(run)[1].group_by == str(tmp_path / "groups.csv")  # found from any working folder
    (tmp_path / "groups.csv").unlink()
    reopen_training_set(recorded, read_config(run)[1])


def test_training_says_how_many_test_images_have_named_siblings(split_discs, tmp_path):
    monitor, table = Quiet(), tmp_path / "groups.csv"
    table.write_text("file_name,group\ntest/ant/000.png,x\ntrain/ant/000.png,x\ntest/ant/001.png,y\n")
    train_tiny(split_discs, tmp_path / "runs", monitor, group_by=str(table))
    text = "Test images in groups that also have training images: 1 of 15. The report's verdict will leave them out."
    assert text in monitor.notes


def test_a_continued_run_keeps_the_images_that_it_held_out(discs, tmp_path):
    """Also where another version would hold out others."""
    run = RunDir(train_tiny(discs, tmp_path / "runs", group_by="auto")["run"])
    recorded = run.read_json("dataset.json")
    before = ["ant/001.png", "bee/001.png"]
    write_json(run.path / "dataset.json", {**recorded, "holdout": {**recorded["holdout"], "files": before}})
    again = train_tiny(discs, tmp_path / "runs", group_by="auto", steps=8)
    assert again["run"] == str(run.path) and again["resumed_from"]
    now = run.read_json("dataset.json")
    assert now["holdout"]["files"] == before and now["train_counts"] == {"ant": 23, "bee": 7, "cat": 6}


@pytest.mark.parametrize("line", ["group_by: ''\n", ""])
def test_a_run_from_before_siblings_groups_by_nothing(discs, tmp_path, line):
    run = RunDir(train_tiny(discs, tmp_path / "runs", group_by="none")["run"])
    path = run.path / "config.yaml"
    assert "group_by: none\n" in path.read_text()
    path.write_text(path.read_text().replace("group_by: none\n", line))
    assert read_config(run)[1].group_by == "none"
    assert train_tiny(discs, tmp_path / "runs", group_by="none", steps=8)["run"] == str(run.path)


def test_an_empty_class_and_bad_files_do_not_stop_training(discs, tmp_path):
    (discs / "dodo").mkdir()
    (discs / "bee" / "broken.png").write_bytes(b"")
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    recorded = run.read_json("dataset.json")
    assert recorded["trained_classes"] == ["ant", "bee", "cat"]
    assert [b["path"] for b in recorded["bad_files"]] == ["bee/broken.png"]


def test_grey_data_trains_on_one_channel(tmp_path):
    data = write_images(tmp_path / "grey", {"a": 8, "b": 6}, grey=True)
    restored = restore(RunDir(train_tiny(data, tmp_path / "runs")["run"]), resolve_device("cpu"))
    assert restored.method.data.channels == 1 and restored.trained
    assert count_parameters(restored.method.G) > 0


def test_real_png_shows_what_the_network_sees(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    with Image.open(run.samples / "real.png") as image:
        assert image.width > 8 * 64 and image.height >= 3 * 64


def test_grids_enlarge_by_whole_factors():
    row = np.zeros((2, 1, 16, 16), np.uint8)
    image = grid_image([row, row])
    assert image.size == (2 * 66 + 2, 2 * 66 + 2) and image.getpixel((10, 10)) == (0, 0, 0)
    assert grid_image([row], ["a long class name"]).width > image.width


def test_a_run_from_before_a_field_was_there_keeps_its_old_meaning(discs, tmp_path):
    first = train_tiny(discs, tmp_path / "runs", steps=2, shared_fakes=False)
    path = Path(first["run"]) / "config.yaml"
    path.write_text("".join(line for line in path.open() if not line.startswith("shared_fakes")))
    again = train_tiny(discs, tmp_path / "runs", steps=4, resume=first["run"])
    assert again["resumed_from"] and again["run"] == first["run"]
    assert "shared_fakes: false" in path.read_text()


# Recommendations -------------------------------------------------------------------------------------------------


class ReadyError(Exception):
    """A training could begin now."""


@pytest.fixture
def recommended(discs, tmp_path, monkeypatch):
    """Return a function that prepares a training and says whether it recommends EDM."""

    def ready(*args):
        raise ReadyError

    def told(device, **options):
        with monkeypatch.context() as patch:
            patch.setattr(devices, "resolve_device", torch.device)  # nothing is computed on it
            patch.setattr(devices, "prepare", lambda device: None)
            patch.setattr(command, "require_space", ready)
            asked = {"data": discs, "preset": "tiny", "flags": TINY, "out": tmp_path / "runs", "device": device}
            monitor = Quiet()
            with pytest.raises(ReadyError):
                command.launch(command.TrainRequest(**{**asked, **options}), monitor)
        return any(f"--method edm is recommended: {WHY_RECOMMENDED}" in note for note in monitor.notes)

    return told


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_edm_is_recommended_on_a_gpu_where_nobody_chose_a_method(recommended, tmp_path, device):
    assert recommended(device)
    assert not recommended("cpu")
    assert not recommended(device, method="sgbgan")
    (tmp_path / "mine.yaml").write_text("method: sgbgan\n")
    assert not recommended(device, config_file=tmp_path / "mine.yaml")
    assert not recommended(device, flags={**TINY, "image_size": 256})  # a side that it does not make


def test_a_run_that_continues_gets_no_recommendation(recommended, discs, tmp_path):
    train_tiny(discs, tmp_path / "runs")
    assert not recommended("cuda") and not recommended("cuda", resume="0")
    assert recommended("cuda", resume="never")
