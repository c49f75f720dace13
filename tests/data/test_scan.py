from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.text import printable
from balancegan.data import sniff, walk
from balancegan.data.scan import scan

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX systems")


def test_flat_layout_counts_and_order(data, picture):
    picture(data / "a" / "deep" / "er" / "x.png", seed=50)
    folder = scan(data)
    assert folder.classes == ("a", "b")
    assert folder.counts() == {"a": 7, "b": 2}
    assert folder.split_dirs == {}
    assert [f.rel for f in folder.files] == [*(f"a/{i}.png" for i in range(6)), "a/deep/er/x.png", "b/0.png", "b/1.png"]
    first = folder.files[0]
    info = (data / "a/0.png").stat()
    assert (first.split, first.label, first.size, first.mtime_ns, first.format) == (
        "train", 0, info.st_size, info.st_mtime_ns, "PNG",
    )  # fmt: skip
    assert folder.path(first) == data / "a/0.png"
    assert folder.inner(folder.files[6]) == "deep/er/x.png"
    assert folder.notes == () and folder.bad_files == ()


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "valid", "VALIDATION"])
@pytest.mark.parametrize("test", ["test", "testing"])
def test_split_names(tmp_path, picture, train, val, test):
    for split in (train, val, test):
        for name in "ab":
            picture(tmp_path / split / name / "1.png")
    picture(tmp_path / test / "only_here" / "1.png")
    folder = scan(tmp_path)
    assert folder.split_dirs == {"train": train, "val": val, "test": test}
    assert folder.splits == ("train", "val", "test")
    assert [f.split for f in folder.files] == ["train"] * 2 + ["val"] * 2 + ["test"] * 3
    assert folder.classes == ("a", "b", "only_here")
    assert folder.counts() == {"a": 1, "b": 1, "only_here": 0}
    assert folder.counts("test")["only_here"] == 1
    assert folder.inner(folder.files[0]) == "1.png"


def test_formats_by_content_whatever_the_name(data, picture):
    for fmt, name in [
        ("JPEG", "x.PNG"), ("PNG", "noext"), ("BMP", "x.dat"), ("WEBP", "w.JPG"), ("TIFF", "t"), ("GIF", "g.Gif"),
        ("PPM", "p.ppm"), ("JPEG2000", "j.jp2"),
    ]:  # fmt: skip
        picture(data / "c" / name, format=fmt)
    Image.new("1", (5, 5)).save(data / "c" / "bits.pbm")
    assert scan(data).counts()["c"] == 9
    assert {f.format for f in scan(data).files if f.rel.startswith("a")} == {"PNG"}
    assert {f.rel: f.format for f in scan(data).files}["c/x.PNG"] == "JPEG"


def test_hidden_and_side_files(data, picture):
    picture(data / "a" / ".thumb.png")
    picture(data / "a" / ".cache" / "x.png")
    picture(data / ".git" / "x.png")
    picture(data / "__MACOSX" / "a" / "x.png")
    (data / "a" / "notes.txt").write_text("hello")
    (data / "a" / "labels.csv").write_text("a,b")
    (data / "a" / "README").write_text("BMW is not a bitmap, P5 no map")
    folder = scan(data)
    assert folder.counts() == {"a": 6, "b": 2}
    assert folder.bad_files == ()
    assert any("4 hidden" in note for note in folder.notes)
    assert any("3 files" in note and ".txt 1" in note for note in folder.notes)


def test_not_an_image_though_named_like_one(data):
    (data / "a" / "page.jpg").write_text("<!DOCTYPE html><html>404</html>")
    (data / "a" / "empty.png").touch()
    (data / "b" / "text.gif").write_text("nothing here")
    (data / "b" / "zip.png").write_bytes(b"PK\x03\x04" + bytes(range(60)))
    bad = {b.path: b.reason for b in scan(data).bad_files}
    assert set(bad) == {"a/page.jpg", "a/empty.png", "b/text.gif", "b/zip.png"}
    assert "HTML" in bad["a/page.jpg"]
    assert "empty" in bad["a/empty.png"]
    assert "text" in bad["b/text.gif"]
    assert "archive" in bad["b/zip.png"]


