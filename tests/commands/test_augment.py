"""The balanced folder: counts, bytes, metadata, determinism, resuming, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import hashes, train_tiny, write_images
from PIL import Image
from torchvision.datasets import ImageFolder

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.core.errors import DatasetError, DiskError, UsageError
from balancegan.folder.recipe import targets
from balancegan.methods import METHODS, load_method
from balancegan.report.figures import write_figures
from balancegan.runs.directory import RunDir

pytestmark = pytest.mark.usefixtures("quick_reports")

CPU = torch.device("cpu")
COLUMNS = ["file_name", "label", "kind", "synthetic", "run", "seed", "checkpoint_sha256", "source_path", "split"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(discs, tmp_path):
    return RunDir(train_tiny(discs, tmp_path / "runs")["run"])


@pytest.fixture
def tested(split_discs, tmp_path):
    """A run on data with enough test images for a verdict."""
    return RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])


def go(run, out, **options):
    settings = {"fill": "generated", "filter": "none", "report": False, **options}
    return augment(run, AugmentOptions(out=out, **settings), device=CPU)


def test_balanced_counts_and_untouched_source(discs, run, tmp_path):
    before = hashes(discs)
    document = go(run, tmp_path / "out")
    assert document["complete"] and document["imbalance_rate_before"] == 4 and document["imbalance_rate_after"] == 1
    assert [(c["name"], c["real"], c["synthetic"]) for c in document["classes"]] == [
        ("ant", 24, 0),
        ("bee", 8, 16),
        ("cat", 6, 18),
    ]
    assert hashes(discs) == before
    out = hashes(tmp_path / "out")
    assert all(out[name] == digest for name, digest in before.items())  # byte for byte, the held-out part too
    data = ImageFolder(tmp_path / "out")
    assert data.classes == ["ant", "bee", "cat"] and np.bincount(data.targets).tolist() == [24, 24, 24]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_a_folder_and_reports(discs, tmp_path, method, monkeypatch):
    monkeypatch.setattr("balancegan.sampling.langevin.STEPS", 5)
    narrow = {"d_width": 16} if "d_width" in load_method(method).Config.__dataclass_fields__ else {}
    run = RunDir(train_tiny(discs, tmp_path / "runs", method=method, **narrow)["run"])
    document = go(run, tmp_path / "out", report=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["method"] == load_method(method).title
    made = {c["name"]: c["synthetic"] for c in report["classes"]}
    assert (document["assignment"] is None) == load_method(method).conditional
    assert any("linear evaluator" in note for note in report["notes"]) != load_method(method).conditional
    short = [name for name, n in {"ant": 0, "bee": 16, "cat": 18}.items() if made[name] < n]
    # A generator without classes that saw six batches may never make one of them: then the folder says so.
    assert document["short"] == short and document["complete"] == (not short)
    assert not short or not load_method(method).conditional
    again = go(RunDir(run.path), tmp_path / "again", seed=0)
    fakes = [
        {n: d for n, d in hashes(folder).items() if "syn_" in n} for folder in (tmp_path / "out", tmp_path / "again")
    ]
    assert again["short"] == short and fakes[0] == fakes[1] and len(fakes[0]) == sum(made.values())


def test_a_run_on_thinned_images_fills_no_folder(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs", train_ir=10.0)["run"])
    assert run.read_json("dataset.json")["train_counts"] == {"ant": 19, "bee": 1, "cat": 1}
    with pytest.raises(UsageError, match="thinned"):
        go(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metadata_names_every_image_and_its_origin(discs, run, tmp_path):
    go(run, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert list(found[0]) == COLUMNS and len(found) == 72
    on_disk = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").glob("*/*.png")}
    assert {r["file_name"] for r in found} == on_disk
    fake = [r for r in found if r["synthetic"] == "true"]
    assert len(fake) == 34 and all(r["run"] == run.name and r["file_name"].endswith(f"_{r['seed']}.png") for r in fake)
    assert {r["checkpoint_sha256"] for r in fake} == {run.load_checkpoint().sha256}
    real = [r for r in found if r["synthetic"] == "false"]
    assert all(Path(r["source_path"]).is_file() and (r["run"], r["seed"]) == ("-", "") for r in real)
    assert all(r["file_name"].split("/")[0] == r["label"] for r in found)
    assert {(r["kind"], r["synthetic"]) for r in found} == {("real", "false"), ("generated", "true")}
    held_out = [r["file_name"] for r in found if r["split"] == "holdout"]
    assert sorted(held_out) == sorted(run.read_json("dataset.json")["holdout"]["files"]) and len(held_out) == 8
    assert {r["split"] for r in found if r["file_name"] not in held_out} == {"train"}


def test_the_same_seed_gives_the_same_bytes_whatever_is_asked_for(run, tmp_path):
    go(run, tmp_path / "a")
    go(run, tmp_path / "b", counts={"cat": 11})
    go(run, tmp_path / "c", seed=1)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    shared = [name for name in b if "syn_" in name]
    assert len(shared) == 5 and all(a[name] == b[name] for name in shared)
    assert not any("syn_" in name and name in a for name in c)


def test_splits_are_kept_and_tests_get_nothing_synthetic(split_discs, tmp_path):
    run = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    document = go(run, tmp_path / "out")
    assert [c["synthetic"] for c in document["classes"]] == [0, 16, 18]
    out, source = hashes(tmp_path / "out"), hashes(split_discs)
    assert {n for n in out if n.startswith("test/") and n.endswith(".png")} == {
        n for n in source if n.startswith("test/")
    }
    assert all(out[n] == source[n] for n in source)
    assert len(rows(tmp_path / "out" / "train")) == 72 and len(rows(tmp_path / "out" / "test")) == 15
    assert rows(tmp_path / "out" / "train")[0]["file_name"].startswith("ant/")


def test_again_reports_and_partial_output_is_completed(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    go(run, tmp_path / "straight")
    from balancegan.folder.export import BalancedFolder

    original, calls = BalancedFolder.add_synthetic, []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(BalancedFolder, "add_synthetic", dies)
    with pytest.raises(KeyboardInterrupt):
        go(run, out)
    monkeypatch.undo()
    first = go(run, out)
    assert first["complete"] and hashes(out).keys() == hashes(tmp_path / "straight").keys()
    same = {n: h for n, h in hashes(out).items() if n != ".balancegan.json"}
    assert same == {n: h for n, h in hashes(tmp_path / "straight").items() if n != ".balancegan.json"}
    stamp = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    again = go(run, out)
    assert again["classes"] == first["classes"] and stamp == {
        p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()
    }


def test_images_in_flight_are_bounded_and_change_no_byte(run, tmp_path, monkeypatch):
    from balancegan.folder import export

    go(run, tmp_path / "many")
    pending, original = [], export.BalancedFolder._wait

    def counted(self, most):
        original(self, most)
        pending.append(len(self._pending))

    monkeypatch.setattr(export, "IN_FLIGHT", 3)
    monkeypatch.setattr(export.BalancedFolder, "_wait", counted)
    go(run, tmp_path / "few")
    assert max(pending) == 3 and pending[-1] == 0
    few, many = ({n: h for n, h in hashes(tmp_path / k).items() if n != ".balancegan.json"} for k in ("few", "many"))
    assert few == many


def test_refuses_folders_that_are_not_its_own(discs, run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    go(run, tmp_path / "done")
    file = tmp_path / "file"
    file.write_text("x")
    for out, options in (
        (tmp_path / "full", {}),
        (discs, {}),
        (discs / "sub", {}),
        (discs.parent, {}),
        (file, {}),
        (tmp_path / "done", {"target_ir": 2}),
    ):
        with pytest.raises(UsageError):
            go(run, out, **options)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine" and len(list((tmp_path / "full").iterdir())) == 1


def test_targets():
    counts = {"a": 100, "b": 10, "c": 60}

    def need(**options):
        return targets(counts, **options)

    assert need() == need(target_ir=1) == {"a": 0, "b": 90, "c": 40}
    assert need(target_ir=3) == {"a": 0, "b": 24, "c": 0}  # ceil(100 / 3) = 34
    assert need(classes=("b",)) == {"a": 0, "b": 90, "c": 0}
    assert need(classes=("b",), target_ir=3) == {"a": 0, "b": 24, "c": 0}
    assert need(totals={"b": 25}) == {"a": 0, "b": 15, "c": 0}
    for bad, word in (
        ({"target_ir": 0.5}, "2"),
        ({"target_ir": 0}, "cannot be 0"),
        ({"target_ir": float("nan")}, "target-ir"),
        ({"target_ir": float("inf")}, "inf"),
        ({"totals": {"b": 25}, "classes": ("b",)}, "--classes"),
        ({"totals": {"b": 25}, "target_ir": 2.0}, "--target-ir"),
        ({"classes": ("z",)}, "z"),
        ({"totals": {"b": 5}}, "10"),
    ):
        with pytest.raises(UsageError, match=word):
            need(**bad)


def test_changed_data_is_refused_and_moved_data_is_found(discs, run, tmp_path):
    moved = tmp_path / "moved"
    discs.rename(moved)
    with pytest.raises(DatasetError) as caught:
        go(run, tmp_path / "out")
    assert "--data" in caught.value.hint
    assert go(run, tmp_path / "out", data=moved)["complete"]
    Image.new("RGB", (16, 16), (1, 2, 3)).save(moved / "bee" / "extra.png")
    with pytest.raises(DatasetError, match="fingerprint"):
        go(run, tmp_path / "other", data=moved)


def test_copies_are_dropped_and_a_class_may_fall_short(run, tmp_path, monkeypatch):
    """A generator that repeats itself is delivered short, and says so."""
    from balancegan.methods.sgbgan import SGBGAN

    original = SGBGAN.sample
    monkeypatch.setattr(SGBGAN, "sample", lambda self, z, c, source=None: original(self, z[:1].expand_as(z) * 0, c))
    document = go(run, tmp_path / "out", filter="copies")
    assert not document["complete"] and document["short"] == ["bee", "cat"]
    bee = next(c for c in document["classes"] if c["name"] == "bee")
    assert bee["synthetic"] <= 1 and bee["rejected"] > 100
    assert document["imbalance_rate_after"] > 1
    assert len(rows(tmp_path / "out")) == 38 + sum(c["synthetic"] for c in document["classes"])


def test_training_images_are_recognised_as_copies(discs):
    from balancegan.folder.copy_filter import CopyFilter

    real = np.stack([np.asarray(Image.open(p)).transpose(2, 0, 1) for p in sorted((discs / "bee").glob("*.png"))])
    keep = CopyFilter(real)
    noisy = np.clip(real.astype(int) + np.random.default_rng(0).integers(-2, 3, real.shape), 0, 255).astype(np.uint8)
    new = 255 - real[:1]
    assert keep(np.concatenate([noisy, new])).tolist() == [False] * 8 + [True]
    assert keep(new).tolist() == [False]  # accepted before
    assert keep(np.concatenate([new // 2, new // 2])).tolist() == [True, False]  # within one chunk


def test_native_size_and_matching_format(tmp_path):
    data = tmp_path / "data"
    for name, count in {"ant": 12, "bee": 5}.items():
        (data / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 255, (20, 30), np.uint8)
            Image.fromarray(pixels).save(data / name / f"{i}.jpg")
    run = RunDir(train_tiny(data, tmp_path / "runs")["run"])
    go(run, tmp_path / "out", out_size="native", format="match")
    made = sorted((tmp_path / "out" / "bee").glob("syn_*"))
    assert len(made) == 7
    for path in made:
        with Image.open(path) as image:
            assert (image.format, image.size, image.mode, path.suffix) == ("JPEG", (30, 20), "L", ".jpg")


def test_extensions_follow_the_content_and_skipped_formats_are_named(tmp_path):
    data = write_images(tmp_path / "data", {"ant": 6, "bee": 5})
    (data / "ant" / "000.png").rename(data / "ant" / "000.JPG")
    (data / "ant" / "001.png").rename(data / "ant" / "noext")
    with Image.open(data / "ant" / "002.png") as image:
        image.convert("P").save(data / "ant" / "anim.gif")
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200).save(data / "bee" / "deep.png")
    run = RunDir(train_tiny(data, tmp_path / "runs")["run"])
    document = go(run, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out" / "ant").iterdir()}
    assert {"000.png", "noext.png", "anim.gif"} <= names
    assert len(document["notes"]) == 2 and all("--real convert" in n for n in document["notes"])
    document = go(run, tmp_path / "converted", real="convert")
    assert not document["notes"]
    assert (tmp_path / "converted" / "ant" / "anim.png").is_file()
    with Image.open(tmp_path / "converted" / "bee" / "deep.png") as image:
        assert image.mode == "L" and image.getextrema()[0] == 0 and image.getextrema()[1] > 200
    assert len(ImageFolder(tmp_path / "converted")) == 2 * 7


@pytest.mark.parametrize("real", ["hardlink", "symlink", "none"])
def test_other_ways_to_place_real_files(discs, run, tmp_path, real):
    go(run, tmp_path / "out", real=real)
    path = tmp_path / "out" / "ant" / "000.png"
    if real == "none":
        assert not path.exists() and len(rows(tmp_path / "out")) == 34
    else:
        assert path.read_bytes() == (discs / "ant" / "000.png").read_bytes()
        assert path.is_symlink() if real == "symlink" else path.samefile(discs / "ant" / "000.png")


def test_links_into_data_that_moved_are_made_anew(discs, run, tmp_path):
    go(run, tmp_path / "out", real="symlink")
    moved = discs.rename(tmp_path / "moved")
    go(run, tmp_path / "out", real="symlink", data=moved)
    assert len(ImageFolder(tmp_path / "out")) == 72 and (tmp_path / "out/ant/000.png").read_bytes()


def test_hard_links_need_no_space(run, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    go(run, tmp_path / "out", real="hardlink", counts={"bee": 9})
    with pytest.raises(DiskError):
        go(run, tmp_path / "copied", counts={"bee": 11, "cat": 12})


def test_too_little_space_is_said_before_anything_is_written(run, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskError, match="free"):
        go(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_augment_ends_with_a_report(run, tmp_path):
    document = go(run, tmp_path / "out", report=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["report"].endswith("report.html") and Path(document["report"]).stat().st_size > 10_000
    assert report["imbalance_rate_after"] == 1 and [c["name"] for c in report["classes"]] == ["ant", "bee", "cat"]
    assert report["extractor"]["name"] == "own" and report["extractor"]["comparable"] is False
    assert ImageFolder(tmp_path / "out").classes == ["ant", "bee", "cat"]


def test_a_report_comes_with_its_verdict_card_and_figures(tested, tmp_path, monkeypatch):
    monkeypatch.setattr("balancegan.report.write.write_figures", write_figures)
    document = go(tested, tmp_path / "out", report=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["utility"]["verdict"] == report["utility"]["verdict"] in ("use", "no difference", "do not use")
    assert report["utility"]["test"]["kind"] == "test" and report["utility"]["unfiltered_verdict"] is None
    assert report["utility"]["headline"] in (tmp_path / "out" / "README.md").read_text()
    assert list((tested.path / "figures").glob("class_counts.*"))
    json.dumps(document, allow_nan=False)


def test_the_card_is_there_without_a_report_too(run, tmp_path):
    go(run, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\n") and run.name in text and "syn_00000_" in text


def test_a_card_that_the_user_edited_is_left_alone(run, tmp_path):
    card = tmp_path / "out" / "README.md"
    go(run, tmp_path / "out")
    card.write_text(card.read_text().replace("unknown", "cc-by-4.0"))
    edited = card.read_text()
    notes = []
    options = AugmentOptions(out=tmp_path / "out", fill="generated", filter="none", utility=False)
    augment(run, options, device=CPU, note=notes.append)
    assert card.read_text() == edited and any("README.md" in note for note in notes)


def test_a_card_that_the_user_edited_survives_a_call_that_was_killed(run, tmp_path, monkeypatch):
    card = tmp_path / "out" / "README.md"
    go(run, tmp_path / "out")
    card.write_text(edited := card.read_text().replace("unknown", "cc-by-4.0"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "balancegan.commands.augment.folder_report", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        go(run, tmp_path / "out", report=True)
    go(run, tmp_path / "out", report=True)
    assert card.read_text() == edited


def test_too_few_test_images_give_no_verdict_and_pass_no_gate(run, tmp_path):
    document = go(run, tmp_path / "out", report=True, fail_under="no-difference")
    utility = document["utility"]
    assert not utility["measured"] and utility["verdict"] is None and utility["note"].startswith("No verdict: ")
    assert document["gate"]["passed"] is False


def test_a_test_split_is_what_the_verdict_rests_on(split_discs, tmp_path):
    run = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    document = go(run, tmp_path / "out", report=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["utility"]["test"] == {"kind": "test", "n": {"ant": 6, "bee": 5, "cat": 4}, "total": 15}
    assert document["utility"]["verdict"]


def test_a_verdict_can_be_added_to_a_report(tested, tmp_path):
    out = tmp_path / "out"
    first = go(tested, out, report=True, utility=False)
    assert first["utility"]["verdict"] is None and "turned off" in first["utility"]["note"]
    again = go(tested, out, report=True, utility=False)
    assert again["utility"] == first["utility"]
    assert go(tested, out, report=True)["utility"]["verdict"]
    stamp = (out / "report.html").stat().st_mtime_ns
    assert go(tested, out, report=True, utility=False)["utility"]["verdict"]  # more than was asked for
    assert (out / "report.html").stat().st_mtime_ns == stamp


def test_the_gate_is_that_of_this_call(tested, tmp_path):
    out = tmp_path / "out"
    failed = go(tested, out, report=True, fail_under=99.0)["gate"]
    assert failed["passed"] is False and failed["fail_under"] == 99.0
    assert go(tested, out, report=True)["gate"] is None
    assert go(tested, out, report=True, fail_under=-99.0)["gate"]["passed"]


def test_without_a_report_there_is_no_gate(run, tmp_path):
    go(run, tmp_path / "out", report=True, fail_under=99.0)
    assert not go(run, tmp_path / "out").get("gate")


def test_a_run_without_adversarial_steps_is_refused(discs, tmp_path):
    from balancegan.core.errors import CheckpointError

    run = RunDir(train_tiny(discs, tmp_path / "runs", max_seconds=0.0)["run"])
    with pytest.raises(CheckpointError):
        go(run, tmp_path / "out")


def test_hugging_face_reads_the_folder_with_splits(split_discs, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    run = RunDir(train_tiny(split_discs, tmp_path / "runs")["run"])
    go(run, tmp_path / "out")
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {k: len(v) for k, v in found.items()} == {"train": 72, "test": 15}
    assert set(found["train"]["label"]) == {"ant", "bee", "cat"} and sum(found["train"]["synthetic"]) == 34
    assert {name: set(part["split"]) for name, part in found.items()} == {"train": {"train"}, "test": {"test"}}


def test_a_real_file_named_like_a_synthetic_one_keeps_its_name(tmp_path):
    data = write_images(tmp_path / "data", {"ant": 12, "bee": 5})
    (data / "bee" / "000.png").rename(data / "bee" / "syn_00000_0.png")
    run = RunDir(train_tiny(data, tmp_path / "runs")["run"])
    go(run, tmp_path / "out")
    names = [r["file_name"] for r in rows(tmp_path / "out")]
    assert len(names) == len(set(names)) == 24 and len(list((tmp_path / "out").glob("*/*.png"))) == 24
    assert (tmp_path / "out/bee/syn_00000_0.png").read_bytes() == (data / "bee/syn_00000_0.png").read_bytes()


def test_folders_behind_links_belong_to_the_source(discs, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (discs / "bee").rename(elsewhere)
    (discs / "bee").symlink_to(elsewhere, target_is_directory=True)
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    with pytest.raises(UsageError, match="source"):
        go(run, elsewhere / "out")


def test_a_report_can_be_added_and_missing_files_are_made_again(run, tmp_path):
    out = tmp_path / "out"
    assert go(run, out)["report"] is None
    lost = next((out / "bee").glob("syn_*"))
    before = lost.read_bytes()
    lost.unlink()
    go(run, out)
    assert lost.read_bytes() == before
    assert Path(go(run, out, report=True)["report"]).is_file()


def test_missing_weights_are_said_before_the_work(run, tmp_path):
    from balancegan.core.errors import WeightsMissingError

    with pytest.raises(WeightsMissingError):
        go(run, tmp_path / "out", report=True, weights=tmp_path / "no.pth")
    assert not (tmp_path / "out").exists()


def test_odd_class_names_go_through_the_whole_job(tmp_path):
    names = ["<script>alert(1)</script>".replace("/", "_"), "x,y", "[red]z[", "größe"]
    data = write_images(tmp_path / "data", dict(zip(names, (8, 5, 5, 5), strict=True)))
    run = RunDir(train_tiny(data, tmp_path / "runs")["run"])
    document = go(run, tmp_path / "out", report=True)
    assert document["complete"] and {r["label"] for r in rows(tmp_path / "out")} == set(names)
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_writing_from_many_threads_keeps_the_umask(tmp_path):
    import os
    from concurrent.futures import ThreadPoolExecutor

    from balancegan.core.files import UMASK, write_atomic

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_atomic(tmp_path / f"{i}", b"x"), range(400)))
    now = os.umask(UMASK)
    os.umask(now)
    assert now == UMASK and {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o666 & ~UMASK}
