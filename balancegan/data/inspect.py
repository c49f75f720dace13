"""What is in an image folder: how imbalanced it is, what is broken, what is there twice. Reads, never writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

from balancegan.data.decode import ImageError, decode_image, read_header
from balancegan.data.duplicates import equal_groups, near_groups, pixel_digest, thumbnail
from balancegan.data.pool import chunked, map_chunks
from balancegan.data.scan import BadFile, ImageFile, ImageFolder, no_collection
from balancegan.errors import UsageError
from balancegan.progress import Progress, silent

DUPLICATES = ("exact", "near", "off")


@dataclass(frozen=True)
class ClassCount:
    """One class of the inspected split; `to_add` images bring it to the target imbalance rate."""

    name: str
    count: int
    share: float
    to_add: int


@dataclass(frozen=True)
class SizeCount:
    """How many images are `width` x `height` pixels."""

    width: int
    height: int
    count: int


@dataclass(frozen=True)
class ImageSizes:
    """Native sizes after orientation: how many different ones, the most common, the extremes of either side."""

    distinct: int
    common: tuple[SizeCount, ...]
    min_width: int
    max_width: int
    min_height: int
    max_height: int


@dataclass(frozen=True)
class Group:
    """Paths of one picture, with the classes and splits they lie in."""

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Findings about one split of a folder; duplicates are searched over all splits.

    `imbalance_rate` is majority / minority over the classes that have images, None when no class has any.
    """

    root: str
    split: str
    target_ir: float
    duplicates_mode: str
    splits: dict[str, dict[str, int]]
    classes: tuple[ClassCount, ...]
    imbalance_rate: float | None
    normalised_entropy: float | None
    image_sizes: ImageSizes | None
    modes: dict[str, int]
    formats: dict[str, int]
    bad_files: tuple[BadFile, ...]
    duplicates: tuple[Group, ...]
    conflicts: tuple[Group, ...]
    leaks: tuple[Group, ...]
    near_duplicates: tuple[Group, ...]
    notes: tuple[str, ...]
    advice: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Readable images per class of the inspected split."""
        return {c.name: c.count for c in self.classes}

    @property
    def num_images(self) -> int:
        """Readable images of the inspected split."""
        return sum(c.count for c in self.classes)

    @property
    def majority(self) -> ClassCount:
        """The largest class, the first of them when several are."""
        return max(self.classes, key=lambda c: c.count)

    @property
    def minority(self) -> ClassCount:
        """The smallest class that has images."""
        return min((c for c in self.classes if c.count), key=lambda c: c.count, default=self.classes[0])

    def to_json(self) -> dict[str, Any]:
        """The document that `--json` prints; keys are a contract with scripts."""
        return {
            "schema_version": 1,
            "root": self.root,
            "split": self.split,
            "num_images": self.num_images,
            "num_classes": len(self.classes),
            "imbalance_rate": self.imbalance_rate,
            "target_ir": self.target_ir,
            "majority": {"name": self.majority.name, "count": self.majority.count},
            "minority": {"name": self.minority.name, "count": self.minority.count},
            "normalised_entropy": self.normalised_entropy,
            "classes": [asdict(c) for c in self.classes],
            "splits": self.splits,
            "image_sizes": None if self.image_sizes is None else asdict(self.image_sizes),
            "modes": self.modes,
            "formats": self.formats,
            "bad_files": [asdict(b) for b in self.bad_files],
            "duplicates": [{"paths": list(g.paths)} for g in self.duplicates],
            "conflicts": [{"paths": list(g.paths), "classes": list(g.classes)} for g in self.conflicts],
            "leaks": [{"paths": list(g.paths), "splits": list(g.splits)} for g in self.leaks],
            "near_duplicates": [{"paths": list(g.paths)} for g in self.near_duplicates],
            "notes": list(self.notes),
            "advice": list(self.advice),
        }


def imbalance_rate(counts: Mapping[str, int]) -> float:
    """Majority / minority (SGBGAN Eq. 11) over classes with at least one image; ValueError when there is none."""
    present = [n for n in counts.values() if n > 0]
    if not present:
        raise ValueError("no class has images")
    return max(present) / min(present)


def to_add(counts: Mapping[str, int], target_ir: float) -> dict[str, int]:
    """Images each class needs to reach ceil(majority / target_ir); UsageError when `target_ir` is below 1."""
    if not math.isfinite(target_ir) or target_ir < 1:
        meant = f"did you mean {1 / target_ir:g}?" if 0 < target_ir < 1 else "1 means perfectly balanced"
        raise UsageError(f"an imbalance rate is majority / minority, so it cannot be {target_ir:g}", meant)
    goal = math.ceil(max(counts.values(), default=0) / target_ir - 1e-9)  # 280 / 2.8 must not become 101
    return {name: max(0, goal - n) for name, n in counts.items()}


def normalised_entropy(counts: Mapping[str, int]) -> float | None:
    """Shannon entropy of the class shares over log(K): 1 is balanced, 0 means one class has everything."""
    total = sum(counts.values())
    if total == 0 or len(counts) < 2:
        return None
    shares = [n / total for n in counts.values() if n]
    return max(0.0, -sum(p * math.log(p) for p in shares) / math.log(len(counts)))


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
    """Decode every image of every split and report.

    `duplicates`: "exact" compares decoded pixels, "near" also finds resized and re-encoded twins, "off" reads
    headers only (then a file damaged behind its header is not noticed). UsageError for a split that is not there.
    """
    if split not in folder.splits:
        raise UsageError(f"there is no {split} split in {folder.root}", f"it has: {', '.join(folder.splits)}")
    if duplicates not in DUPLICATES:
        raise UsageError(f"duplicates '{duplicates}' is unknown", f"choose one of {', '.join(DUPLICATES)}")
    to_add({}, target_ir)  # refuse a wrong target before minutes of decoding
    looks = _look_at_all(folder, duplicates, workers, progress)
    pairs = list(zip(folder.files, looks, strict=True))
    good = [(f, look) for f, look in pairs if not look.reason]
    damaged = [BadFile(f.rel, look.reason) for f, look in pairs if look.reason]
    found = _findings(folder, good, split, target_ir, duplicates, damaged)
    from balancegan.data.advice import advise

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
    mean = sum(f.size for f in folder.files) / max(1, len(rels))
    size = 256 if mean < 16_000 else 32 if mean < 250_000 else 4
    progress("inspect", 0, len(rels))
    for part in map_chunks(partial(_look_at, str(folder.root), duplicates), chunked(rels, size), workers=workers):
        looks += part
        progress("inspect", len(looks), len(rels))
    return looks


def _look_at(root: str, duplicates: str, rels: Sequence[str]) -> list[_Look]:
    """In a worker."""
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
    """Duplicates in one class of one split; the same picture in two classes or splits is listed elsewhere."""
    keys = [f"{f.split}/{f.label}/".encode() + look.digest if look.digest else b"" for f, look in good]
    return [_group(folder, [good[i][0] for i in g]) for g in equal_groups(keys)]


def _near(folder: ImageFolder, good: list[tuple[ImageFile, _Look]]) -> list[Group]:
    """Groups of nearly equal pictures; a group that is only one picture in equal copies is no news."""
    import numpy as np

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


def render_html(inspection: Inspection, folder: ImageFolder) -> str:
    """One self-contained page with example pictures of every class; see `balancegan.data.page`."""
    from balancegan.data.page import render_html as render

    return render(inspection, folder)
