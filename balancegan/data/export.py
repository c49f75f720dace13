"""The balanced folder: real files byte for byte, synthetic files beside them, metadata.csv where loaders look for it.

Every file appears under its final name only when it is whole, so a run that was killed leaves a folder that the same
command completes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from balancegan.data import metadata
from balancegan.data.decode import DecodeSettings, decode_image
from balancegan.data.decode import to_uint8 as scale_to_uint8
from balancegan.data.metadata import COLUMNS
from balancegan.data.regular import copy_regular, open_regular
from balancegan.data.scan import ImageFile, ImageFolder, printable
from balancegan.data.training_set import TrainingSet
from balancegan.errors import DatasetError, UsageError
from balancegan.files import disk_errors, drop_lock, refuse_source, require_space, write_atomic, write_json
from balancegan.grid import PNG_OPTIONS, png_bytes, to_pil

BLOCK = 4096  # bytes that a file system gives at a time
IN_FLIGHT = 512
"""Synthetic images that wait for being encoded and written: what bounds the memory."""
MARKER = ".balancegan.json"
LOCK = ".balancegan.lock"
BEGINNING = re.compile(rf"{re.escape(LOCK)}|\.tmp-[a-z0-9_]{{8}}")
"""What a call leaves in a new folder that was killed before it had written the marker."""
REAL_MODES = ("copy", "hardlink", "symlink", "convert", "none")
FORMATS = ("png", "jpeg", "match")
OUT_SIZES = ("model", "native")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "PPM": ".ppm", "GIF": ".gif"}
READABLE = {"PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM"}  # what torchvision's ImageFolder picks up
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "PNG": PNG_OPTIONS,
}
NONE = "-"  # readers guess a column's type per file: an empty text column would become numbers in a split without fakes
METADATA = COLUMNS
RESERVED = frozenset({metadata.NAME, MARKER, "readme.md", "report.html", "report.json"})
"""Files of a balanced folder beside its class folders, in lower case."""
MOST_BYTES = 255
"""Of a file's name, on nearly all file systems."""


@dataclass(frozen=True)
class ClassForm:
    """How a class's real files look: what synthetic files should be like so as not to betray themselves."""

    format: str
    mode: str  # L or RGB
    sizes: np.ndarray  # (n, 2) width, height of its real images


def class_form(data: TrainingSet, label: int) -> ClassForm:
    """The usual format and mode of a class, and all its sizes, from the training split."""
    rows = np.sort(data.split_rows[data.labels[data.split_rows] == label])
    formats = Counter(data.store.files[i].format for i in rows if data.store.files[i].format in READABLE - {"PPM"})
    grey = Counter("L" if data.store.native_modes[i] in ("1", "L", "LA", "I", "F", "I;16") else "RGB" for i in rows)
    mode = grey.most_common(1)[0][0] if data.store.images.shape[1] == 1 else "RGB"
    return ClassForm(formats.most_common(1)[0][0] if formats else "PNG", mode, data.store.native_sizes[rows])


def check_destination(out: Path, source: ImageFolder, key: str) -> bool:
    """Refuse a folder that is not ours to write; return whether it already holds the complete result of this `key`.

    Ours: a new or empty folder, or one that the same command (same `key`) started. Never the source, a folder in it,
    or a folder around it.
    """
    refuse_source(out, source.folders(), around=True)
    _refuse_reserved(source)
    if is_free(out):
        return False
    marker = _require_marker(out, key)
    if (out / LOCK).exists():  # said before hours of work; what decides is the lock that `BalancedFolder` takes
        drop_lock(_lock(out))
    return marker.get("finished") is True and isinstance(marker.get("result"), dict) and _all_there(out)


def _require_marker(out: Path, key: str) -> dict[str, Any]:
    """What the marker says; raises `UsageError` where the folder is not this command's."""
    marker = _marker(out)
    if marker is None:
        raise UsageError(f"{out} is not empty", "choose a new folder with --out")
    if marker.get("key") != key:
        raise UsageError(f"{out} holds the result of another command", "choose a new folder, e.g. --out balanced2")
    return marker


def _lock(out: Path) -> FileLock:
    """Hold the folder for this process; raises `UsageError` where another one does. A process that dies lets go."""
    lock = FileLock(out / LOCK)
    with disk_errors(f"lock {out}"):
        try:
            lock.acquire(timeout=0)
        except Timeout:  # an OSError too
            raise UsageError(
                f"another process is writing {out}", "wait for it, or choose another folder with --out"
            ) from None
    return lock


