"""Draws picture sequences: interpolations between latents, and frames from training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balancegan.report.pages import picture_uri
from balancegan.report.pictures import Images, Sheet, contact_sheet, tile

MAX_FRAMES = 12
MAX_WIDTH = 720  # px of a frame, as wide as the page shows it


@dataclass(frozen=True)
class Strip:
    """One row of images between two latents; `is_class` is false if `name` stands for all classes."""

    name: str
    sheet: Sheet
    is_class: bool


@dataclass(frozen=True)
class Frame:
    """The fixed-seed samples at one step. `keep` marks frames that are shown in print and without JavaScript."""

    step: int
    uri: str
    width: int
    height: int
    keep: bool


def draw_strips(interpolation: Images | None, names: Sequence[str]) -> list[Strip]:
    """Draw one row of pictures per class, or a single row for an unconditional method.

    Args:
        interpolation: uint8 (K, M, C, S, S), or None.
        names: class names, in the order of the rows; a single row with several names stands for all classes.
    """
    if interpolation is None or not interpolation.size:
        return []
    by_class = len(interpolation) > 1 or len(names) == 1
    return [
        Strip(
            names[k] if by_class else "All classes",
            contact_sheet([tile(image) for image in row], columns=len(row)),
            by_class,
        )
        for k, row in enumerate(interpolation)
    ]


def draw_frames(frames: Sequence[tuple[int, Path]]) -> list[Frame]:
    """Choose at most `MAX_FRAMES` evenly spaced pictures, including the first and the last.

    Missing or damaged files are skipped.

    Args:
        frames: (step, file).
    """
    readable = [(step, path) for step, path in sorted(frames) if _readable(path)]
    last = len(readable) - 1
    count = min(MAX_FRAMES, len(readable))
    chosen = [readable[round(k * last / max(1, count - 1))] for k in range(count)]
    drawn = [(step, shrunk) for step, path in chosen if (shrunk := _shrunk(path))]
    kept = {0, (len(drawn) - 1) // 2, len(drawn) - 1}
    return [Frame(step, *shrunk, k in kept) for k, (step, shrunk) in enumerate(drawn)]


def _readable(path: Path) -> bool:
    """Whether the file opens as a picture; does not read its pixels."""
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def _shrunk(path: Path) -> tuple[str, int, int] | None:
    """(data URI, width, height) of the picture, at most `MAX_WIDTH` wide; None if it cannot be read."""
    from PIL import Image, features

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # the run is still training, or was stopped while writing
    if picture.width > MAX_WIDTH:
        height = max(1, round(picture.height * MAX_WIDTH / picture.width))
        picture = picture.resize((MAX_WIDTH, height), Image.Resampling.LANCZOS)
    webp: dict[str, Any] = {"kind": "webp", "quality": 88, "method": 4} if features.check("webp") else {}
    return picture_uri(picture, **webp), picture.width, picture.height
