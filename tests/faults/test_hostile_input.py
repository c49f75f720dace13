"""Folders that mean harm or are just odd: whatever lies in them, they are read, counted, and never written."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import hostile
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from balancegan.core.config import MethodConfig
from balancegan.core.errors import BalanceGANError
from balancegan.core.text import printable
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import ImageFolder, scan
from balancegan.data.store import open_store
from balancegan.data.training_set import open_training_set
from balancegan.folder.destination import check_destination
from balancegan.folder.export import BalancedFolder
from balancegan.folder.real_files import plan_real
from balancegan.inspection.inspect import inspect_folder
from balancegan.report.inspection import render_html

quick = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a failing example is large, but found soon; the long run shrinks it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
thorough = settings(quick, max_examples=1500, derandomize=False, phases=list(Phase))

SPECIAL = hostile.special_files()
SPLIT_DIRS = ("train", "Validation", "test")

# Folders -------------------------------------------------------------------------------------------------------------


def _nameable(name: str) -> bool:
    """Whether a file can be called that and is not hidden."""
    raw = os.fsencode(name)
    return 0 < len(raw) <= 255 and b"/" not in raw and b"\0" not in raw and not name.startswith(".")


names = st.one_of(
    st.sampled_from(hostile.NAMES),
    st.binary(min_size=1, max_size=12).map(os.fsdecode),
    st.text(min_size=1, max_size=8),
).filter(lambda name: _encodable(name) and _nameable(name) and name != "__MACOSX")


def _encodable(name: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(name)) == name
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return False


suffixes = st.sampled_from(["", ".png", ".JPG", ".tiff", ".gif", ".webp", ".txt", ".jpe", ".pgm"])


@dataclass(frozen=True)
class Entry:
    """One thing in a class folder: what to make, and what must become of it."""

    name: str
    kind: str
    make: Callable[[Path], object]
    fate: str  # image, bad, either, side, hidden, twice, loop, folder


def _file(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _fit(name: str, suffix: str) -> str:
    """The name with this suffix, cut so that a file system takes it."""
    room = 255 - len(suffix)
    return os.fsdecode(os.fsencode(name)[:room]) + suffix


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Anything that can lie in a class folder."""
    name = draw(names)
    kind = draw(
        st.sampled_from(
            [
                *("whole", "whole", "whole", "cut", "changed", "empty", "html", "noise", "magic", "giant"),
                *("side", "hidden", "special", "folder", "inner", "up", "out", "out folder"),
            ]
        )
    )
    if kind == "whole":
        which = draw(st.sampled_from(sorted(hostile.pictures())))
        return Entry(_fit(name, draw(suffixes)), which, _file(hostile.pictures()[which]), "image")
    if kind in ("cut", "changed"):
        data = bytearray(hostile.pictures()[draw(st.sampled_from(sorted(hostile.pictures())))])
        if kind == "cut":
            data = data[: draw(st.integers(1, len(data) - 1))]
        for _ in range(draw(st.integers(1, 6)) if kind == "changed" else 0):
            data[draw(st.integers(0, min(60, len(data) - 1)))] = draw(st.integers(0, 255))
        return Entry(_fit(name, ".png"), kind, _file(bytes(data)), "either")
    if kind == "empty":
        return Entry(_fit(name, ".png"), kind, _file(b""), "bad")
    if kind == "html":
        return Entry(_fit(name, ".jpg"), kind, _file(hostile.HTML), "bad")
    if kind == "noise":
        return Entry(_fit(name, ".png"), kind, _file(draw(st.binary(min_size=1, max_size=60))), "either")
    if kind == "magic":
        heads = [
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"II*\0",
            b"MM\0+",
            b"RIFF\0\0\0\0WEBPVP8X",
            b"P6\n",
        ]
        data = draw(st.sampled_from(heads)) + draw(st.binary(max_size=80))
        return Entry(_fit(name, draw(suffixes)), kind, _file(data), "either")
    if kind == "giant":
        which = draw(st.sampled_from(sorted(hostile.giants())))
        return Entry(_fit(name, ".png"), f"giant {which}", _file(hostile.giants()[which]), "either")
    if kind == "side":
        return Entry(_fit(name, ".txt"), kind, _file(b"notes"), "side")
    if kind == "hidden":
        return Entry(_fit("." + name[:60], ".png"), kind, _file(hostile.pictures()["png"]), "hidden")
    if kind == "special":
        which = draw(st.sampled_from(sorted(SPECIAL)))
        return Entry(_fit(name, ".png"), which, SPECIAL[which], "bad")
    if kind == "folder":
        return Entry(_fit(name, ".png"), kind, lambda path: path.mkdir(), "folder")
    if kind == "inner":
        inner = draw(names)
        return Entry(name, kind, lambda path: _inner(path / _fit(inner, ".png")), "inner")
    if kind == "up":
        target = draw(st.sampled_from([".", "..", "../..", "/"]))
        return Entry(_fit(name, ".png"), f"link to {target}", lambda path: path.symlink_to(target), "loop")
    outside = "outside/picture.png" if kind == "out" else "outside"
    return Entry(name, kind, lambda path: path.symlink_to(_beside(path, outside)), "out")