def _refuse_reserved(source: ImageFolder) -> None:
    """Refuse class folders that lie, in the output, where a file must."""
    for name in source.classes:
        if name.lower() in RESERVED and (not source.split_dirs or name.lower() == metadata.NAME):
            raise DatasetError(
                f"a class folder is called '{printable(name)}', as is a file of every balanced folder", "rename it"
            )


def _marker(out: Path) -> dict[str, Any] | None:
    """What the folder says of itself; None when it says nothing that can be read."""
    try:
        with open_regular(out / MARKER) as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):  # so deeply nested that no program of ours wrote it
        return None
    return found if isinstance(found, dict) else None


def is_free(out: Path) -> bool:
    """Whether `out` is a new or empty folder; raises `UsageError` for a file."""
    if os.path.lexists(out) and not out.is_dir():
        raise UsageError(f"{out} is a file", "choose another folder with --out")
    with disk_errors(f"read {out}"):
        return not out.is_dir() or all(BEGINNING.fullmatch(path.name) for path in out.iterdir())


def _all_there(out: Path) -> bool:
    """Whether every image that the folder's metadata names still exists."""
    tables = [*out.glob("metadata.csv"), *out.glob("*/metadata.csv")]
    try:
        names = [(table.parent, row.get("file_name", "")) for table in tables for row in metadata.read_table(table)]
    except DatasetError:
        return False
    return bool(tables) and all(metadata.stays_inside(name) and _is_there(place / name) for place, name in names)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system takes
        return False


def plan_key(plan: dict[str, Any]) -> str:
    """A hash that tells whether two commands mean the same output."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RealFile:
    """A real image and where it goes, relative to the output folder."""

    row: int
    source: Path
    target: str
    label: str
    convert: bool


def plan_real(data: TrainingSet, real: str) -> tuple[list[RealFile], list[str]]:
    """Names of all real files in the output, and sentences on those that common loaders would skip.

    Files get the extension of their content. With `convert`, files that loaders skip become 8-bit PNG.
    """
    if real == "none":
        return [], []
    store, folder, planned = data.store, data.folder, []
    used = {_folded(above) for file in store.files for above in _above(file.rel)}
    gifs, deep = 0, 0
    modes = Counter(_is_deep(mode) for mode in store.native_modes)
    for row, file in enumerate(store.files):
        skipped = file.format not in READABLE
        mixed = _is_deep(store.native_modes[row]) and modes[False] > 0
        gifs, deep = gifs + skipped, deep + mixed
        convert = real == "convert" and (skipped or mixed)
        target = _target_name(file, ".png" if convert else SUFFIXES.get(file.format, ""), used)
        planned.append(RealFile(row, folder.path(file), target, store.classes[store.labels[row]], convert))
    notes = []
    if real != "convert":
        if gifs:
            notes.append(
                f"{gifs} real files are in a format that torchvision's ImageFolder skips (e.g. gif): "
                "--real convert writes them as PNG."
            )
        if deep:
            notes.append(
                f"{deep} real files have 16 or 32 bits per pixel beside 8-bit ones: "
                "--real convert writes them as 8-bit PNG."
            )
    return planned, notes


def _is_deep(mode: str) -> bool:
    return mode.startswith(("I", "F"))


def _target_name(file: ImageFile, suffix: str, used: set[str]) -> str:
    """The file's own relative path with the suffix of its content, made unique where two would collide."""
    stem, dot, extension = file.rel.rpartition(".")
    same = {".jpg": ("jpg", "jpeg", "jpe", "jfif"), ".tif": ("tif", "tiff"), ".ppm": ("ppm", "pgm", "pbm", "pnm")}
    fits = dot and "/" not in extension and extension.lower() in same.get(suffix, (suffix[1:],))
    if extension.lower() in ("jpe", "jfif", "pbm", "pnm"):  # right, but unknown to loaders
        fits = False
    if fits or not suffix:
        name = file.rel
    else:
        name = (stem if dot and "/" not in extension and len(extension) <= 5 else file.rel) + suffix
    folder, _, name = name.rpartition("/")
    base, tail, k, mark = name.removesuffix(suffix), name[len(name.removesuffix(suffix)) :], 1, ""
    tail = tail or suffix
    while _folded(name := f"{folder}/{_cut(base, MOST_BYTES - len(mark + tail))}{mark}{tail}") in used:
        k += 1
        mark = f"-{k}"
    used.add(_folded(name))
    return name


