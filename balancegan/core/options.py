"""Option values: the choices that commands and Python functions share, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from balancegan.core.errors import UsageError

Split = Literal["train", "val", "test"]
Duplicates = Literal["exact", "near", "off"]
Scheme = Literal["step", "exp"]
Preset = Literal["default", "paper", "tiny"]
Fit = Literal["stretch", "crop", "pad"]
Real = Literal["copy", "hardlink", "symlink", "convert", "none"]
Filter = Literal["none", "copies", "quality"]
Sampler = Literal["auto", "rejection", "langevin"]
OutSize = Literal["model", "native"]
Format = Literal["png", "jpeg", "match"]
Extractor = Literal["auto", "inception", "resnet50", "own"]
Network = Literal["inception", "resnet50"]
Start = Literal["noise", "own", "other"]

MOST_AUGMENT_SEED = 900_000_000_000


@dataclass(frozen=True)
class SamplingOptions:
    """How a method makes its images; None means its own default. Not every method offers every option."""

    start: Start = "noise"  # or a real image: of the class itself, or of another class
    strength: float | None = None  # of the noise added to that image: 0 returns it, 1 ignores it
    guidance: float | None = None  # extrapolation from images of any class towards the requested class; 1: none

    def __post_init__(self) -> None:
        require_choices(self)
        require_range("strength", self.strength, 0, 1)
        require_range("guidance", self.guidance, 0, MOST_GUIDANCE)
        if self.strength is not None and self.start == "noise":
            raise UsageError("a strength applies to images that start from real ones", "add --from own or --from other")

    def to_json(self) -> dict[str, str | float | None]:
        """Return the options by the names that users know."""
        return {"from": self.start, "strength": self.strength, "guidance": self.guidance}


MOST_GUIDANCE = 20


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
