"""Single files that mean harm, and files that change between being listed and being read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from balancegan.commands.imbalance import make_imbalanced
from balancegan.core.config import MethodConfig
from balancegan.core.errors import BalanceGANError, DatasetError, DiskError
from balancegan.core.files import open_regular
from balancegan.data import high_depth as deep
from balancegan.data import layout
from balancegan.data.decode import DecodeSettings, Reading, decode_image, read_header
from balancegan.data.duplicates import pixel_digest
from balancegan.data.refused import ImageError
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.data.training_set import open_training_set
from balancegan.data.window import Window, full_window, to_uint8, value_range
from balancegan.evaluation.shortcuts import shortcut_checks
from balancegan.folder.destination import check_destination
from balancegan.folder.export import BalancedFolder
from balancegan.folder.real_files import plan_real
from balancegan.inspection.inspect import inspect_folder
from balancegan.report.inspection import render_html

SMALL = DecodeSettings(image_size=8)
quick = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
thorough = settings(quick, max_examples=20_000, derandomize=False, phases=list(Phase))


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def late(*_: object) -> None:
        raise AssertionError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Decoding ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", hostile.pictures())
def test_whole_files_are_read(tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes(hostile.pictures()[kind])
    picture = decode_image(path)
    assert picture.size == picture.pixels.shape[1::-1]
    assert kind == "double" or sorted(read_header(path).size) == sorted(picture.size)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file that was cut, overwritten here and there, lengthened, or joined with another."""
    kinds = sorted(hostile.pictures())
    data = bytearray(hostile.pictures()[draw(st.sampled_from(kinds))])
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["byte", "long", "cut", "drop", "join"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "long":
                data[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"]))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 9))]
            case "join":
                data[at:at] = hostile.pictures()[draw(st.sampled_from(kinds))][:50]
    return bytes(data)


def check_decoding(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    for read in (decode_image, read_header):
        try:
            read(path)
        except ImageError as e:
            assert e.reason and e.reason.isprintable() and e.reason.encode()


@quick
@given(damaged())
def test_any_damage(tmp_path_factory, data):
    check_decoding(data, tmp_path_factory.getbasetemp() / "damaged")


@pytest.mark.slow
@thorough
@given(damaged())
def test_any_damage_at_length(tmp_path_factory, data):
    check_decoding(data, tmp_path_factory.getbasetemp() / "damaged")


@quick
@given(st.binary(max_size=60), st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF"]))
def test_metadata_never_cost_the_picture(tmp_path_factory, exif, format):
    """Whatever stands in the EXIF data, the pixels are there; at worst they are not turned."""
    path = tmp_path_factory.getbasetemp() / "exif"
    plain = hostile.picture(size=(6, 4))
    if format == "TIFF":
        tags = Image.Exif()
        tags[0x0112], tags[0x9286], tags[0x010E] = len(exif) % 10, exif, exif.decode("latin-1")
        path.write_bytes(hostile.encoded(plain, format, exif=tags))
    else:
        head = b"Exif\0\0" if format != "PNG" else b""
        path.write_bytes(hostile.encoded(plain, format, exif=head + exif))
    assert sorted(decode_image(path).size) == [4, 6]


def test_an_orientation_beside_damaged_exif_data(tmp_path):
    """Turning must not depend on the rest of the EXIF data, which nobody asked for."""
    ifd = (
        b"MM\0*\0\0\0\x08"
        + b"\0\x02"
        + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
        + b"\x87\x69\0\x04\0\0\0\x01\0\0\0\x08"
        + b"\0" * 4
    )
    path = tmp_path / "x.jpg"
    path.write_bytes(hostile.encoded(hostile.picture(size=(6, 4)), "JPEG", exif=b"Exif\0\0" + ifd))
    with within(20):
        assert decode_image(path).size == (4, 6)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_declared_sizes_cost_no_memory(tmp_path):
    """Every format's giant is refused, or read as the small image that it is, in 300 MB beyond the interpreter's."""
    for kind, data in hostile.giants().items():
        (tmp_path / kind).write_bytes(data)
    script = """
import resource, sys
from pathlib import Path
from balancegan.data.decode import Reading, decode_image, read_header
from balancegan.data.refused import ImageError
from balancegan.core.errors import DiskError
import tifffile
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (decode_image, read_header):
        try:
            said = "" if read(path) else ""
        except ImageError as e:
            said = e.reason
        except DiskError as e:
            said = e.message
        print(path.name, read.__name__, said, sep="|")
"""
    with within(60):
        done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    said = {tuple(line.split("|")[:2]): line.split("|")[2] for line in done.stdout.splitlines()}
    assert len(said) == 2 * len(hostile.giants()) and not any("memory" in reason for reason in said.values())
    small = {"strip", "deflated strip"}
    for kind in hostile.giants():
        reason = said[kind, "decode_image"]
        # Pillow 11's animation decoder, which asks for all the memory when it opens the file, gets none.
        others = ("samples", "avif", *(("animated webp",) if "decoder" in reason else ()))
        assert reason == "" if kind in small else "bomb" in reason or kind in others, (kind, reason)
    assert "samples per pixel" not in done.stderr.lower(), "a log line between our own"


def test_giant_tiles_are_refused_at_once(tmp_path):
    for kind in ("tile", "deflated tile", "wide tile"):
        (tmp_path / "x.tif").write_bytes(hostile.giants()[kind])
        with within(5), pytest.raises(ImageError, match="bomb"):
            decode_image(tmp_path / "x.tif")
    double = hostile.tiff(8, 8, b"\0" * 100, bits=64, sample_format=3, tile=40_000)
    (tmp_path / "x.tif").write_bytes(double)
    with within(5), pytest.raises(ImageError, match="bomb"):
        decode_image(tmp_path / "x.tif")


def test_wide_values_count_for_more_than_pixels(tmp_path):
    """Three doubles a pixel would take 24 times the bytes of a grey image of as many pixels."""
    data = np.zeros((40, 40, 3)).tobytes()
    (tmp_path / "x.tif").write_bytes(hostile.tiff(40, 40, data, bits=64, sample_format=3))
    assert decode_image(tmp_path / "x.tif", Reading(max_pixels=1600)).pixels.dtype == np.float64
    import tifffile

    tifffile.imwrite(tmp_path / "y.tif", np.zeros((40, 40, 3)), photometric="rgb")
    assert decode_image(tmp_path / "y.tif", Reading(max_pixels=4800)).pixels.shape == (40, 40, 3)
    with pytest.raises(ImageError, match="bomb"):
        decode_image(tmp_path / "y.tif", Reading(max_pixels=1600))


@pytest.mark.parametrize("kind", ["colour 16", "grey 16", "float with NaN", "double", "png"])
def test_blocks_do_not_show(tmp_path, monkeypatch, kind):
    path = tmp_path / "x"
    path.write_bytes(hostile.pictures()[kind])

    def everything() -> list[object]:
        pixels = decode_image(path).pixels
        window = None if pixels.dtype == np.uint8 else full_window([value_range(pixels)])
        return [pixels.tobytes(), window, to_uint8(pixels, window).tobytes(), pixel_digest(pixels)]

    whole = everything()
    monkeypatch.setattr(deep, "_BLOCK", 1)
    assert everything() == whole


def test_the_widest_range_of_doubles(tmp_path):
    values = np.array([[-1.7e308, 0.0, 1.7e308]])
    with np.errstate(all="raise"):
        assert to_uint8(values, Window(-1.7e308, 1.7e308)).tolist() == [[0, 128, 255]]


def test_reasons_are_printable(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(hostile.pictures()["png"])

    def broken(*_: object, **__: object) -> None:
        raise SyntaxError("chunk \x1b[31m\udcff\u202e broken")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ImageError) as caught:
        decode_image(tmp_path / "x.png")
    assert caught.value.reason.isprintable() and caught.value.reason.encode()


# Files that change ---------------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _again(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "vanishes": lambda p: p.unlink(),
    "shrinks": _cut,
    "is emptied": lambda p: p.write_bytes(b""),
    "becomes text": lambda p: p.write_bytes(hostile.HTML),
    "becomes a folder": lambda p: _again(p, lambda q: q.mkdir()),
    **{f"becomes a {kind}": lambda p, make=make: _again(p, make) for kind, make in hostile.special_files().items()},
}


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images each."""
    for k, name in enumerate("ab"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            data = hostile.encoded(hostile.picture(10 * k + i, size=(40, 30)), "PNG")
            (tmp_path / "data" / name / f"{i}.png").write_bytes(data)
    return scan(tmp_path / "data")


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_the_scan(folder, tmp_path, change):
    changed = folder.root / "a" / "1.png"
    CHANGES[change](changed)
    before = hostile.snapshot(folder.root)
    with within(30):
        for read in (decode_image, read_header) if change != "shrinks" else (decode_image,):
            with pytest.raises(ImageError):
                read(changed)
        found = inspect_folder(folder, duplicates="near")
        assert [b.path for b in found.bad_files] == ["a/1.png"] and found.num_images == 5
        render_html(found, folder).encode()
        store = open_store(folder, SMALL, cache_dir=tmp_path / "cache")
        assert [b.path for b in store.bad_files] == ["a/1.png"] and len(store) == 5
        shortcut_checks([folder.path(f) for f in folder.files], [folder.path(f) for f in folder.files])
        with pytest.raises(BalanceGANError) as caught:
            open_store(folder, SMALL, cache_dir=tmp_path / "cache", strict=True)
        assert caught.value.message.isprintable()
    assert hostile.snapshot(folder.root) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_copied(folder, tmp_path, change):
    data = open_training_set(folder.root, MethodConfig(image_size=8))
    planned, _ = plan_real(data, "copy")
    CHANGES[change](folder.root / "a" / "1.png")
    whole = change in ("shrinks", "is emptied", "becomes text")
    with (
        within(30),
        BalancedFolder(tmp_path / "out", data, "key", real="copy", format="png", out_size="model") as balanced,
        contextlib.nullcontext() if whole else pytest.raises(DiskError) as caught,
    ):
        for file in planned:
            balanced.add_real(file)
    assert whole or caught.value.message.isprintable()


@pytest.mark.parametrize("change", ["vanishes", "becomes a folder", "becomes a pipe", "becomes a link to a device"])
def test_a_file_that_changes_before_imbalance_copies_it(folder, tmp_path, monkeypatch, change):
    def late(*args, **options):
        found = scan(*args, **options)
        CHANGES[change](folder.root / "a" / "1.png")
        return found

    monkeypatch.setattr("balancegan.commands.imbalance.scan", late)
    with within(30), pytest.raises(DiskError):
        make_imbalanced(folder.root, tmp_path / "copy", ir=1.0)
    assert not (tmp_path / "copy").exists()


@contextlib.contextmanager
def after_listing(folder: Path, change: Callable[[], object]) -> Iterator[None]:
    """Do something once, right after a folder was listed."""
    plain, done = os.scandir, []

    @contextlib.contextmanager
    def scandir(path: object) -> Iterator[Iterator[os.DirEntry[str]]]:
        with plain(path) as it:
            found = list(it)
        if Path(str(path)) == folder and not done:
            done.append(change())
        yield iter(found)

    with mock.patch("os.scandir", scandir):
        yield


def test_a_file_that_vanishes_during_the_scan(folder):
    gone = folder.root / "a" / "1.png"
    with after_listing(folder.root / "a", gone.unlink):
        found = scan(folder.root)
    assert [b.path for b in found.bad_files] == ["a/1.png"] and len(found.files) == 5


def test_a_class_folder_that_vanishes_during_the_scan(folder):
    (folder.root / "c").mkdir()
    with after_listing(folder.root, (folder.root / "c").rmdir):
        found = scan(folder.root)
    assert [b.path for b in found.bad_files] == ["c"] and len(found.files) == 6


def test_a_root_that_vanishes_during_the_scan(folder):
    moved = after_listing(folder.root, lambda: folder.root.rename(folder.root.with_name("moved")))
    with moved, pytest.raises(DatasetError) as caught:
        scan(folder.root)
    assert caught.value.message.isprintable()


def test_a_file_that_vanishes_before_it_is_sniffed(folder, monkeypatch):
    def late(paths, progress):
        (folder.root / "a" / "1.png").unlink()
        return sniff_many(paths, progress)

    from balancegan.data.sniff import sniff_many

    monkeypatch.setattr("balancegan.data.scan.sniff_many", late)
    found = scan(folder.root)
    assert [b.path for b in found.bad_files] == ["a/1.png"] and len(found.files) == 5


def _open_files() -> int | None:
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.exists() else None


def test_what_is_opened_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as f:
        assert f.read() == b"x"
    before = _open_files()
    (tmp_path / "folder").mkdir()
    for kind, make in hostile.special_files().items():
        make(tmp_path / kind)
    for path in tmp_path.iterdir():
        if path.name != "file":
            with within(5), pytest.raises(OSError):
                open_regular(path)
    assert before is None or _open_files() == before


def test_a_hint_in_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    (tmp_path / "data" / "only").mkdir(parents=True)
    (tmp_path / "data" / "only" / "x.png").write_bytes(hostile.pictures()["png"])
    monkeypatch.setattr(Path, "iterdir", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(DatasetError, match="only one class"):
        scan(tmp_path / "data")
    assert layout.is_hidden(".x")


# Links ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["..", "../..", "/", "."])
def test_a_link_to_what_holds_the_class_is_not_followed(folder, target):
    """Otherwise every class would get the images of the others, and `/` the whole disk's."""
    (folder.root / "a" / "up").symlink_to(target)
    (folder.root / "a" / "in").mkdir()
    (folder.root / "a" / "in" / "up").symlink_to("../..")
    with within(20):
        found = scan(folder.root)
    assert found.files == folder.files
    assert sum("its folder was already read" in note for note in found.notes) == 2


def test_a_split_that_is_a_link_knows_what_holds_it(tmp_path):
    for split in ("train", "elsewhere/val"):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            (tmp_path / "data" / split / name / "x.png").write_bytes(hostile.encoded(hostile.picture(), "PNG"))
    (tmp_path / "data" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "val").symlink_to(tmp_path / "elsewhere" / "val")
    (tmp_path / "elsewhere" / "val" / "up").symlink_to("..")
    found = scan(tmp_path / "data")
    assert found.classes == ("a", "b") and len(found.files) == 4
    assert "skipped link 'val/up': its folder is read anyway" in found.notes


def test_which_of_two_links_is_followed_does_not_depend_on_the_file_system(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(hostile.encoded(hostile.picture(99), "PNG"))
    for name in ("second", "first"):
        (folder.root / "a" / name).symlink_to(tmp_path / "outside")
    plain = os.scandir
    for backwards in (False, True):

        @contextlib.contextmanager
        def scandir(path: object, backwards: bool = backwards) -> Iterator[Iterator[os.DirEntry[str]]]:
            with plain(path) as it:
                yield iter(sorted(it, key=lambda e: e.name, reverse=backwards))

        with mock.patch("os.scandir", scandir):
            found = scan(folder.root)
        assert [f.rel for f in found.files if "x.png" in f.rel] == ["a/first/x.png"]


@pytest.mark.skipif(not hasattr(os, "mknod") or os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_never_opened(folder):
    os.mknod(folder.root / "a" / "null.png", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert [b.reason for b in scan(folder.root).bad_files] == ["a device, not a file"]


# Names of the balanced folder ----------------------------------------------------------------------------------------


def targets(root: Path) -> dict[str, str]:
    """Source path -> path in the balanced folder."""
    data = open_training_set(root, MethodConfig(image_size=8))
    planned, _ = plan_real(data, "copy")
    return {file.source.relative_to(root).as_posix(): file.target for file in planned}


def write(path: Path, kind: str = "png") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hostile.pictures()[kind])


def test_long_names_are_cut_to_make_room_for_an_ending(tmp_path):
    root = tmp_path / "data"
    for name in ("x" * 255, "x" * 254 + "y", "ß" * 127):
        write(root / "a" / name)
    write(root / "b" / "1.png")
    found = targets(root)
    assert found["a/" + "x" * 255] == "a/" + "x" * 251 + ".png"
    assert found["a/" + "x" * 254 + "y"] == "a/" + "x" * 249 + "-2.png"
    assert found["a/" + "ß" * 127] == "a/" + "ß" * 125 + ".png"


def test_a_file_does_not_take_the_name_of_a_folder(tmp_path):
    root = tmp_path / "data"
    write(root / "a" / "x.jpg")  # a PNG, so that its name becomes x.png
    write(root / "a" / "x.png" / "1.png")
    write(root / "b" / "1.png")
    found = targets(root)
    assert found["a/x.jpg"] == "a/x-2.png" and found["a/x.png/1.png"] == "a/x.png/1.png"


def test_names_that_some_file_systems_take_for_one(tmp_path):
    root = tmp_path / "data"
    for name in ("cafe\u0301.png", "caf\u00e9.png", "CAF\u00c9.png"):
        write(root / "a" / name)
    write(root / "b" / "1.png")
    if len(list((root / "a").iterdir())) < 3:
        pytest.skip("this file system takes them for one too")
    assert sorted(targets(root).values())[-2:] != ["a/caf\u00e9.png"] * 2
    assert sum("-2.png" in t or "-3.png" in t for t in targets(root).values()) == 2


@pytest.mark.parametrize("name", ["metadata.csv", "README.md", "Report.HTML"])
def test_a_class_cannot_be_called_like_a_file_of_ours(tmp_path, name):
    write(tmp_path / "data" / name / "1.png")
    write(tmp_path / "data" / "b" / "1.png")
    with pytest.raises(DatasetError, match="has the name of a file"):
        check_destination(tmp_path / "out", scan(tmp_path / "data"), "key")
    for split in ("train", "test"):
        write(tmp_path / "splits" / split / name / "1.png")
        write(tmp_path / "splits" / split / "b" / "1.png")
    if name == "metadata.csv":
        with pytest.raises(DatasetError, match="has the name of a file"):
            check_destination(tmp_path / "out", scan(tmp_path / "splits"), "key")
    else:
        assert not check_destination(tmp_path / "out", scan(tmp_path / "splits"), "key")


def test_undecodable_names_are_copied(tmp_path):
    root = tmp_path / "data"
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        write(root / "a" / odd)
    except OSError:
        pytest.skip("names are UTF-8 here")
    write(root / "b" / "1.png")
    data = open_training_set(root, MethodConfig(image_size=8))
    planned, _ = plan_real(data, "copy")
    with BalancedFolder(tmp_path / "out", data, "key", real="copy", format="png", out_size="model") as balanced:
        for file in planned:
            balanced.add_real(file)
        balanced.write_metadata()
    assert (tmp_path / "out" / "a" / odd).read_bytes() == (root / "a" / odd).read_bytes()
    json.dumps(balanced.metadata)
    assert io.BytesIO((tmp_path / "out" / "metadata.csv").read_bytes()).read().count(b"caf\xe9.png") == 2
