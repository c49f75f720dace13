"""--from, --strength and --guidance in augment, sample and evaluate, and the real images behind them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers import call, call_json, hashes, train_tiny
from PIL import Image

import balancegan
from balancegan.folder.copy_filter import CopyFilter
from balancegan.runs.directory import RunDir

CPU = ("--device", "cpu")
NO_REPORT = ("--no-report", "--fill", "generated", *CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set, and a run of a narrow network on it."""
    from helpers import write_images

    root = tmp_path_factory.mktemp("edm")
    data = write_images(root / "discs", {"ant": 24, "bee": 8, "cat": 6})
    run = train_tiny(data, root / "runs", method="edm", width=8, steps=4, solver_steps=3, flips="never")["run"]
    return data, run


def rows(folder):
    with (folder / "metadata.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("start, classes", [("own", {"bee": {"bee"}}), ("other", {"bee": {"ant", "cat"}})])
def test_every_image_names_the_training_image_it_started_from(trained, tmp_path, start, classes):
    data, run = trained
    words = ("--from", start, "--strength", 0.5, "--filter", "none", *NO_REPORT)
    found = [call_json("augment", run, "--out", tmp_path / out, *words) for out in ("one", "two")]
    assert found[0]["sampling"] == {"from": start, "strength": 0.5, "guidance": None}
    assert hashes(tmp_path / "one" / "bee") == hashes(tmp_path / "two" / "bee")
    held_out = set(RunDir(Path(run)).read_json("dataset.json")["holdout"]["files"])
    made = [row for row in rows(tmp_path / "one") if row["synthetic"] == "true"]
    assert len(made) == 16 + 18
    for row in made:
        source = Path(row["source_path"])
        assert source.is_file() and str(source.relative_to(data)) not in held_out
        assert (source.parent.name == row["label"]) == (start == "own")
    assert {Path(r["source_path"]).parent.name for r in made if r["label"] == "bee"} <= classes["bee"]
    assert len({r["source_path"] for r in made}) > 4


def test_images_from_noise_have_no_source(trained, tmp_path):
    _, run = trained
    call("augment", run, "--out", tmp_path / "out", "--filter", "none", *NO_REPORT)
    assert {r["source_path"] for r in rows(tmp_path / "out") if r["synthetic"] == "true"} == {"-"}


def test_strength_0_gives_the_sources_and_the_copy_filter_rejects_them(trained, tmp_path):
    _, run = trained
    words = ("--from", "other", "--strength", 0, *NO_REPORT)
    call("augment", run, "--out", tmp_path / "copies", "--filter", "none", *words)
    for row in rows(tmp_path / "copies"):
        if row["synthetic"] == "true":
            made, source = (
                np.asarray(Image.open(p).convert("RGB"))
                for p in (tmp_path / "copies" / row["file_name"], row["source_path"])
            )
            assert np.abs(made.astype(int) - source).max() <= 1
    found = call_json("augment", run, "--out", tmp_path / "filtered", *words)
    assert not found["complete"] and not any(c["synthetic"] for c in found["classes"])


def test_copy_filter_compares_with_the_image_that_a_seed_starts_from():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 100, (12, 3, 8, 8), dtype=np.uint8)
    others = np.repeat(np.arange(120, 240, 10, dtype=np.uint8), 3 * 64).reshape(12, 3, 8, 8)
    keep = CopyFilter(real, origins=lambda seeds: others[seeds])
    fakes = np.concatenate([others[3:4], others[11:], real[:1]])
    assert keep(fakes, np.array([3, 5, 0])).tolist() == [False, True, False]


def test_another_place_of_the_data(trained, tmp_path):
    data, run = trained
    before = call_json("sample", run, "--from", "own", "--n", 2, "--out", tmp_path / "a", *CPU)
    moved = data.rename(data.with_name("moved"))
    try:
        call("sample", run, "--from", "own", "--n", 2, "--out", tmp_path / "b", *CPU, code=3)
        call("sample", run, "--from", "own", "--n", 2, "--data", moved, "--out", tmp_path / "c", *CPU)
        assert hashes(tmp_path / "a") == hashes(tmp_path / "c") and before["images"] == 6
        arrays = balancegan.load_run(run).sample("cat", n=2, from_="own", data=moved, device="cpu")
        assert np.array_equal(arrays[1], np.asarray(Image.open(tmp_path / "c" / "cat" / "1.png").convert("RGB")))
        call("sample", run, "--n", 2, "--out", tmp_path / "d", *CPU)  # noise needs no data
        said = call("sample", run, "--data", moved, "--out", tmp_path / "e", *CPU, code=2).stderr
        assert "--from own" in said
    finally:
        moved.rename(data)


def test_a_run_is_evaluated_as_it_would_be_sampled(trained, tmp_path, quick_reports):
    _, run = trained
    words = ("--images", 8, "--from", "own", "--strength", 0, "--metrics", "copies", "--no-utility", *CPU)
    found = call_json("evaluate", run, "--out", tmp_path / "report", *words)
    assert {c["name"]: c["copy_rate"] for c in found["classes"]}["ant"] > 0.9
    assert any("started from a real training image of its own class (strength 0)" in note for note in found["notes"])
    assert found["sampling"] == {"from": "own", "strength": 0.0, "guidance": None}


def test_the_report_shows_a_method_whose_latents_are_images(trained, tmp_path, quick_reports):
    _, run = trained
    words = ("--fill", "generated", "--filter", "none", "--from", "other")
    found = call_json("augment", run, "--out", tmp_path / "out", *words, *CPU)
    page = Path(found["report"]).read_text()
    assert "started from a real training image of another class" in page
    assert "another class (strength 0.6)" in (tmp_path / "out" / "README.md").read_text()
    assert "Between two latents" in page and "these latents are images of noise" in page


def test_what_does_not_apply_is_a_usage_error(trained, discs, tmp_path):
    data, run = trained
    gan = train_tiny(discs, tmp_path / "runs", steps=2, pretrain_steps=2)["run"]
    for words, expected in (
        (("augment", gan, "--from", "own", *NO_REPORT), "--from own does not apply to"),
        (("evaluate", gan, "--from", "own", *CPU), "--from own does not apply to"),
        (("sample", gan, "--guidance", 2, *CPU), "has no guidance"),
        (("augment", run, "--strength", 0.5, *NO_REPORT), "add --from own"),
        (("sample", run, "--from", "own", "--strength", 2, *CPU), "--strength"),
        (("evaluate", data, data, "--from", "own", *CPU), "apply to a run"),
    ):
        assert expected in call(*words, "--out", tmp_path / "out", code=2).stderr
    assert not (tmp_path / "out").exists()
