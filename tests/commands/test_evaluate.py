"""`evaluate`: a run, or two folders; what is found in fakes whose faults are known, and what is refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import call, call_json, hashes, train_tiny, write_images
from PIL import Image

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.evaluate import EvaluateOptions, evaluate_run
from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.core.errors import CheckpointError, DatasetError, UsageError, WeightsMissingError
from balancegan.evaluation.assembly import Judging, parse_metrics
from balancegan.evaluation.measures import METRICS
from balancegan.metrics.extractors import choose
from balancegan.report.figures import write_figures
from balancegan.runs.directory import RunDir
from balancegan.verdict.material import not_measured
from balancegan.verdict.rule import parse_least

pytestmark = pytest.mark.usefixtures("quick_reports", "plain_search")

CPU = torch.device("cpu")
CLASS_KEYS = {
    *("name", "n_real", "n_fake", "fid", "fid_floor", "kid", "kid_std", "ssim"),
    *("precision", "recall", "density", "coverage", "copy_rate"),
    *("swd", "swd_floor", "detail", "recognised", "recognised_real", "just_above"),
}


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def judging(**options):
    return Judging(choose("own"), CPU, **{"utility": False, **options})


def folders(real, fake, out="report", *, notes=None, **options):
    """Evaluate two folders; measures only, unless `utility` is asked for."""
    wanted = {key: options.pop(key) for key in ("image_size", "fail_under", "group_by") if key in options}
    return evaluate_folders(real, fake, EvaluateOptions(out=Path(out), **wanted), judging(**options))


def report_of(out="report"):
    return json.loads((Path(out) / "report.json").read_text())


def row_of(document, name):
    return next(row for row in document["classes"] if row["name"] == name)


def texts(document, name=None, level=None):
    return " ".join(f["text"] for f in document["findings"] if f["class"] == name and level in (None, f["level"]))


def write_blobs(folder, counts, *, seed=0, start=0, mode="RGB", size=16, suffix="png"):
    """Smooth random images, each class of another mean colour; `start` names the first file."""
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, k])
        for i in range(count):
            coarse = rng.integers(0, 120, (4, 4, 3)) + np.roll((100, 30, 0), k)
            image = Image.fromarray(coarse.repeat(size // 4, 0).repeat(size // 4, 1).astype(np.uint8))
            image.convert(mode).save(folder / name / f"{start + i:03d}.{suffix}")
    return folder


@pytest.fixture
def halves(tmp_path):
    """Two halves of one random set."""
    counts = {"ant": 60, "bee": 30}
    return write_blobs(tmp_path / "real", counts, seed=1), write_blobs(tmp_path / "fake", counts, seed=2)


# --- two folders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """The report on two halves of one set with a test split: real images as good as they come."""
    from balancegan.metrics.classifier_features import OwnExtractor

    root = tmp_path_factory.mktemp("halves")
    counts = {"ant": 60, "bee": 60}
    for split, seed in (("train", 1), ("test", 2)):
        write_blobs(root / "real" / split, counts, seed=seed)
    write_blobs(root / "fake", counts, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=10))
        patch.setenv("BALANCEGAN_CACHE_DIR", str(root / "cache"))
        return folders(root / "real", root / "fake", root / "report"), report_of(root / "report")


def test_two_halves_of_one_set_are_alike(even):
    document, _ = even
    for row in document["classes"]:
        assert row["reference"] == "holdout" and row["n_real"] == row["n_fake"] == 60
        assert row["copy_rate"] == 0 and row["fid"] < row["fid_floor"]  # of halves of half as many images
        assert abs(row["kid"]) < 3 * row["kid_std"] and row["recall"] > 0.6 and row["precision"] > 0.6
    overall = document["overall"]
    assert overall["n_real"] == 120 and overall["fid"] < overall["fid_floor"]
    assert not texts(document, level="warning") and not texts(document, "ant", "warning")


def test_the_documents_of_two_folders(even):
    document, report = even
    json.dumps(document, allow_nan=False)
    assert document["schema_version"] == 1 and document["extractor"] == "own" and document["gate"] is None
    assert all(row.keys() >= CLASS_KEYS for row in document["classes"])
    assert {"fid", "kid", "inception_score", "inception_score_std"} <= document["overall"].keys()
    assert Path(document["report"]).is_file() and Path(document["real"]).is_absolute()
    assert report["origin"] == "folders" and (report["run"], report["method"]) == ("", "")
    assert (report["num_real"], report["num_synthetic"]) == (120, 120)
    assert any("not known" in note and "test split" in note for note in report["notes"])


def test_without_a_test_split_half_of_the_real_images_is_the_reference(halves):
    document = folders(*halves)
    assert [(row["reference"], row["n_real"], row["n_fake"]) for row in document["classes"]] == [
        ("real", 30, 60),
        ("real", 15, 30),
    ]
    assert [row["n_train"] for row in document["classes"]] == [60, 30]  # among which copies are searched
    assert [row["recognised_real_n"] for row in document["classes"]] == [30, 15]  # which the classifier did not see
    assert any("half of the real images" in note for note in report_of()["notes"])
    assert {p.name for p in Path("report").iterdir()} == {"report.html", "report.json"}


def test_copies_are_flagged(halves):
    real, fake = halves
    for i in range(20):
        shutil.copy(real / "bee" / f"{i:03d}.png", fake / "bee" / f"{i:03d}.png")
    document = folders(real, fake)
    bee = row_of(document, "bee")
    assert bee["copy_rate"] == pytest.approx(2 / 3, abs=0.05) and row_of(document, "ant")["copy_rate"] == 0
    assert "Copies" in texts(document, "bee", "warning") and "Copies" not in texts(document, "ant")
    assert {f"{p['fake']:03d}" for p in row_of(report_of(), "bee")["pairs"][:4]} <= {f"{i:03d}" for i in range(20)}


def test_one_repeated_image_is_flagged(halves):
    real, fake = halves
    for i in range(1, 30):
        shutil.copy(fake / "bee" / "000.png", fake / "bee" / f"{i:03d}.png")
    document = folders(real, fake)
    assert "Mode collapse" in texts(document, "bee", "warning") and not texts(document, "ant", "warning")
    bee, ant = row_of(document, "bee"), row_of(document, "ant")
    assert bee["recall"] < 0.1 < ant["recall"] and bee["spread_fake"] == 0


def test_a_class_without_fakes_is_null(halves):
    real, fake = halves
    shutil.rmtree(fake / "bee")  # a single class is left
    document = folders(real, fake)
    bee = row_of(document, "bee")
    assert bee["n_fake"] == 0 and bee["fid"] is bee["copy_rate"] is None
    assert row_of(report_of(), "bee")["reasons"]["fid"]
    assert row_of(document, "ant")["fid"] is not None


def test_a_class_that_the_real_folder_lacks_is_left_out_with_a_warning(halves):
    real, fake = halves
    shutil.copytree(fake / "bee", fake / "wasp")
    document = folders(real, fake)
    assert [row["name"] for row in document["classes"]] == ["ant", "bee"]
    assert "wasp" in texts(document, level="warning")


def test_no_class_in_common_is_a_mistake(halves):
    real, fake = halves
    for name in ("ant", "bee"):
        (fake / name).rename(fake / f"{name}_gen")
    with pytest.raises(UsageError, match="no class in common") as caught:
        folders(real, fake)
    assert "ant_gen" in caught.value.hint and "ant" in caught.value.hint
    assert not Path("report").exists()


def test_fakes_in_one_folder_without_classes_are_a_mistake(halves):
    with pytest.raises(DatasetError):
        folders(halves[0], halves[1] / "ant")


def test_one_real_class_is_measured_without_a_verdict(halves):
    real, fake = halves
    shutil.rmtree(real / "bee")
    document = folders(real, fake, utility=True)
    assert document["utility"]["verdict"] is None and "two classes" in document["utility"]["note"]
    assert document["classes"][0]["fid"] is not None and "bee" in texts(document, level="warning")


def test_classes_are_matched_by_name_not_by_position(tmp_path):
    real = write_blobs(tmp_path / "real", {"ant": 30, "bee": 20}, seed=1)
    fake = write_blobs(tmp_path / "fake", {"ant": 30, "bee": 20}, seed=2)
    (fake / "ant").rename(fake / "zebra")
    document = folders(real, fake)
    assert row_of(document, "ant")["n_fake"] == 0 and row_of(document, "bee")["n_fake"] == 20


@pytest.mark.parametrize("modes", [("L", "RGB"), ("RGB", "L")])
def test_grey_beside_colour(tmp_path, modes):
    real, fake = (
        write_blobs(tmp_path / name, {"ant": 24, "bee": 24}, seed=k, mode=mode)
        for k, (name, mode) in enumerate(zip(("real", "fake"), modes, strict=True))
    )
    document = folders(real, fake)
    assert row_of(document, "ant")["fid"] > 0
    twins = write_blobs(tmp_path / "twins", {"ant": 24, "bee": 24}, seed=0, mode="L")
    if modes[0] == "L":
        assert row_of(folders(real, twins), "ant")["copy_rate"] == 1


def test_different_sizes_are_compared_at_the_fakes(tmp_path):
    real = write_blobs(tmp_path / "real", {"ant": 24, "bee": 24}, seed=1, size=64)
    fake = write_blobs(tmp_path / "fake", {"ant": 24, "bee": 24}, seed=1, size=16)
    document = folders(real, fake, utility=True)
    assert row_of(document, "ant")["copy_rate"] == 1  # the same images, smaller
    assert report_of()["utility"]["image_size"] == 16
    folders(real, fake, utility=True, image_size=24)
    assert report_of()["utility"]["image_size"] == 24


def test_the_splits_say_what_is_tested_with(split_discs, tmp_path):
    fake = write_images(tmp_path / "fake", {"ant": 9, "bee": 9, "cat": 9}, seed=4)
    document = folders(split_discs, fake, utility=True)
    assert document["utility"]["test"] == {"kind": "test", "n": {"ant": 6, "bee": 5, "cat": 4}, "total": 15}
    assert [row["n_train"] for row in document["classes"]] == [24, 8, 6]
    (split_discs / "test").rename(split_discs / "val")
    assert folders(split_discs, fake, utility=True)["utility"]["test"]["kind"] == "val"


def test_without_splits_the_verdict_comes_with_a_warning(tmp_path):
    real = write_images(tmp_path / "real", {"ant": 24, "bee": 20, "cat": 6})
    fake = write_images(tmp_path / "fake", {"ant": 9, "bee": 9, "cat": 9}, seed=4)
    document = folders(real, fake, utility=True)
    assert document["utility"]["test"]["kind"] == "splits" and document["utility"]["verdict"]
    assert any("not known" in text for text in document["utility"]["warnings"])
    assert document["utility"]["arms"] and document["utility"]["classes"]


def test_siblings_of_the_real_images_are_split_as_one(balanced, tmp_path, monkeypatch):
    """And of a balanced folder, only the real images are searched."""
    asked = {}

    def found(folder, store, rule, *, among, progress):
        asked.update(rule=rule, among=among.copy())
        return np.array([0 if f.rel.startswith("bee") else int(Path(f.rel).stem) // 3 + 1 for f in store.files])

    def material_of(material, *rest):
        asked["material"] = material()
        return not_measured("")

    monkeypatch.setattr("balancegan.commands.evaluate_folders.image_groups", found)
    monkeypatch.setattr("balancegan.evaluation.assembly.verdict_of", material_of)
    document = folders(balanced, write_blobs(tmp_path / "fake", {"ant": 9, "bee": 9}, seed=5), utility=True)
    assert asked["rule"] == "auto" and asked["among"].sum() == 40
    assert asked["material"].groups.tolist() == [*np.repeat(range(1, 11), 3), *[0] * 10]
    assert "All real images of bee belong to one group: no honest test is possible." in document["notes"]
    assert [row["n_real"] for row in document["classes"]] == [15, 5]  # the half that the features were not trained on


def judged_on(monkeypatch, folder, siblings, fake):
    """The material of the verdict where `siblings` numbers the groups of files."""
    asked = {}

    def found(folder, store, rule, *, among, progress):
        return np.array([siblings(f.rel) for f in store.files])

    def material_of(material, *rest):
        asked["material"] = material()
        return not_measured("")

    monkeypatch.setattr("balancegan.commands.evaluate_folders.image_groups", found)
    monkeypatch.setattr("balancegan.evaluation.assembly.verdict_of", material_of)
    folders(folder, fake, utility=True)
    return asked["material"]


def test_test_images_with_siblings_in_training_are_left_out_of_the_test(split_discs, tmp_path, monkeypatch):
    fake = write_images(tmp_path / "fake", {"ant": 9, "bee": 9, "cat": 9}, seed=4)
    number = {rel: k for k, rel in enumerate(sorted(hashes(split_discs)))}
    shown_twice = [rel for rel in number if rel.startswith("test/ant")][:2]
    same = dict(zip(shown_twice, [rel for rel in number if rel.startswith("train/ant")], strict=False))
    material = judged_on(monkeypatch, split_discs, lambda rel: number[same.get(rel, rel)], fake)
    assert material.leaks == 2 and len(material.test) == 13
    assert np.bincount(material.test.labels).tolist() == [4, 5, 4]


def test_groups_can_be_named(split_discs, tmp_path):
    fake = write_images(tmp_path / "fake", {"ant": 9, "bee": 9, "cat": 9}, seed=4)
    together = ["test/ant/000.png", "train/ant/000.png"]
    assert all((split_discs / name).is_file() for name in together)
    Path("groups.csv").write_text("file_name,group\n" + "".join(f"{name},x\n" for name in together))
    document = folders(split_discs, fake, utility=True, group_by="groups.csv")
    assert document["utility"]["test"]["n"] == {"ant": 5, "bee": 5, "cat": 4}
    assert "1 of 15 test images has siblings among the training images (ant 1)" in texts(document)
    with pytest.raises(UsageError, match="not a regular expression"):
        folders(split_discs, fake, group_by="(")


# --- a folder that augment wrote --------------------------------------------------------------------------------------


def with_metadata(folder, synthetic):
    """Make it look as if `augment` had added the synthetic files."""
    lines = ["file_name,label,synthetic"]
    for path in sorted(folder.glob("*/*.png")):
        name = path.relative_to(folder).as_posix()
        lines.append(f"{name},{path.parent.name},{'true' if synthetic(path) else 'false'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def balanced(tmp_path):
    """Thirty real ants; ten real and twenty synthetic bees."""
    folder = write_blobs(tmp_path / "balanced", {"ant": 30, "bee": 10}, seed=1)
    write_blobs(folder, {"ant": 0, "bee": 20}, seed=2, start=100)
    return with_metadata(folder, lambda path: int(path.stem) >= 100)


def test_of_a_balanced_folder_only_the_synthetic_images_are_the_fakes(balanced, tmp_path):
    real = write_blobs(tmp_path / "real", {"ant": 30, "bee": 10}, seed=1)
    document = folders(real, balanced)
    assert [row["n_fake"] for row in document["classes"]] == [0, 20] and row_of(document, "bee")["copy_rate"] == 0


def test_of_a_balanced_folder_only_the_real_images_are_real(balanced, tmp_path):
    fake = write_blobs(tmp_path / "fake", {"ant": 10, "bee": 10}, seed=5)
    document = folders(balanced, fake)
    assert [row["n_train"] for row in document["classes"]] == [30, 10]


def test_a_balanced_folder_is_evaluated_against_itself(balanced):
    assert [(row["n_train"], row["n_fake"]) for row in folders(balanced, balanced)["classes"]] == [(30, 0), (10, 20)]


def test_a_balanced_folder_with_splits(balanced, tmp_path):
    folder = tmp_path / "splits"
    folder.mkdir()
    balanced.rename(folder / "train")
    write_blobs(folder / "test", {"ant": 12, "bee": 12}, seed=7)
    document = folders(folder, folder)
    assert [(row["n_train"], row["n_holdout"], row["n_fake"]) for row in document["classes"]] == [
        (30, 12, 0),
        (10, 12, 20),
    ]


def test_a_balanced_folder_that_needed_nothing_has_no_fakes(balanced, halves):
    with pytest.raises(UsageError, match="no synthetic image"):
        folders(halves[0], with_metadata(balanced, lambda path: False))


def test_the_size_is_that_of_the_synthetic_images(tmp_path):
    real = write_blobs(tmp_path / "real", {"ant": 30, "bee": 12}, seed=1, size=64)
    both = write_blobs(tmp_path / "both", {"ant": 30, "bee": 12}, seed=1, size=64)
    write_blobs(both, {"ant": 0, "bee": 18}, seed=2, start=100)
    folders(real, with_metadata(both, lambda path: int(path.stem) >= 100), utility=True)
    assert report_of()["utility"]["image_size"] == 16


def test_a_metadata_table_without_that_column_says_nothing(halves):
    (halves[1] / "metadata.csv").write_text("file_name,caption\nant/000.png,an ant\n")
    assert [row["n_fake"] for row in folders(*halves)["classes"]] == [60, 30]


# --- where the report goes --------------------------------------------------------------------------------------------


def test_a_folder_with_other_files_is_refused_and_untouched(halves):
    out = Path("report")
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        folders(*halves)
    assert hashes(out) == {"thesis.txt": hashes(out)["thesis.txt"]} and (out / "thesis.txt").read_text() == "mine"
    Path("file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        folders(*halves, out="file")
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("inside", ["real", "real/ant", "real/report", "fake", "fake/bee/new"])
def test_a_folder_of_the_data_is_refused(halves, tmp_path, inside):
    before = [hashes(path) for path in halves]
    with pytest.raises(UsageError, match=r"source|other files"):
        folders(*halves, out=tmp_path / inside)
    assert [hashes(path) for path in halves] == before


def test_the_data_is_not_touched_and_a_second_call_replaces_the_report(halves):
    before = [hashes(path) for path in halves]
    first = folders(*halves)
    (Path("report") / "report.html").write_text("old")
    again = folders(*halves, metrics=frozenset({"ssim"}))
    assert "<h1>" in (Path("report") / "report.html").read_text()
    assert row_of(report_of(), "ant")["fid"] is None and row_of(again, "ant")["ssim"] == row_of(first, "ant")["ssim"]
    assert [hashes(path) for path in halves] == before


def test_the_same_folders_give_the_same_numbers(halves):
    first, again = folders(*halves, utility=True), folders(*halves, out="again", utility=True)
    assert first["classes"] == again["classes"] and first["overall"] == again["overall"]
    assert first["utility"] == again["utility"]


@pytest.mark.parametrize("name", ["data", "images"])
def test_options_of_a_run_are_refused_for_folders(halves, name):
    with pytest.raises(UsageError, match="only to a run"):
        evaluate_folders(*halves, EvaluateOptions(**{name: 5}), judging())


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = write_images(tmp_path_factory.mktemp("data") / "discs", {"ant": 60, "bee": 12, "cat": 8})
    return RunDir(train_tiny(data, tmp_path_factory.mktemp("runs"))["run"])


def of_run(run, **options):
    wanted = {key: options.pop(key) for key in tuple(options) if key in EvaluateOptions.__dataclass_fields__}
    return evaluate_run(run, EvaluateOptions(**{"images": 20, **wanted}), judging(**options))


def test_a_run_is_reported_on_in_its_folder(trained, monkeypatch):
    monkeypatch.setattr("balancegan.report.write.write_figures", write_figures)
    monkeypatch.setattr("balancegan.verdict.scores.MIN_TEST", 1)
    document = of_run(trained, utility=True)
    out = trained.path / "report"
    assert {p.name for p in out.iterdir()} == {"report.html", "report.json", "figures"}
    assert {"class_counts.png", "class_counts.svg"} <= {p.name for p in (out / "figures").iterdir()}
    json.dumps(document, allow_nan=False)
    assert document["run"] == str(trained.path) and document["report"] == str(out / "report.html")
    assert all(row.keys() >= CLASS_KEYS for row in document["classes"])
    assert {"fid", "kid", "inception_score", "inception_score_std"} <= document["overall"].keys()
    assert document["utility"]["test"]["kind"] == "holdout" and document["utility"]["arms"]
    report = report_of(out)
    assert report["origin"] == "run" and report["run"] == trained.name
    assert [(row["real"], row["synthetic"]) for row in report["classes"]] == [(60, 0), (12, 48), (8, 52)]
    assert [row["n_fake"] for row in report["classes"]] == [20, 48, 52]
    counts = next(arm for arm in report["utility"]["arms"] if arm["name"] == "real + synthetic")["train_images"]
    held = report["utility"]["test"]["n"]
    assert counts == {name: 60 - held[name] for name in ("ant", "bee", "cat")}
    assert {plot["id"] for plot in report["embeddings"]} >= {"latents", "plain_latents"}


def test_the_images_of_a_run_are_those_that_augment_would_write_unfiltered(trained, tmp_path):
    options = AugmentOptions(out=tmp_path / "out", fill="generated", filter="none", report=False)
    augment(trained, options, device=CPU)
    document = folders(Path(trained.read_json("dataset.json")["data"]), tmp_path / "out", metrics=frozenset({"ssim"}))
    assert [row["n_fake"] for row in document["classes"]] == [0, 48, 52]


def test_a_runs_report_can_go_elsewhere(trained, tmp_path):
    document = of_run(trained, out=tmp_path / "here", metrics=frozenset({"ssim"}))
    assert Path(document["report"]) == tmp_path / "here" / "report.html" and Path(document["report"]).is_file()
    with pytest.raises(UsageError, match="source"):
        of_run(trained, out=Path(trained.read_json("dataset.json")["data"]) / "report")


def test_only_what_is_asked_for_is_measured(trained, tmp_path):
    of_run(trained, out=tmp_path / "here", metrics=frozenset({"fid"}))
    report = report_of(tmp_path / "here")
    row = row_of(report, "bee")
    assert row["fid"] is not None and report["overall"]["fid"] is not None
    for key in ("kid", "ssim", "copy_rate", "ssim_within_fake"):
        assert row[key] is None and row["reasons"][key] == "Not requested."
    assert row["precision"] is None and row["reasons"]["prdc"] == "Not requested."
    assert report["overall"]["kid"] is None and report["overall"]["inception_score_reason"] == "Not requested."
    assert "turned off" in report["utility"]["note"] and report["utility"]["verdict"] is None


def test_an_unfinished_run_is_warned_of(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs", steps=6)["run"])
    settings = run.path / "config.yaml"
    settings.write_text(settings.read_text().replace("steps: 6", "steps: 60"))
    document = of_run(run, metrics=frozenset({"ssim"}))
    assert "not finished" in texts(document, level="warning")


def test_a_run_without_adversarial_steps_is_refused(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs", max_seconds=0.0)["run"])
    with pytest.raises(CheckpointError):
        of_run(run)


def test_the_image_size_is_the_runs(trained):
    with pytest.raises(UsageError, match="--image-size"):
        of_run(trained, image_size=32)


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_names_of_measures_are_checked():
    assert parse_metrics([]) == frozenset(METRICS) and parse_metrics(["fid", "is"]) == {"fid", "is"}
    with pytest.raises(UsageError, match="foo") as caught:
        parse_metrics(["fid", "foo"])
    assert "prdc" in caught.value.hint


def test_the_least_that_passes():
    given = {None: None, "use": "use", "no-difference": "no-difference", "1.5": 1.5, "-2": -2.0}
    assert {text: parse_least(text, utility=True) for text in given} == given
    for bad in ("maybe", "do-not-use", "nan", "inf", "1.5%", ""):
        with pytest.raises(UsageError, match="--fail-under"):
            parse_least(bad, utility=True)
    with pytest.raises(UsageError, match="verdict"):
        parse_least("use", utility=False)
    assert parse_least(None, utility=False) is None


def test_the_extractor_is_chosen(tmp_path, monkeypatch):
    weights = tmp_path / "inception.pth"
    weights.write_bytes(b"")
    assert (choose().name, choose("own").weights) == ("own", None)
    assert (choose("auto", weights).name, choose("resnet50", weights).weights) == ("inception", weights)
    for name in ("inception", "resnet50"):
        with pytest.raises(WeightsMissingError) as caught:
            choose(name)
        assert caught.value.hint
    with pytest.raises(WeightsMissingError):
        choose("auto", tmp_path / "absent.pth")
    with pytest.raises(UsageError, match="no --weights"):
        choose("own", weights)
    with pytest.raises(UsageError, match="foo"):
        choose("foo")
    monkeypatch.setenv("BALANCEGAN_INCEPTION_WEIGHTS", str(weights))
    assert choose().name == "inception" and choose("own").name == "own" and choose().slow_on_cpu
    chosen = (("auto", "cpu"), ("own", "cpu"), ("auto", "cuda"))
    slow, fast, gpu = (Judging(choose(name), torch.device(where)).limit for name, where in chosen)
    assert slow < fast == gpu


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_on_two_folders(halves):
    document = call_json("evaluate", "real", "fake", "--seeds", 1, "--device", "cpu")
    assert document["utility"]["verdict"] and document["utility"]["seeds"] == 1 and document["gate"] is None
    assert Path(document["report"]) == Path("evaluation/report.html").absolute()
    shown = call("evaluate", "real", "fake", "--seeds", 1, "--metrics", "fid,copies").stdout
    assert "verdict: " in shown and "ant" in shown and "evaluation" in shown and "balanced accuracy" in shown


def test_below_the_gate_is_9_with_one_document(halves):
    result = call("evaluate", "real", "fake", "--fail-under=90", "--seeds", 1, "--metrics=ssim", "--json", code=9)
    document = json.loads(result.stdout)  # one and nothing else
    assert "below --fail-under" in result.stderr
    assert document["gate"]["passed"] is False and document["gate"]["reason"] and document["gate"]["fail_under"] == 90
    assert Path(document["report"]).is_file()
    passed = call_json("evaluate", "real", "fake", "--fail-under=-90", "--seeds", 1, "--metrics", "ssim")
    assert passed["gate"] == {"fail_under": -90, "passed": True, "reason": None}


def test_the_gate_needs_a_verdict(halves):
    shutil.rmtree("real/bee")
    document = call_json("evaluate", "real", "fake", "--fail-under", "no-difference", "--metrics", "ssim", code=9)
    assert "no verdict was reached" in document["gate"]["reason"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["real", "fake", "--fail-under", "maybe"], 2, "no-difference"),
        (["real", "fake", "--metrics", "foo"], 2, "prdc"),
        (["real", "fake", "--extractor", "foo"], 2, "resnet50"),
        (["real", "fake", "--fail-under", "use", "--no-utility"], 2, "--no-utility"),
        (["real", "fake", "--extractor", "inception"], 7, "weights fetch"),
        (["real", "fake", "--weights", "absent.pth"], 7, "absent.pth"),
        (["real", "absent"], 2, "absent"),
        (["absent", "fake"], 2, "absent"),
        (["real"], 2, "real is not a run"),
        (["runs/00003", "fake"], 2, "runs/00003"),
        ([], 2, "balancegan train"),
        (["real", "fake/ant"], 3, "class"),
        (["real", "fake", "--images", "5"], 2, "only to a run"),
        (["real", "fake", "--device", "banana"], 2, "cpu"),
        (["real", "fake", "--out", "real/report"], 2, "source"),
        (["real", "fake/ant/000.png"], 3, "000.png"),
    ],
)
def test_mistakes_get_a_line_and_the_right_exit_code(halves, args, code, words):
    result = call("evaluate", *args, code=code)
    assert words in result.stderr.replace("\n", "")
    assert len([line for line in result.stderr.splitlines() if line.lower().startswith("error:")]) == 1
    assert not Path("evaluation").exists()


def test_a_folder_without_its_fakes_gets_the_right_hint(halves):
    assert "FAKE" in call("evaluate", "real", code=2).stderr


def test_settings_of_the_training_do_not_stop_the_evaluation_of_a_run(trained, monkeypatch):
    monkeypatch.setenv("BALANCEGAN_IMAGE_SIZE", "16")
    call("evaluate", trained.path, "--no-utility", "--metrics", "ssim", "--images", 10, "--out", "here")
