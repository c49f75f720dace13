"""The findings of `inspect`, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from balancegan.data.scan import BadFile


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
    """Native sizes after orientation: how many distinct ones, the most common, extremes, the longer side's median."""

    distinct: int
    common: tuple[SizeCount, ...]
    min_width: int
    max_width: int
    min_height: int
    max_height: int
    median_side: int


@dataclass(frozen=True)
class Group:
    """Paths of the same or nearly the same image, with the classes and splits they are in."""

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Findings about one split of a folder; the search for duplicates covers all splits.

    `imbalance_rate` is majority / minority over the classes that have images, None if no class has any.
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
    siblings: tuple[Group, ...] = ()  # images of one object or scene, exact copies among them
    of_one_group: tuple[str, ...] = ()  # classes all of whose images are siblings
    pattern: str | None = None  # for `--group-by`, if file names tell the siblings
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # of how the folder and its files were read; advice repeats them
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
    def sibling_leaks(self) -> tuple[Group, ...]:
        """The groups of siblings in more than one split."""
        return tuple(g for g in self.siblings if len(g.splits) > 1)

    @property
    def majority(self) -> ClassCount:
        """The largest class, or the first of several equally large ones."""
        return max(self.classes, key=lambda c: c.count)

    @property
    def minority(self) -> ClassCount:
        """The smallest class that has images."""
        return min((c for c in self.classes if c.count), key=lambda c: c.count, default=self.classes[0])

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` prints; scripts rely on its keys."""
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
            "image_sizes": None
            if (sizes := self.image_sizes) is None
            else asdict(sizes) | {"common": [*map(asdict, sizes.common)]},
            "modes": self.modes,
            "formats": self.formats,
            "bad_files": [asdict(b) for b in self.bad_files],
            "duplicates": [{"paths": list(g.paths)} for g in self.duplicates],
            "conflicts": [{"paths": list(g.paths), "classes": list(g.classes)} for g in self.conflicts],
            "leaks": [{"paths": list(g.paths), "splits": list(g.splits)} for g in self.leaks],
            "siblings": [{key: list(value) for key, value in asdict(g).items()} for g in self.siblings],
            "sibling_leaks": [{"paths": list(g.paths), "splits": list(g.splits)} for g in self.sibling_leaks],
            "near_duplicates": [{"paths": list(g.paths)} for g in self.siblings],
            "of_one_group": list(self.of_one_group),
            "group_by": self.pattern,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "advice": list(self.advice),
        }
