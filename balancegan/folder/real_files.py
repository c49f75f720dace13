"""Plan the real images of a balanced folder: names, formats, space."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from balancegan.core.files import disk_errors, require_space
from balancegan.data.decode import is_deep_mode
from balancegan.data.training_set import TrainingSet

BLOCK = 4096  # bytes, in which file systems allocate space
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "PPM": ".ppm", "GIF": ".gif"}
READABLE = {"PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM"}  # what torchvision's ImageFolder picks up
SYNTHETIC = ("syn_*", "aug_*")
"""Patterns of the names of synthetic files."""
MOST_BYTES = 255
"""Maximum bytes in a file's name on nearly all file systems."""


@dataclass(frozen=True)
class RealFile:
    """A real image and where it goes, relative to the output folder; `split` is train, val, test or holdout."""

    row: int
    source: Path
    target: str
    label: str
    split: str
    convert: bool


def plan_real(data: TrainingSet, real: str) -> tuple[list[RealFile], list[str]]:
    """Return the names of all real files in the output, and notes on those that common loaders would skip.

    Files get the extension of their content. With `convert`, files that loaders skip become 8-bit PNG.
    """
    if real == "none":
        return [], []
    store, folder, planned = data.store, data.folder, []
    held = set(data.holdout_rows.tolist())
    used = {folded_name(above) for file in store.files for above in folders_above(folder.place(file))}
    gifs, deep = 0, 0
    for row, file in enumerate(store.files):
        skipped = file.format not in READABLE
        is_deep = is_deep_mode(store.native_modes[row])  # synthetic images always have 8 bits
        gifs, deep = gifs + skipped, deep + is_deep
        convert = real == "convert" and (skipped or is_deep)
        target = _target_name(folder.place(file), ".png" if convert else SUFFIXES.get(file.format, ""), used)
        split = "holdout" if row in held else file.split
        planned.append(RealFile(row, folder.path(file), target, store.classes[store.labels[row]], split, convert))
    notes = []
    if real != "convert":
        if gifs:
            notes.append(
                f"{gifs} real files are in a format that torchvision's ImageFolder skips (e.g. GIF): "
                "--real convert writes them as PNG."
            )
        if deep:
            notes.append(
                f"{deep} real files have more than 8 bits per value, the synthetic ones 8, and common loaders show the "
                "former as white: --real convert writes all as 8-bit PNG."
            )
    return planned, notes


def _target_name(place: str, suffix: str, used: set[str]) -> str:
    """Return the file's own path with the extension of its content, made unique if two would collide."""
    stem, dot, extension = place.rpartition(".")
    same = {".jpg": ("jpg", "jpeg", "jpe", "jfif"), ".tif": ("tif", "tiff"), ".ppm": ("ppm", "pgm", "pbm", "pnm")}
    fits = dot and "/" not in extension and extension.lower() in same.get(suffix, (suffix[1:],))
    if extension.lower() in ("jpe", "jfif", "pbm", "pnm"):  # correct, but loaders do not know them
        fits = False
    if fits or not suffix:
        name = place
    else:
        name = (stem if dot and "/" not in extension and len(extension) <= 5 else place) + suffix
    folder, _, name = name.rpartition("/")
    base, tail, k, mark = name.removesuffix(suffix), name[len(name.removesuffix(suffix)) :], 1, ""
    tail = tail or suffix
    while folded_name(name := f"{folder}/{shortened(base, MOST_BYTES - len(mark + tail))}{mark}{tail}") in used:
        k += 1
        mark = f"-{k}"
    used.add(folded_name(name))
    return name


def folded_name(name: str) -> str:
    """Fold a name, so that names that collide on some file system are equal: by case and by composed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def folders_above(rel: str) -> Iterator[str]:
    """Yield the folders on the way to a file, outermost first."""
    parts = rel.split("/")
    return ("/".join(parts[:k]) for k in range(1, len(parts)))


def shortened(name: str, room: int) -> str:
    """Cut a name (also one that is only its beginning) to at most `room` bytes without splitting a character."""
    raw = os.fsencode(name)
    if len(raw) <= room:
        return name
    while raw[room] & 0xC0 == 0x80 and room > 0:
        room -= 1
    return os.fsdecode(raw[:room])


def check_space(out: Path, real: Sequence[RealFile], mode: str, synthetic: int, bytes_each: int) -> None:
    """Raise `DiskError` if the files still to be written will probably not fit on the disk of `out`."""
    place = next(p for p in (out, *out.absolute().parents) if p.is_dir())
    with disk_errors(f"read the free space of {place}"):
        device = place.stat().st_dev
        missing = [f.source.stat() for f in real if mode != "symlink" and not (out / f.target).exists()]
        copied = [s.st_size for s in missing if mode != "hardlink" or s.st_dev != device]
        needed = sum(-(-size // BLOCK) * BLOCK for size in copied)  # small files take whole blocks
        needed += max(0, synthetic - sum(1 for pattern in SYNTHETIC for _ in out.rglob(pattern))) * bytes_each
    hint = "choose another disk with --out, or link the real images with --real symlink"
    require_space(place, needed, "the balanced folder needs", hint)
