"""Option values: the choices that commands and Python functions share, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from balancegan.core.errors import UsageError

Split = Literal["train", "val", "test"]
Duplicates = Literal["auto", "exact", "near", "off"]
Scheme = Literal["step", "exp"]
Preset = Literal["default", "paper", "tiny"]
Fit = Literal["stretch", "crop", "pad"]
Layout = Literal["auto", "splits", "classes"]
Real = Literal["copy", "hardlink", "symlink", "convert", "none"]
Fill = Literal["auto", "generated", "transformed"]
Judged = Literal["generated", "auto"]
Filter = Literal["auto", "none", "copies", "quality"]
Sampler = Literal["auto", "rejection", "langevin"]
OutSize = Literal["model", "native"]
Format = Literal["png", "jpeg", "match"]
Extractor = Literal["auto", "inception", "resnet50", "own"]
Network = Literal["inception", "resnet50", "resnet18"]
Arms = Literal["auto", "deciding", "all"]
Start = Literal["noise", "own", "other"]

AUTO, NONE = "auto", "none"
"""The values of `--group-by` besides regular expressions and paths of tables."""
MOST_AUGMENT_SEED = 900_000_000_000
MOST_GUIDANCE = 20
DECODING = 2
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit (89 megapixels), above which it warns of decompression bombs."""
STRENGTH = 0.6
"""Default strength of the noise added to real images that generated ones start from."""


def is_table(rule: str) -> bool:
    """Whether a value of `--group-by` is the path of a CSV file."""
    return rule.lower().endswith(".csv")


@dataclass(frozen=True)
class DataOptions:
    """How a folder of images is read."""

    labels: str = ""  # table with the class of every image; empty: folders are classes, or metadata.csv has the labels
    layout: Layout = "auto"  # whether the folders directly under the root are splits or classes
    synthetic: bool = False  # count the synthetic images of a folder that was balanced before, too
    page: int = 1  # which page, frame or channel of files that hold several
    max_pixels: int = MAX_PIXELS  # larger images are refused
    decoding: int = DECODING  # rules by which folders and files are read, see `data.decode`

    def __post_init__(self) -> None:
        require_choices(self)
        if min(self.page, self.max_pixels) < 1:
            raise UsageError("pages and pixels count from 1", "choose a larger number")


@dataclass(frozen=True)
class SamplingOptions:
    """How a method makes its images. Not every method offers every option."""

    from_: Start = "noise"  # or a real image: of the class itself, or of another class
    strength: float | None = None  # of the noise added to that image: 0 returns it, 1 ignores it; None: `STRENGTH`
    guidance: float | None = None  # extrapolation from images of any class towards the requested class; None: 1, none

    def __post_init__(self) -> None:
        require_choices(self)
        require_range("strength", self.strength, 0, 1)
        require_range("guidance", self.guidance, 0, MOST_GUIDANCE)
        if self.strength is not None and self.from_ == "noise":
            raise UsageError(
                "a strength applies to images that start from real ones", "add --from own or --from other (edm only)"
            )

    @property
    def used_strength(self) -> float | None:
        """The strength chosen, or the default one; None for images that start from noise."""
        return STRENGTH if self.strength is None and self.from_ != "noise" else self.strength

    def to_json(self) -> dict[str, str | float | None]:
        """Return the options by the names that users know, with the strength in use."""
        return {"from": self.from_, "strength": self.used_strength, "guidance": self.guidance}

    def notes(self) -> list[str]:
        """Return what readers of a report must know: that images started from real ones, or nothing."""
        if self.from_ == "noise":
            return []
        where = "its own class" if self.from_ == "own" else "another class"
        return [
            f"Every generated image started from a real training image of {where} (strength {self.used_strength:g}) "
            "and may show parts of it."
        ]


def require_choices(options: object) -> None:
    """Raise `UsageError` if a `Literal` field of a dataclass holds any other value."""
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise UsageError(f"{name} = {value!r} is invalid", f"choose one of {', '.join(get_args(kind))}")


def require_range(name: str, value: float | None, least: float, most: float | None = None) -> None:
    """Raise `UsageError` if a number is not between `least` and `most`; None was not given and passes."""
    if value is None or (value >= least and (most is None or value <= most)):
        return
    expected = f"{least:,} or more" if most is None else f"between {least:,} and {most:,}"
    raise UsageError(f"{name} = {value} is invalid", f"set it to {expected}")


PLAIN_DATA = DataOptions()