def _inner(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(hostile.pictures()["jpeg"])


def _beside(path: Path, what: str) -> Path:
    """Something outside the data set that holds `path`."""
    return next(p for p in path.parents if (p / "outside").is_dir() and (p / "root of all").is_dir()) / what


@dataclass(frozen=True)
class Plan:
    """A whole data set: class folders with what lies in them, per split (one split "" for the flat layout)."""

    splits: dict[str, dict[str, list[Entry]]]
    loose: list[Entry]

    def make(self, base: Path) -> Path:
        """Write it to `base/root of all/data`, with one picture outside of it."""
        (base / "outside").mkdir()
        (base / "outside" / "picture.png").write_bytes(hostile.pictures()["jpeg"])
        root = base / "root of all" / "data"
        root.mkdir(parents=True)
        for split, classes in self.splits.items():
            for name, inside in classes.items():
                folder = root / split / name
                folder.mkdir(parents=True)
                for entry in inside:
                    entry.make(folder / entry.name)
        for entry in self.loose:
            if not os.path.lexists(root / entry.name):
                entry.make(root / entry.name)
        return root

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Paths relative to the root."""
        for split, classes in self.splits.items():
            for name, inside in classes.items():
                for entry in inside:
                    yield "/".join(filter(None, (split, name, entry.name))), entry


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Data sets that have at least two classes with an image each, and much else."""
    which = draw(st.sampled_from([("",), ("",), ("train",), SPLIT_DIRS]))
    folders = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    splits = {}
    for split in which:
        classes = {}
        for k, name in enumerate(folders):
            inside = draw(st.lists(entries(), max_size=7, unique_by=lambda e: e.name))
            if k < 2 and split in ("", "train"):
                keep = Entry(f"kept {k}.png", "png", _file(hostile.encoded(hostile.picture(k), "PNG")), "image")
                inside = [*(e for e in inside if e.name != keep.name), keep]
            classes[name] = inside
        splits[split] = classes
    loose = draw(st.lists(entries().filter(lambda e: e.fate not in ("folder", "inner", "out", "loop")), max_size=2))
    return Plan(splits, loose)


@contextlib.contextmanager
def made(plan: Plan) -> Iterator[Path]:
    """The plan on disk, in a folder that is thrown away."""
    base = tempfile.mkdtemp()
    try:
        yield plan.make(Path(base))
    finally:
        shutil.rmtree(base)


# Properties ----------------------------------------------------------------------------------------------------------


def one_line(text: str) -> bool:
    """Whether a text is fit for one line on any terminal."""
    text.encode()
    return text.isprintable()


def strict(document: object) -> object:
    """The document through JSON as strict readers know it, and through UTF-8."""
    text = json.dumps(document, allow_nan=False)
    assert text.isascii()
    return json.loads(text)


class Listing(list):
    """What `os.scandir` gives: entries one by one, and a context."""

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __next__(self) -> os.DirEntry[str]:
        if not self:
            raise StopIteration
        return self.pop()

    def __iter__(self) -> Listing:
        return self


@contextlib.contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Directories listed in another order, as another file system would."""
    plain, rng = os.scandir, random.Random(seed)

    def scandir(path: str) -> Listing:
        with plain(path) as it:
            found = sorted(it, key=lambda entry: entry.name)
        rng.shuffle(found)
        return Listing(found)

    with mock.patch("os.scandir", scandir):
        yield


def check_scan(plan: Plan, root: Path) -> ImageFolder | None:
    """Every entry is accounted for, in any order of listing, or the whole folder is refused in one line."""
    try:
        folder = scan(root)
    except BalanceGANError as refused:
        assert one_line(refused.message) and one_line(refused.hint)
        return None
    for seed in (1, 2):
        with shuffled(seed):
            assert scan(root) == folder
    images, bad = [f.rel for f in folder.files], {b.path: b.reason for b in folder.bad_files}
    assert len(set(images)) == len(images) and not set(images) & bad.keys()
    assert all(map(one_line, folder.notes)) and all(map(one_line, bad.values())) and all(bad.values())
    assert all(root / rel == folder.root / rel and os.path.lexists(root / rel) for rel in (*images, *bad))
    left = Counter[str]()
    for rel, entry in plan.entries():
        if entry.fate == "image":
            assert rel in images
        elif entry.fate == "bad":
            assert rel in bad
        elif entry.fate == "inner":
            assert any(f.startswith(f"{rel}/") for f in images)
        elif entry.fate == "either":
            left["side"] += rel not in images and rel not in bad
        else:
            assert rel not in images or entry.kind == "out"
            left[entry.fate] += 1
    told = " ; ".join(folder.notes)
    hidden = re.search(r"([\d,]+) hidden", told)
    side = re.search(r"([\d,]+) (?:file that is not an image|files that are not images)", told)
    assert int(hidden[1] if hidden else 0) == left["hidden"] + sum(e.fate == "hidden" for e in _made_loose(plan))
    assert int(side[1] if side else 0) == left["side"]
    for rel, entry in plan.entries():
        if entry.fate == "loop":
            assert any("link" in note and printable(rel) in note for note in folder.notes)
    return folder


def _made_loose(plan: Plan) -> list[Entry]:
    seen, found = {name for classes in plan.splits.values() for name in classes} | plan.splits.keys(), []
    for entry in plan.loose:
        if entry.name not in seen:
            seen.add(entry.name)
            found.append(entry)
    return found


def check_inspection(folder: ImageFolder) -> None:
    """The document is JSON and holds the names as they are, the page is text without any markup from names."""
    found = inspect_folder(folder, duplicates="near")
    document = strict(found.to_json())
    assert [c["name"] for c in document["classes"]] == list(folder.classes)
    assert {b["path"] for b in document["bad_files"]} >= {b.path for b in folder.bad_files}
    assert sum(c["count"] for c in document["classes"]) == document["num_images"]
    assert all(map(one_line, found.advice)) and all(one_line(b.reason) for b in found.bad_files)
    page = render_html(found, folder)
    page.encode()
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
    assert page.count("<title>") == page.count("</title>") == 1
    strict(inspect_folder(folder, duplicates="off").to_json())


def check_store(folder: ImageFolder, base: Path) -> None:
    """The same rows whether built or read; names of the balanced folder stay inside it and apart from each other."""
    wanted = DecodeSettings(image_size=8)
    try:
        check_destination(base / "out", folder, "key")
        first = open_store(folder, wanted, cache_dir=base / "cache")
    except BalanceGANError as refused:
        assert one_line(refused.message) and one_line(refused.hint)
        return
    again = open_store(folder, wanted, cache_dir=base / "cache")
    assert again.summary() == strict(first.summary()) == strict(again.summary())
    assert (again.images == first.images).all() and again.files == first.files
    bad = {b.path for b in first.bad_files}
    kept = [f.rel for f in folder.files if folder.classes[f.label] in first.classes and f.rel not in bad]
    assert [f.rel for f in first.files] == kept
    data = open_training_set(folder.root, MethodConfig(image_size=8))
    out = base / "out"
    for real in ("copy", "convert"):
        planned, _ = plan_real(data, real)
        check_targets([f.target for f in planned])
        shutil.rmtree(out, ignore_errors=True)
        with BalancedFolder(out, data, "key", real=real, format="png", out_size="model") as balanced:
            for file in planned:
                balanced.add_real(file)
            for label in range(len(data.class_names)):
                balanced.add_synthetic(data.store.images[0], label, 5, run="r", number="00000", checkpoint="c")
            balanced.write_metadata()
            balanced.finish({})
        rows = [row for rows in balanced.metadata.values() for row in rows]
        assert len(rows) == len(planned) + len(data.class_names)
        assert check_destination(out, folder, "key")
        for file in planned:
            if not file.convert:
                assert (out / file.target).read_bytes() == file.source.read_bytes()
    assert not (base / "harm").exists()


def check_targets(targets: list[str]) -> None:
    """Paths that stay in the folder they are put in, can be made, and do not meet on any file system."""
    import unicodedata

    folded = [unicodedata.normalize("NFC", unicodedata.normalize("NFD", t).casefold()) for t in targets]
    assert len(set(folded)) == len(folded)
    folders = {"/".join(parts[:k]) for parts in (t.split("/") for t in folded) for k in range(1, len(parts))}
    assert not folders & set(folded)
    for target in targets:
        parts = target.split("/")
        assert not target.startswith("/") and ".." not in parts and "." not in parts and "" not in parts
        assert all(len(os.fsencode(part)) <= 255 for part in parts)


def check_all(plan: Plan) -> None:
    with made(plan) as root:
        base = root.parent.parent
        before = hostile.snapshot(root)
        folder = check_scan(plan, root)
        if folder is not None:
            check_inspection(folder)
            check_store(folder, base)
        assert hostile.snapshot(root) == before
        assert sorted(p.name for p in (base / "outside").iterdir()) == ["picture.png"]


@quick
@given(plans())
def test_any_folder(plan):
    check_all(plan)


@pytest.mark.slow
@thorough
@given(plans())
def test_any_folder_at_length(plan):
    check_all(plan)
