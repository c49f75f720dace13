"""Two kinds of synthetic images in one folder, and the generated ones beside it."""

import csv
import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import call, hashes, train_tiny, tree
from PIL import Image

from balancegan.commands import augment as command
from balancegan.commands.augment import AugmentOptions, augment
from balancegan.core.errors import CheckpointError, UsageError
from balancegan.data.variations import Changes
from balancegan.folder import recipe_search
from balancegan.folder.encode import Encoder
from balancegan.folder.quality_filter import QualityFilter, QualityKeep
from balancegan.folder.recipe import Amounts, Recipe, amounts
from balancegan.runs.directory import RunDir

pytestmark = pytest.mark.usefixtures("quick_reports")

CPU = torch.device("cpu")
NEW = {"bee": 16, "cat": 18}  # synthetic images that the classes get


def photographs(folder, counts):
    """JPEGs of several sizes and qualities."""
    rng = np.random.default_rng(len(str(counts)))
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            picture = coarse.resize((20 + 4 * (i % 3), 18 + 6 * (i % 2)), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{name}{i:02d}.jpg", quality=60 + 10 * (i % 4), subsampling=i % 3)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("jpeg")
    data = photographs(root / "photographs", {"ant": 24, "bee": 8, "cat": 6})
    before = tree(data)
    yield RunDir(train_tiny(data, root / "runs")["run"])
    assert tree(data) == before


def go(run, out, **options):
    return augment(run, AugmentOptions(out=out, **{"report": False, "filter": "none", **options}), device=CPU)


def rows(folder):
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_kind(folder, kind):
    return [row for row in rows(folder) if row["kind"] == kind]


@pytest.fixture
def no_share(monkeypatch):
    """The search finds that no generated image helps."""
    found = Recipe((0.0,) * 3, Changes(flips=True), "No generated image was used.", rows=())
    monkeypatch.setattr(command, "measured_recipe", lambda *args, **options: found)


def contents(folder):
    return {name: digest for name, digest in hashes(folder).items() if name != ".balancegan.json"}


def test_half_are_generated_and_half_are_transformed(run, tmp_path):
    document = go(run, tmp_path / "out", share=0.5)
    assert document["complete"] and document["share"] == 0.5 and document["imbalance_rate_after"] == 1
    found = {c["name"]: (c["synthetic"], c["generated"], c["transformed"]) for c in document["classes"]}
    assert found == {"ant": (0, 0, 0), "bee": (16, 8, 8), "cat": (18, 9, 9)}
    for kind, start in (("generated", "syn_00000_"), ("transformed", "aug_")):
        files = of_kind(tmp_path / "out", kind)
        assert Counter(row["label"] for row in files) == {"bee": 8, "cat": 9}
        assert all(Path(row["file_name"]).name.startswith(start) and row["synthetic"] == "true" for row in files)
    on_disk = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*.jpg")}
    assert {row["file_name"] for row in rows(tmp_path / "out")} == on_disk and len(on_disk) == 72
    assert len(set(hashes(tmp_path / "out").values())) == len(hashes(tmp_path / "out"))  # no two files are equal


def test_a_transformed_image_names_its_source_and_its_seed(run, tmp_path):
    go(run, tmp_path / "out", fill="transformed", seed=5)
    made = of_kind(tmp_path / "out", "transformed")
    assert Counter(row["label"] for row in made) == NEW
    for row in made:
        source = Path(row["source_path"])
        assert source.is_file() and source.parent.name == row["label"] and row["split"] == "train"
        assert Path(row["file_name"]).name == f"aug_{row['seed']}_{source.name}" and int(row["seed"]) >= 5
        assert (row["run"], row["checkpoint_sha256"]) == ("-", "-")
    used = Counter(row["source_path"] for row in made if row["label"] == "bee")
    assert max(used.values()) - min(used.values()) <= 1


def test_it_has_the_size_and_the_compression_of_its_source(run, tmp_path):
    go(run, tmp_path / "out", fill="transformed")
    sizes = set()
    for row in of_kind(tmp_path / "out", "transformed"):
        with Image.open(tmp_path / "out" / row["file_name"]) as made, Image.open(row["source_path"]) as source:
            assert (made.format, made.size, made.mode) == (source.format, source.size, source.mode)
            assert made.quantization == source.quantization
            sizes.add(made.size)
    assert len(sizes) > 3
    go(run, tmp_path / "small", fill="transformed", out_size="model", format="png")
    for row in of_kind(tmp_path / "small", "transformed"):
        with Image.open(tmp_path / "small" / row["file_name"]) as made:
            assert (made.format, made.size) == ("PNG", (16, 16))


def test_nothing_is_made_from_images_that_were_set_aside(run, split_discs, tmp_path):
    go(run, tmp_path / "flat", fill="transformed")
    held_out = set(run.read_json("dataset.json")["holdout"]["files"])
    data = Path(run.read_json("dataset.json")["data"])
    sources = {str(Path(row["source_path"]).relative_to(data)) for row in of_kind(tmp_path / "flat", "transformed")}
    assert held_out and sources and not sources & held_out
    tested = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    go(tested, tmp_path / "parts", share=0.25)
    made = of_kind(tmp_path / "parts" / "train", "transformed")
    assert made and all(Path(row["source_path"]).is_relative_to(split_discs / "train") for row in made)
    assert {row["kind"] for row in rows(tmp_path / "parts" / "test")} == {"real"}


def test_a_class_of_one_colour_falls_short(discs, tmp_path):
    for i, path in enumerate(sorted((discs / "cat").iterdir())):
        Image.new("RGB", (16, 16), (255, 255, 255) if i % 2 else (0, 0, 0)).save(path)
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    document = go(run, tmp_path / "out", fill="transformed")
    assert document["complete"] is False and document["short"] == ["cat"]
    assert {c["name"]: c["transformed"] for c in document["classes"]} == {"ant": 0, "bee": 16, "cat": 0}
    assert not list((tmp_path / "out" / "cat").glob("aug_*"))


def test_what_the_filter_refuses_is_topped_up(run, tmp_path, monkeypatch):
    from balancegan.sampling.samplers import Patience, Sampler

    monkeypatch.setattr(Sampler, "patience", Patience(2, 0.005, 100))
    monkeypatch.setattr(QualityFilter, "__call__", lambda self, images, label: np.zeros(len(images), bool))
    document = go(run, tmp_path / "out", share=0.5, filter="quality")
    assert document["complete"] and document["share"] == 0
    assert {c["name"]: c["transformed"] for c in document["classes"]} == {"ant": 0, **NEW}


def test_by_itself_it_measures_the_share_and_reaches_every_target(run, tmp_path):
    document = go(run, tmp_path / "out", report=True)
    assert document["complete"] and document["imbalance_rate_after"] == 1
    made = sum(c["generated"] for c in document["classes"])
    assert document["share"] == made / 34 and document["in_words"] and document["recipe"]
    assert {"share", "group", "score", "score_low", "score_high", "chosen"} <= set(document["recipe"][0])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["recipe"]["share"] == document["share"] and report["recipe"]["rows"] == document["recipe"]


def only(label):
    """Nothing but images of one class comes."""
    return lambda self, x: (torch.full((len(x),), label), torch.ones(len(x), dtype=torch.bool))


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_class_that_the_generator_never_makes_is_filled_all_the_same(discs, tmp_path, monkeypatch, share):
    from balancegan.methods.unconditional import UnconditionalGAN

    run = RunDir(train_tiny(discs, tmp_path / "runs", method="contrad", d_width=8)["run"])
    monkeypatch.setattr(UnconditionalGAN, "assign", only(0))
    monkeypatch.setattr("balancegan.sampling.langevin.STEPS", 1)
    document = go(run, tmp_path / "out", share=share)
    assert document["complete"] and document["share"] == 0
    assert {c["name"]: (c["transformed"], c["beside"]) for c in document["classes"]}["cat"] == (18, 0)


def test_no_folder_lies_beside_if_no_image_could_be_made(run, tmp_path, monkeypatch):
    from balancegan.folder.copy_filter import CopyFilter

    monkeypatch.setattr(CopyFilter, "__call__", lambda self, images, seeds: np.zeros(len(images), bool))
    document = go(run, tmp_path / "out", filter="copies")
    assert document["complete"] and document["generated_folder"] is None and not (tmp_path / "out-generated").exists()
    assert not any("out-generated" in line for line in document["in_words"])


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed_at", [1, 20])
@pytest.mark.usefixtures("no_share")
def test_a_killed_command_is_completed_byte_for_byte(run, tmp_path, monkeypatch, killed_at):
    go(run, tmp_path / "straight")
    calls, original = [], Encoder.transformed

    def dies(self, *args):
        calls.append(args)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        return original(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "transformed", dies)
        go(run, tmp_path / "out")
    monkeypatch.setattr(command, "measured_recipe", partial(pytest.fail, "the share was measured again"))
    assert go(run, tmp_path / "out")["complete"]
    for suffix in ("", "-generated"):
        found, expected = (contents(tmp_path / f"{name}{suffix}") for name in ("out", "straight"))
        assert found == expected and len(expected) > 30
    before = tree(tmp_path / "out"), tree(tmp_path / "out-generated")
    go(run, tmp_path / "out")
    assert before == (tree(tmp_path / "out"), tree(tmp_path / "out-generated"))  # all is there


def test_a_completed_command_takes_what_the_search_had_found(run, tmp_path, monkeypatch):
    """One sample in 50 passes the filter: the search drew more of them than the folder needs."""
    from balancegan.folder.copy_filter import CopyFilter

    def search(data, fill, drawn, *rest, **options):
        assert all(len(drawn(label, 100)) > 19 for label in (1, 2))  # of a thousand samples
        return Recipe((0.5,) * 3)

    monkeypatch.setattr(command, "measured_recipe", search)
    monkeypatch.setattr(CopyFilter, "__call__", lambda self, images, seeds: seeds % 50 == 0)
    straight = go(run, tmp_path / "straight", filter="copies")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "generated", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        go(run, tmp_path / "out", filter="copies")
    again = go(run, tmp_path / "out", filter="copies")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
    assert again["classes"] == straight["classes"]


def test_a_completed_command_keeps_the_filter_that_the_search_chose(run, tmp_path, monkeypatch):
    monkeypatch.setattr(QualityKeep, "__call__", lambda self, images, seeds: seeds % 3 == 0)
    monkeypatch.setattr(QualityFilter, "fit", partial(QualityFilter.fit, steps=2))
    monkeypatch.setattr(command, "measured_recipe", lambda *args, **options: Recipe((0.5,) * 3, filter="quality"))
    straight = go(run, tmp_path / "straight", filter="auto")
    assert straight["filter"] == "quality"
    seeds = [int(row["seed"]) for row in of_kind(tmp_path / "straight", "generated")]
    assert seeds and not any(seed % 3 for seed in seeds)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "generated", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        go(run, tmp_path / "out", filter="auto")
    monkeypatch.setattr(command, "measured_recipe", partial(pytest.fail, "the share was measured again"))
    assert go(run, tmp_path / "out", filter="auto")["classes"] == straight["classes"]
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_missing_files_are_made_again(run, tmp_path):
    go(run, tmp_path / "out", fill="transformed")
    lost = next((tmp_path / "out" / "bee").glob("aug_*"))
    before = lost.read_bytes()
    lost.unlink()
    go(run, tmp_path / "out", fill="transformed")
    assert lost.read_bytes() == before


def test_fewer_are_the_first_of_more_and_another_seed_gives_others(run, tmp_path):
    for name, options in {"all": {}, "few": {"counts": {"bee": 12}}, "other": {"seed": 1000}}.items():
        go(run, tmp_path / name, fill="transformed", **options)
    every, few, other = (
        {k: h for k, h in hashes(tmp_path / n).items() if "aug_" in k} for n in ("all", "few", "other")
    )
    assert len(few) == 4 and few.items() <= every.items() and not {*every.values()} & {*other.values()}


# --- beside the folder ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_share")
def test_generated_images_lie_beside_a_folder_that_does_not_use_them(run, tmp_path):
    document = go(run, tmp_path / "out")
    beside = tmp_path / "out-generated"
    assert document["generated_folder"] == str(beside) and document["share"] == 0
    assert {c["name"]: c["beside"] for c in document["classes"]} == {"ant": 0, **NEW}
    found = rows(beside)
    assert {row["kind"] for row in found} == {"generated"} and Counter(row["label"] for row in found) == NEW
    assert {row["file_name"] for row in found} == {str(p.relative_to(beside)) for p in beside.glob("*/*.jpg")}
    assert not of_kind(tmp_path / "out", "generated") and any(str(beside) in line for line in document["in_words"])
    go(run, tmp_path / "filled", fill="generated")
    made = {k: h for k, h in hashes(tmp_path / "filled").items() if "syn_" in k}
    assert made == {k: h for k, h in hashes(beside).items() if "syn_" in k}  # those that it would have used


@pytest.mark.usefixtures("no_share")
def test_the_folder_beside_has_no_splits(split_discs, tmp_path):
    run = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    go(run, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out-generated").iterdir() if p.is_dir()) == ["bee", "cat"]


@pytest.mark.usefixtures("no_share")
def test_a_folder_beside_that_is_somebody_elses_is_refused(run, tmp_path):
    other = tmp_path / "out-generated"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="out-generated"):
        go(run, tmp_path / "out")
    assert [path.name for path in other.iterdir()] == ["thesis.txt"] and not (tmp_path / "out").exists()
    assert go(run, tmp_path / "out", fill="transformed")["generated_folder"] is None  # which does not need it


def test_three_for_each_real_image_and_no_more_than_was_made():
    fill, real = (0, 900, 90), (1000, 100, 10)
    found = amounts(Recipe((0.0, 0.5, 0.0)), fill, real, beside=True)
    assert found == [Amounts(0, 0), Amounts(450, 450, 300), Amounts(0, 90, 30)]
    assert amounts(Recipe((0.0,) * 3, hopeless=True), fill, real, beside=True)[1] == Amounts(0, 900, 64)
    assert amounts(Recipe((1.0,) * 3), fill, real, beside=True)[1] == Amounts(900, 0, 0)
    assert amounts(Recipe((0.0,) * 3), fill, real, beside=False)[2] == Amounts(0, 90, 0)


# --- options ----------------------------------------------------------------------------------------------------------


def test_transformed_images_need_no_trained_generator(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs", max_seconds=0.0)["run"])
    assert go(run, tmp_path / "out", fill="transformed")["complete"]
    with pytest.raises(CheckpointError):
        go(run, tmp_path / "other", share=0.5)


def test_a_share_contradicts_a_fill_of_one_kind(run, tmp_path):
    for fill in ("generated", "transformed"):
        words = ("augment", run.path, "--out", tmp_path / "out", "--device", "cpu", "--share", 0.5, "--fill", fill)
        assert f"--fill {fill}" in call(*words, code=2).stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fill", ["generated", "transformed"])
def test_what_the_user_decides_is_not_measured(run, tmp_path, monkeypatch, fill):
    monkeypatch.setattr(command, "measured_recipe", partial(pytest.fail, "measured"))
    document = go(run, tmp_path / "out", fill=fill)
    assert document["share"] == float(fill == "generated") and document["recipe"] == []
    assert not (tmp_path / "out-generated").exists()


def test_the_search_sees_no_image_behind_the_verdict(split_discs, tmp_path, monkeypatch):
    """A val split decides where there is a test split too; else the training images do."""
    seen = []

    def look(material, real, fill, *rest, **options):
        seen.append(material)
        return Recipe((0.0,) * 3)

    monkeypatch.setattr(recipe_search, "search_recipe", look)
    go(RunDir(train_tiny(split_discs, tmp_path / "runs")["run"]), tmp_path / "a")
    photographs(split_discs / "val", {"ant": 5, "bee": 4, "cat": 4})
    go(RunDir(train_tiny(split_discs, tmp_path / "runs")["run"]), tmp_path / "b")
    (split_discs / "test").rename(tmp_path / "elsewhere")
    go(RunDir(train_tiny(split_discs, tmp_path / "runs")["run"]), tmp_path / "c")
    assert [material.kind for material in seen] == ["folds", "val", "folds"]
    assert [len(material.real) for material in seen] == [38, 38, 38] and len(seen[1].test) == 13
    assert [material.may_have_seen for material in seen] == [True, False, True]
    assert seen[0].test is seen[2].test is None
