"""Inspect an image folder: how imbalanced it is, what is broken, what is duplicated. Reads, never writes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, NamedTuple, get_args

import numpy as np

from balancegan.core.errors import UsageError
from balancegan.core.options import Duplicates
from balancegan.core.progress import Progress, silent
from balancegan.data.decode import AS_USUAL, Reading, decode_image, read_header
from balancegan.data.duplicates import equal_groups, pixel_digest
from balancegan.data.groups import joined, of_one_group
from balancegan.data.imbalance import imbalance_rate, normalised_entropy, to_add
from balancegan.data.pool import chunk_size, chunked, map_chunks
from balancegan.data.refused import ImageError
from balancegan.data.remarks import remarks
from balancegan.data.scan import BadFile, ImageFile, ImageFolder, no_collection
from balancegan.data.siblings import sibling_groups, sibling_thumbnail
from balancegan.data.window import Values, common_window, value_range, window_notes
from balancegan.inspection.advice import MOST_BY_DEFAULT, TOO_MANY, advise
from balancegan.inspection.findings import ClassCount, Group, ImageSizes, Inspection, SizeCount
from balancegan.inspection.names import naming_pattern

DUPLICATES = get_args(Duplicates)


class _Look(NamedTuple):
    """What a worker found in one file."""

    reason: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    digest: bytes = b""
    thumb: bytes = b""
    values: Values | None = None  # of an image of more than 8 bits
    pages: int = 1
    preview: bool = False


@no_collection()
def inspect_folder(
    folder: ImageFolder,
    *,
    split: str = "train",
    target_ir: float = 1.0,
    duplicates: str = "auto",
    reading: Reading = AS_USUAL,
    workers: int | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Decode every image of every split and return the findings.

    `duplicates`: "exact" compares decoded pixels, "near" also finds siblings (see `data.siblings`), "auto" does so in
    sets of at most `MOST_BY_DEFAULT` images, "off" reads only headers and so misses files damaged after the header.
    Raises UsageError if the split does not exist.
    """
    if split not in folder.splits:
        raise UsageError(f"{folder.root} has no {split} split", f"it has: {', '.join(folder.splits)}")
    if duplicates not in DUPLICATES:
        raise UsageError(f"duplicates '{duplicates}' is unknown", f"choose one of {', '.join(DUPLICATES)}")
    to_add({}, target_ir)  # reject an invalid target before minutes of decoding
    notes = folder.notes
    if duplicates == "auto":
        duplicates = "near" if len(folder.files) <= MOST_BY_DEFAULT else "exact"
        notes += () if duplicates == "near" else (TOO_MANY,)
    looks = _look_at_all(folder, duplicates, reading, workers, progress)
    pairs = list(zip(folder.files, looks, strict=True))
    good = [(f, look) for f, look in pairs if not look.reason]
    damaged = [BadFile(f.rel, look.reason) for f, look in pairs if look.reason]
    found = _findings(folder, good, split, target_ir, duplicates, damaged)
    of_files = remarks([(f.rel, look.pages, look.preview) for f, look in good])
    warnings = (*folder.warnings, *_depth_notes(good, split), *of_files)
    found = replace(
        found, notes=notes, warnings=warnings, **(_siblings(folder, good, progress) if duplicates == "near" else {})
    )
    return replace(found, advice=tuple(advise(found)))


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
    )


def _depth_notes(good: list[tuple[ImageFile, _Look]], split: str) -> list[str]:
    """What the common brightness window does to the images of more than 8 bits."""
    deep = [(f, look.values) for f, look in good if look.values and f.split == split]
    if not deep:
        return []
    names, values = [f.rel for f, _ in deep], [v for _, v in deep]
    return window_notes(names, values, common_window(values, [f.label for f, _ in deep]))


def _look_at_all(
    folder: ImageFolder, duplicates: str, reading: Reading, workers: int | None, progress: Progress
) -> list[_Look]:
    rels = [f.rel for f in folder.files]
    looks: list[_Look] = []
    size = chunk_size(folder.mean_bytes)
    progress("inspect", 0, len(rels))
    for part in map_chunks(
        partial(_look_at, str(folder.root), duplicates, reading), chunked(rels, size), workers=workers
    ):
        looks += part
        progress("inspect", len(looks), len(rels))
    return looks


def _look_at(root: str, duplicates: str, reading: Reading, rels: Sequence[str]) -> list[_Look]:
    """Inspect files in a worker."""
    return [_look(f"{root}/{rel}", duplicates, reading) for rel in rels]


def _look(path: str, duplicates: str, reading: Reading) -> _Look:
    try:
        if duplicates == "off":
            size, mode, _ = read_header(path, reading)
            return _Look("", size, mode)
        picture = decode_image(path, reading)
    except ImageError as e:
        return _Look(e.reason)
    thumb = sibling_thumbnail(picture.pixels) if duplicates == "near" else b""
    values = value_range(picture.pixels) if picture.deep else None
    digest = pixel_digest(picture.pixels)
    return _Look("", picture.size, picture.mode, digest, thumb, values, picture.pages, picture.preview)


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
        median_side=int(median(map(max, sizes))),
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


def _siblings(folder: ImageFolder, good: list[tuple[ImageFile, _Look]], progress: Progress) -> dict[str, Any]:
    """Return the findings on siblings; groups that contain only exact copies of one image are left out."""
    if not good:
        return {}
    thumbs = np.frombuffer(b"".join(look.thumb for _, look in good), np.uint8).reshape(len(good), -1)
    labels, names = np.array([f.label for f, _ in good], np.int64), [f.rel for f, _ in good]
    siblings = sibling_groups(thumbs, labels, names, progress=progress)
    groups = joined([look.digest for _, look in good], siblings.tolist())
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups.tolist()):
        members[group].append(i)
    found = [g for g in members.values() if len({good[i][1].digest for i in g}) > 1]
    return {
        "siblings": tuple(_group(folder, [good[i][0] for i in g]) for g in found),
        "of_one_group": tuple(folder.classes[k] for k in of_one_group(labels, groups)),
        "pattern": naming_pattern(names, found),
    }
