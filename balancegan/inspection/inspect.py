"""Inspect an image folder: how imbalanced it is, what is broken, what is duplicated. Reads, never writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple, get_args

import numpy as np

from balancegan.core.errors import UsageError
from balancegan.core.options import Duplicates
from balancegan.core.progress import Progress, silent
from balancegan.data.decode import ImageError, decode_image, read_header
from balancegan.data.duplicates import equal_groups, near_groups, pixel_digest, thumbnail
from balancegan.data.imbalance import imbalance_rate, normalised_entropy, to_add
from balancegan.data.pool import chunk_size, chunked, map_chunks
from balancegan.data.scan import BadFile, ImageFile, ImageFolder, no_collection
from balancegan.inspection.advice import advise
from balancegan.inspection.findings import ClassCount, Group, ImageSizes, Inspection, SizeCount

DUPLICATES = get_args(Duplicates)


class _Look(NamedTuple):
    """What a worker found in one file."""

    reason: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    digest: bytes = b""
    thumb: bytes = b""


@no_collection()
def inspect_folder(
    folder: ImageFolder,
    *,
    split: str = "train",
    target_ir: float = 1.0,
    duplicates: str = "exact",
    workers: int | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Decode every image of every split and return the findings.

    `duplicates`: "exact" compares decoded pixels, "near" also finds resized and re-encoded copies, "off" reads only
    headers and so misses files damaged after the header. Raises UsageError if the split does not exist.
    """
    if split not in folder.splits:
        raise UsageError(f"{folder.root} has no {split} split", f"it has: {', '.join(folder.splits)}")
    if duplicates not in DUPLICATES:
        raise UsageError(f"duplicates '{duplicates}' is unknown", f"choose one of {', '.join(DUPLICATES)}")
    to_add({}, target_ir)  # reject an invalid target before minutes of decoding
    looks = _look_at_all(folder, duplicates, workers, progress)
    pairs = list(zip(folder.files, looks, strict=True))
    good = [(f, look) for f, look in pairs if not look.reason]
    damaged = [BadFile(f.rel, look.reason) for f, look in pairs if look.reason]
    found = _findings(folder, good, split, target_ir, duplicates, damaged)
    return Inspection(**{**found.__dict__, "advice": tuple(advise(found))})


def _findings(
    folder: ImageFolder,
    good: list[tuple[ImageFile, _Look]],
    split: str,
    target_ir: float,
    duplicates: str,
    damaged: list[BadFile],
) -> Inspection:
    splits = {s: _count(folder, [f for f, _ in good if f.split == s]) for s in folder.splits}
    counts, total = splits[split], sum(splits[split].values())
    missing = to_add(counts, target_ir)
    inside = [(f, look) for f, look in good if f.split == split]
    groups = [_group(folder, [good[i][0] for i in g]) for g in equal_groups([look.digest for _, look in good])]
    return Inspection(
        root=str(folder.root),
        split=split,
        target_ir=target_ir,
        duplicates_mode=duplicates,
        splits=splits,
        classes=tuple(ClassCount(name, n, n / total if total else 0.0, missing[name]) for name, n in counts.items()),
        imbalance_rate=imbalance_rate(counts) if total else None,
        normalised_entropy=normalised_entropy(counts),
        image_sizes=_sizes([look.size for _, look in inside]),
        modes=dict(Counter(look.mode for _, look in inside).most_common()),
        formats=dict(Counter(f.format for f, _ in inside).most_common()),
        bad_files=tuple(sorted([*folder.bad_files, *damaged], key=lambda b: b.path)),
        duplicates=tuple(_within_class(folder, good)),
        conflicts=tuple(g for g in groups if len(g.classes) > 1),
        leaks=tuple(g for g in groups if len(g.splits) > 1),
        near_duplicates=tuple(_near(folder, good)) if duplicates == "near" else (),
        notes=folder.notes,
    )


def _look_at_all(folder: ImageFolder, duplicates: str, workers: int | None, progress: Progress) -> list[_Look]:
    rels = [f.rel for f in folder.files]
    looks: list[_Look] = []
    size = chunk_size(folder.mean_bytes)
    progress("inspect", 0, len(rels))
    for part in map_chunks(partial(_look_at, str(folder.root), duplicates), chunked(rels, size), workers=workers):
        looks += part
        progress("inspect", len(looks), len(rels))
    return looks


def _look_at(root: str, duplicates: str, rels: Sequence[str]) -> list[_Look]:
    """Inspect files in a worker."""
    return [_look(f"{root}/{rel}", duplicates) for rel in rels]


def _look(path: str, duplicates: str) -> _Look:
    try:
        if duplicates == "off":
            size, mode, _ = read_header(path)
            return _Look("", size, mode)
        picture = decode_image(path)
    except ImageError as e:
        return _Look(e.reason)
    thumb = thumbnail(picture.pixels) if duplicates == "near" else b""
    return _Look("", picture.size, picture.mode, pixel_digest(picture.pixels), thumb)


def _count(folder: ImageFolder, files: Iterable[ImageFile]) -> dict[str, int]:
    numbers = Counter(f.label for f in files)
    return {name: numbers[label] for label, name in enumerate(folder.classes)}


def _sizes(sizes: list[tuple[int, int]]) -> ImageSizes | None:
    if not sizes:
        return None
    counted = Counter(sizes)
    common = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:10]
    widths, heights = [w for w, _ in counted], [h for _, h in counted]
    return ImageSizes(
        distinct=len(counted),
        common=tuple(SizeCount(w, h, n) for (w, h), n in common),
        min_width=min(widths),
        max_width=max(widths),
        min_height=min(heights),
        max_height=max(heights),
    )


def _group(folder: ImageFolder, files: list[ImageFile]) -> Group:
    present = {f.split for f in files}
    return Group(
        paths=tuple(f.rel for f in files),
        classes=tuple(sorted({folder.classes[f.label] for f in files})),
        splits=tuple(s for s in folder.splits if s in present),
    )


def _within_class(folder: ImageFolder, good: list[tuple[ImageFile, _Look]]) -> list[Group]:
    """Group duplicates within one class of one split; duplicates across classes or splits are listed elsewhere."""
    keys = [f"{f.split}/{f.label}/".encode() + look.digest if look.digest else b"" for f, look in good]
    return [_group(folder, [good[i][0] for i in g]) for g in equal_groups(keys)]


def _near(folder: ImageFolder, good: list[tuple[ImageFile, _Look]]) -> list[Group]:
    """Group nearly equal images; groups that contain only exact copies of one image are left out."""
    first = {look.digest: i for i, (_, look) in reversed(list(enumerate(good)))}
    rows = sorted(first.values())
    if not rows:
        return []
    copies: dict[bytes, list[ImageFile]] = {}
    for f, look in good:
        copies.setdefault(look.digest, []).append(f)
    thumbs = np.frombuffer(b"".join(good[i][1].thumb for i in rows), np.uint8).reshape(-1, 9, 9)
    groups = [[f for i in g for f in copies[good[rows[i]][1].digest]] for g in near_groups(thumbs)]
    return [_group(folder, g) for g in groups]