def _folded(name: str) -> str:
    """Equal for names that are one on some file system: case does not count there, nor how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _above(rel: str) -> Iterator[str]:
    """The folders on the way to a file."""
    parts = rel.split("/")
    return ("/".join(parts[:k]) for k in range(1, len(parts)))


def _cut(name: str, room: int) -> str:
    """A name of at most `room` bytes that ends with a whole character."""
    raw = os.fsencode(name)
    if len(raw) <= room:
        return name
    while raw[room] & 0xC0 == 0x80 and room > 0:
        room -= 1
    return os.fsdecode(raw[:room])


class BalancedFolder:
    """Writes the output folder; use as a context manager, which holds it and waits for pending writes.

    Entering raises `UsageError` where another process holds the folder, or made it another command's meanwhile.
    """

    def __init__(self, out: Path, data: TrainingSet, key: str, *, real: str, format: str, out_size: str) -> None:
        self.out, self.data, self.real, self.format, self.out_size = out, data, real, format, out_size
        self.key = key
        self._taken: set[str] = set()  # real files and their folders, folded, which synthetic ones must avoid
        self._made: set[Path] = set()  # folders that are there and lie in `out`
        self.metadata: dict[str, list[dict[str, str]]] = {}  # folder of the metadata.csv -> rows
        self.forms = [class_form(data, label) for label in range(len(data.class_names))]
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> BalancedFolder:
        with disk_errors(f"create {self.out}"):
            self.out.mkdir(parents=True, exist_ok=True)
        self._held = _lock(self.out)
        try:
            before = {} if is_free(self.out) else _require_marker(self.out, self.key)
            marker = {"key": self.key, "finished": False}
            if "result" in before:  # whether its README.md was edited since must be known to who goes on after a kill
                marker["result"] = before["result"]
            with disk_errors(f"create {self.out}"):
                write_json(self.out / MARKER, marker)
        except BaseException:
            drop_lock(self._held)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        finally:
            drop_lock(self._held)

    def add_real(self, file: RealFile) -> None:
        """Copy, link or convert one real image, unless an earlier call did; all before the first synthetic one."""
        target = self.out / file.target
        self._taken |= {_folded(name) for name in (file.target, *_above(file.target))}
        with disk_errors(f"write {printable(file.target)}"):
            if target.is_symlink() and not target.exists():
                target.unlink()  # the data moved since an earlier call linked it
            if not target.exists():
                self._make_folder(target.parent)
                self._place(file, target)
        row = {"label": file.label, "synthetic": "false", "run": NONE, "checkpoint_sha256": NONE}
        self._record(file.target, {**row, "source_path": str(file.source)})

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the output; a link in its place, left there by whoever began it, must not lead out."""
        if folder in self._made:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(self.out.resolve()):
            raise OSError(errno.ELOOP, "a link leads out of the folder", str(folder))
        self._made.add(folder)

    def _place(self, file: RealFile, target: Path) -> None:
        if file.convert:
            settings = self.data.store.settings
            write_atomic(target, convert_to_png(file.source, settings, self.data))
        elif self.real == "symlink":
            target.symlink_to(file.source.absolute())
        elif self.real == "hardlink" and file.source.stat().st_dev == self.out.stat().st_dev:
            os.link(file.source.resolve(), target)
        else:
            temporary = target.with_name(
                f".tmp-{os.getpid()}-{hashlib.sha1(os.fsencode(target.name)).hexdigest()[:12]}"
            )
            copy_regular(file.source, temporary)
            temporary.replace(target)

    def synthetic_name(self, label: int, run: str, seed: int) -> str:
        """Where the synthetic image of a seed goes, relative to the output folder."""
        folder, name = self.data.folder, self.data.class_names[label]
        stem, suffix = f"{folder.class_dir('train', name)}/syn_{run}_{seed}", SUFFIXES[self._format(label)]
        k, unique = 1, stem
        while _folded(unique + suffix) in self._taken:  # the data came from a balanced folder
            k += 1
            unique = f"{stem}-{k}"
        return unique + suffix

    def add_synthetic(self, image: np.ndarray, label: int, seed: int, *, run: str, number: str, checkpoint: str) -> str:
        """Encode and write one synthetic image (uint8 (C, S, S)) in the background, unless an earlier call did."""
        name = self.synthetic_name(label, number, seed)
        path = self.out / name
        with disk_errors(f"write {printable(name)}"):
            there = path.exists()
            self._make_folder(path.parent)
        if not there:
            self._pending.append(self._pool.submit(self._encode, image, label, seed, path))
            self._wait(IN_FLIGHT)  # for the oldest alone: the others are written while the next ones are generated
        row = {"label": self.data.class_names[label], "synthetic": "true", "source_path": NONE}
        self._record(name, {**row, "run": run, "seed": str(seed), "checkpoint_sha256": checkpoint})
        return name

    def flush(self) -> None:
        """Wait for all pending writes and raise what went wrong."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        """Wait until at most so many writes are pending, and raise what went wrong in those that are over."""
        with disk_errors(f"write synthetic images to {self.out}"):
            while len(self._pending) > most:
                self._pending.popleft().result()

    def _format(self, label: int) -> str:
        return {"png": "PNG", "jpeg": "JPEG", "match": self.forms[label].format}[self.format]

    def _encode(self, image: np.ndarray, label: int, seed: int, path: Path) -> None:
        form, picture = self.forms[label], to_pil(image)
        if self.out_size == "native":
            # A size that a real image of the class has: all alike where they are, as varied where they vary.
            size = form.sizes[np.random.default_rng(seed).integers(len(form.sizes))]
            picture = picture.resize((int(size[0]), int(size[1])), Image.Resampling.LANCZOS)
        format = self._format(label)
        buffer = io.BytesIO()
        picture.convert(form.mode).save(buffer, format, **SAVE_OPTIONS.get(format, {}))
        write_atomic(path, buffer.getvalue())

    def _record(self, target: str, row: dict[str, str]) -> None:
        """Remember a metadata row for the metadata.csv of the split's folder (the root where there are no splits)."""
        folder, name = ("", target)
        if self.data.folder.split_dirs:
            folder, _, name = target.partition("/")
        self.metadata.setdefault(folder, []).append({"file_name": name, **row})

    def write_metadata(self) -> None:
        """One metadata.csv per split folder, or one at the root."""
        self.flush()
        for folder, rows in self.metadata.items():
            with disk_errors("write metadata.csv"):
                self._make_folder(self.out / folder)
                write_atomic(self.out / folder / metadata.NAME, metadata.table_bytes(rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the folder as whole, keep what the command reported, clear what a killed process left half-written."""
        with disk_errors(f"finish {self.out}"):
            for leftover in self.out.rglob(".tmp-*"):
                leftover.unlink()
            ours = {self.out / folder / row["file_name"] for folder, rows in self.metadata.items() for row in rows}
            for leftover in self.out.rglob("syn_*"):  # of a killed process that took other samples
                if leftover.is_file() and leftover not in ours:
                    leftover.unlink()
            write_json(self.out / MARKER, {"key": self.key, "finished": True, "result": result})


def finished_result(out: Path) -> dict[str, Any]:
    """What the command that completed the folder reported; nothing when that cannot be read."""
    result = (_marker(out) or {}).get("result")
    return result if isinstance(result, dict) else {}


def convert_to_png(path: Path, settings: DecodeSettings, data: TrainingSet) -> bytes:
    """Decode as for training (window, background, orientation), keep the native size, encode as 8-bit PNG."""
    picture = decode_image(path, background=settings.background)
    return png_bytes(Image.fromarray(scale_to_uint8(picture.pixels, data.store.window)))


def check_space(out: Path, real: Sequence[RealFile], mode: str, synthetic: int, bytes_each: int) -> None:
    """Raise `DiskError` when what is still to be written will probably not fit where `out` will be."""
    place = next(p for p in (out, *out.absolute().parents) if p.is_dir())
    with disk_errors(f"read the free space of {place}"):
        device = place.stat().st_dev
        missing = [f.source.stat() for f in real if mode != "symlink" and not (out / f.target).exists()]
        copied = [s.st_size for s in missing if mode != "hardlink" or s.st_dev != device]
        needed = sum(-(-size // BLOCK) * BLOCK for size in copied)  # small files take whole blocks
        needed += max(0, synthetic - sum(1 for _ in out.rglob("syn_*"))) * bytes_each
    hint = "choose another disk with --out, or link the real images with --real symlink"
    require_space(place, needed, "the balanced folder needs", hint)