@posix
def test_strange_names(data, picture):
    names = ["with space.png", "new\nline.png", "größe-猫.png", "quote'\".png", "-dash.png"]
    for name in names:
        picture(data / "b\nreak" / name)
    raw = os.fsencode(data / "a") + b"/bad\xff.png"
    shutil.copy(os.fsencode(data / "a" / "0.png"), raw)
    folder = scan(data)
    assert folder.counts() == {"a": 7, "b": 2, "b\nreak": 5}
    assert os.fsdecode(b"a/bad\xff.png") in {f.rel for f in folder.files}
    assert all(folder.path(f).is_file() for f in folder.files)
    shown = printable("new\nline \udcff ü")
    assert "\n" not in shown and "ü" in shown
    shown.encode()


@posix
def test_links(data, picture, tmp_path):
    (data / "a" / "again.png").symlink_to(data / "a" / "0.png")
    os.link(data / "a" / "1.png", data / "a" / "hard.png")
    (data / "a" / "loop").symlink_to(data / "a")
    (data / "a" / "up").symlink_to(data)
    (data / "a" / "self").symlink_to(data / "a" / "self")
    (data / "b" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    outside = picture(tmp_path / "elsewhere" / "o.png", seed=77)
    (data / "b" / "outside").symlink_to(outside.parent)
    folder = scan(data)
    # class a reaches b's images through a/up, b reaches its own: both ways are one file per class
    assert {f.rel for f in folder.files if f.rel.startswith("b/")} == {"b/0.png", "b/1.png", "b/outside/o.png"}
    own = [f.rel for f in folder.files if f.rel.startswith("a/") and not f.rel.startswith("a/up/")]
    assert own == [f"a/{i}.png" for i in range(6)]
    bad = {b.path: b.reason for b in folder.bad_files}
    assert bad["b/dangling.png"] == "broken link"
    assert "a/self" in bad
    assert any("found more than once" in note for note in folder.notes)
    assert any("already read" in note for note in folder.notes)


@posix
def test_one_file_in_two_classes_stays_in_both(data):
    (data / "b" / "linked.png").symlink_to(data / "a" / "0.png")
    assert scan(data).counts() == {"a": 6, "b": 3}


@posix
def test_class_folder_links(data, tmp_path):
    (data / "loop").symlink_to(data)
    (data / "above").symlink_to(tmp_path)
    (data / "alias").symlink_to(data / "a")
    folder = scan(data)
    assert folder.classes == ("a", "b")
    assert sum("its folder is read anyway" in note for note in folder.notes) == 3


@posix
def test_pipes_and_sockets_are_never_opened(data):
    os.mkfifo(data / "a" / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    try:
        here = Path.cwd()
        os.chdir(data / "b")  # socket paths are short
        server.bind("sock")
    finally:
        os.chdir(here)
        server.close()
    bad = {b.path: b.reason for b in scan(data).bad_files}
    assert "pipe" in bad["a/pipe.png"]
    assert "socket" in bad["b/sock"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(data):
    (data / "a" / "0.png").chmod(0)
    assert "Permission denied" in scan(data).bad_files[0].reason


def test_missing_path_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder") as e:
        scan(tmp_path / "missing")
    assert e.value.exit_code == 2


def refuse(root: Path, message: str, hint: str = "") -> None:
    with pytest.raises(DatasetError, match=message) as e:
        scan(root)
    assert e.value.exit_code == 3
    assert hint in e.value.hint
    assert "\n" not in e.value.message + e.value.hint


def test_refusals(tmp_path, picture):
    image = picture(tmp_path / "x.png")
    refuse(image, "not a folder")
    (tmp_path / "x.zip").write_bytes(b"PK")
    refuse(tmp_path / "x.zip", "not a folder", "unpack")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "no images")
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    refuse(tmp_path / "hollow", "no images")
    picture(tmp_path / "flat" / "x.png")
    refuse(tmp_path / "flat", "1 image but no class folders", "in its own folder")
    picture(tmp_path / "one" / "a" / "x.png")
    refuse(tmp_path / "one", "only one class", "two classes")
    picture(tmp_path / "test_only" / "test" / "a" / "x.png")
    refuse(tmp_path / "test_only", "no train folder")
    picture(tmp_path / "flat_train" / "train" / "x.png")
    refuse(tmp_path / "flat_train", "holds images but no class folders")
    for name in ("valid", "val", "train"):
        picture(tmp_path / "twice" / name / "a" / "x.png")
    refuse(tmp_path / "twice", "two folders for the val split")
    for name in "ab":
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "x.png").touch()
    refuse(tmp_path / "broken", "damaged", "empty")


def test_wrapped_in_one_more_folder(tmp_path, picture):
    for name in "ab":
        picture(tmp_path / "data" / "inner" / name / "x.png")
    refuse(tmp_path / "data", "only one class", str(tmp_path / "data" / "inner"))


def test_an_empty_class_is_a_note(data):
    (data / "none").mkdir()
    folder = scan(data)
    assert folder.counts() == {"a": 6, "b": 2, "none": 0}
    assert "class 'none' is empty" in folder.notes


def test_loose_images_beside_classes_are_noted(data, picture):
    picture(data / "loose.png")
    assert any("skipped 1 image next to the class folders" in note for note in scan(data).notes)


def test_train_can_be_a_means_of_transport(tmp_path, picture):
    for name in ("bus", "car", "train"):
        picture(tmp_path / name / "x.png")
    assert scan(tmp_path).classes == ("bus", "car", "train")


def test_other_folders_beside_splits_are_skipped(tmp_path, picture):
    for name in "ab":
        picture(tmp_path / "train" / name / "x.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "x.json").write_text("{}")
    folder = scan(tmp_path)
    assert folder.classes == ("a", "b")
    assert any("annotations" in warning for warning in folder.warnings)


def test_progress_reports(data):
    calls = []
    scan(data, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("scan", 8, 8)


def test_slow_files_are_sniffed_in_threads_with_the_same_result(data, monkeypatch):
    paths = sorted(str(p) for p in data.rglob("*") if p.is_file()) * 40
    plain = [sniff.sniff_file(p) for p in paths]
    in_pools = []

    class Counted(sniff.ThreadPoolExecutor):
        def map(self, fn, batches):
            batches = list(batches)
            in_pools.append(sum(map(len, batches)))
            return super().map(fn, batches)

    monkeypatch.setattr(sniff, "ThreadPoolExecutor", Counted)
    monkeypatch.setattr(sniff, "_BATCH", 50)
    for slow, most in ((1e9, 0), (0.0, len(paths) - 32)):  # nothing is slow; everything is
        monkeypatch.setattr(sniff, "_SLOW", slow)
        shown = []
        assert list(sniff.sniff_many(paths, lambda *row, shown=shown: shown.append(row))) == plain
        assert sum(in_pools) == most and shown[-1] == ("scan", len(paths), len(paths))
    assert list(sniff.sniff_many([])) == []


def test_the_collector_is_as_it_was_after_a_scan(data, tmp_path):
    scan(data)
    assert gc.isenabled()
    with pytest.raises(UsageError):
        scan(tmp_path / "nowhere")
    assert gc.isenabled()
    gc.disable()
    try:
        scan(data)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_file_systems_that_give_all_files_one_number(data, monkeypatch):
    """Only links lead to a file twice; equal numbers alone do not."""
    before = scan(data)
    real = os.stat_result

    def numbered(info):
        values = list(info)
        values[1] = 7
        return real(values, {name: getattr(info, name) for name in ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")})

    class Entry:
        def __init__(self, entry):
            self.entry, self.name, self.path = entry, entry.name, entry.path

        def stat(self, **options):
            return numbered(self.entry.stat(**options))

        def is_symlink(self):
            return self.entry.is_symlink()

    entries, stat = walk._entries, os.stat
    monkeypatch.setattr(walk, "_entries", lambda *args: [Entry(e) for e in entries(*args)])
    monkeypatch.setattr(walk.os, "stat", lambda *args, **options: numbered(stat(*args, **options)))
    assert [f.rel for f in scan(data).files] == [f.rel for f in before.files]
