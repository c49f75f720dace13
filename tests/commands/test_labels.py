"""From a table of labels to a balanced folder with class folders, and folders that must be settled first."""

import csv
import json

import pytest
from helpers import call_json, write_images
from typer.testing import CliRunner

from balancegan.cli.app import app

TINY = ("--preset", "tiny", "--image-size", "16", "--steps", "2", "--pretrain-steps", "1", "--batch-size", "4")
TINY += ("--set", "width=8", "--device", "cpu")


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def flat(tmp_path, monkeypatch):
    """All images in one folder, and a table beside it."""
    made = write_images(tmp_path / "made", {"a": 24, "b": 10})
    rows = []
    (tmp_path / "all").mkdir()
    for path in sorted(made.rglob("*.png")):
        name = f"{path.parent.name}{path.stem}"
        path.rename(tmp_path / "all" / f"{name}.png")
        rows.append({"image_id": name, "diagnosis": {"a": "benign", "b": "7/8"}[path.parent.name]})
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image_id", "diagnosis"])
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "all"


def test_a_table_of_labels_becomes_a_balanced_folder(flat, tmp_path):
    found = call_json("inspect", flat, "--labels", "train.csv")
    assert {c["name"]: c["count"] for c in found["classes"]} == {"benign": 24, "7-8": 10}
    assert call("train", flat, "--labels", "train.csv", *TINY).exit_code == 0
    made = call_json("augment", "--fill", "transformed", "--no-report", "--device", "cpu")
    assert made["complete"]
    balanced = tmp_path / "balanced"
    counts = {name: len(list((balanced / name).glob("*.*"))) for name in ("benign", "7-8")}
    assert counts == {"benign": 24, "7-8": 24}
    rows = list(csv.DictReader((balanced / "metadata.csv").open()))
    assert {(r["label"], r["kind"]) for r in rows} >= {("7-8", "real"), ("7-8", "transformed")}
    assert {r["file_name"].partition("/")[0] for r in rows} == {"benign", "7-8"}
    # What was balanced is not taken for real images.
    again = call_json("inspect", balanced)
    assert {c["name"]: c["count"] for c in again["classes"]} == {"benign": 24, "7-8": 10}
    assert any("balanced before" in line for line in again["advice"])
    every = call_json("inspect", balanced, "--synthetic")
    assert {c["name"]: c["count"] for c in every["classes"]} == {"benign": 24, "7-8": 24}
    judged = call("evaluate", flat, balanced, "--labels", "train.csv", "--no-utility", "--metrics", "copies", "--json")
    assert [c["synthetic"] for c in json.loads(judged.stdout)["classes"]] == [14, 0]


def test_a_flat_folder_says_how_to_give_labels(flat):
    shown = call("inspect", flat)
    assert shown.exit_code == 3 and "--labels" in shown.output and "metadata.csv" in shown.output


def test_train_stops_where_a_split_may_be_a_class(tmp_path):
    write_images(tmp_path / "d" / "train", {"a": 12, "b": 6})
    write_images(tmp_path / "d", {"cats": 5})
    shown = call("train", tmp_path / "d", *TINY, "--out", tmp_path / "runs")
    assert shown.exit_code == 3 and "--layout" in shown.output
    assert "may be a split or a class" in call("inspect", tmp_path / "d").output
    settled = call("train", tmp_path / "d", *TINY, "--out", tmp_path / "runs", "--layout", "splits", "--dry-run")
    assert settled.exit_code == 0
