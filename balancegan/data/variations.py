"""Label-preserving variations of real images: shifted, scaled, recoloured a little, mirrored or turned if that is safe.

A variation depends on the seed, the image's row and its number alone, and its changes are relative to the image's size:
the same variation of an image and of a smaller version of it look the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

REACH = 1 / 8  # furthest shift, as a part of the side
SCALE = 1 / 8  # largest change of scale
TILT = 10.0  # largest rotation besides quarter turns, in degrees
GAMMA = 1.25  # largest exponent of the brightness
CONTRAST = 0.2  # strongest bend of the tone curve; below 1, so that the curve rises everywhere


@dataclass(frozen=True)
class Changes:
    """Which changes keep the class of an image, besides those that always do."""

    flips: bool = False
    turns: bool = False  # by quarters
    tilts: bool = False  # by up to `TILT`

    def to_json(self) -> dict[str, bool]:
        """Return the fields, for a record on disk."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Changes:
        """Read what `to_json` returned."""
        return cls(**{name: bool(found.get(name)) for name in ("flips", "turns", "tilts")})

    def __str__(self) -> str:
        """Name the changes as they stand within a sentence."""
        more = [name for name, used in (("flips", self.flips), ("turns", self.turns), ("tilts", self.tilts)) if used]
        names = ["shifts", "scale", "brightness", "contrast", *more]
        return f"{', '.join(names[:-1])} and {names[-1]}"


def varied(pixels: Pixels, changes: Changes, rng: np.random.Generator) -> Pixels:
    """Return a variation of an image, uint8 (H, W) or (H, W, 3), at its size.

    Half of the images are only shifted by whole pixels, mirrored and turned by quarters, which keeps their sharpness
    exactly; the others are scaled and tilted too, by one bicubic interpolation. Pixels from outside are the image's
    reflection. Black stays black and white stays white, since a background would otherwise give the variations away.
    """
    quarters, mirror, fine, along, down, scale, tilt, gamma, bend = rng.random(9)
    if changes.turns:
        square = pixels.shape[0] == pixels.shape[1]
        pixels = np.rot90(pixels, int(4 * quarters) if square else 2 * int(2 * quarters))
    if changes.flips and mirror < 0.5:
        pixels = pixels[:, ::-1]
    height, width = pixels.shape[:2]
    shift = ((2 * along - 1) * REACH * width, (2 * down - 1) * REACH * height)
    exact = fine < 0.5
    angle = math.radians((2 * tilt - 1) * TILT) if changes.tilts and not exact else 0.0
    zoom = 1.0 if exact else 1 + (2 * scale - 1) * SCALE
    moved = _shifted(pixels, shift) if exact else _moved(pixels, shift, zoom, angle)
    return _tones(GAMMA ** (2 * gamma - 1), CONTRAST * (2 * bend - 1))[moved]


def _reflected(pixels: Pixels, rows: int, cols: int) -> Pixels:
    around = [(rows, rows), (cols, cols), *[(0, 0)] * (pixels.ndim - 2)]
    return np.pad(pixels, around, mode="symmetric")


def _shifted(pixels: Pixels, shift: tuple[float, float]) -> Pixels:
    right, down = round(shift[0]), round(shift[1])
    height, width = pixels.shape[:2]
    padded = _reflected(pixels, abs(down), abs(right))
    top, left = abs(down) - down, abs(right) - right
    return padded[top : top + height, left : left + width]


def _moved(pixels: Pixels, shift: tuple[float, float], zoom: float, angle: float) -> Pixels:
    """Shift, scale and rotate about the centre."""
    height, width = pixels.shape[:2]
    rows, cols = height // 2 + 1, width // 2 + 1  # more than any change reaches
    picture = Image.fromarray(_reflected(pixels, rows, cols))
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    x, y = width / 2 + shift[0], height / 2 + shift[1]  # where the centre goes
    # Pillow asks where each pixel of the result comes from, in the padded picture.
    origin = (cols + width / 2 - cos * x - sin * y, rows + height / 2 + sin * x - cos * y)
    matrix = (cos, sin, origin[0], -sin, cos, origin[1])
    return np.asarray(picture.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))


def _tones(gamma: float, bend: float) -> Pixels:
    """Return the tone curve (256,), which keeps black and white."""
    tones = np.linspace(0, 1, 256) ** gamma
    tones += bend * np.sin(2 * np.pi * tones) / (2 * np.pi)
    return np.rint(255 * tones).clip(0, 255).astype(np.uint8)


def generator(seed: int, row: int, number: int, attempt: int = 0) -> np.random.Generator:
    """Return the random numbers of one variation of an image; another attempt gives others."""
    return np.random.default_rng([seed, row, number, attempt])


def order(rows: NDArray[np.integer], count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield `count` pairs of row and number: each image in turn, in an order that depends on the seed."""
    shuffled = np.random.default_rng([seed, len(rows)]).permutation(rows).tolist()
    for k in range(count if shuffled else 0):
        yield shuffled[k % len(shuffled)], k // len(shuffled)


def variations(
    images: NDArray[np.uint8], rows: NDArray[np.integer], count: int, changes: Changes, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` variations of these rows of the images (N, C, S, S), and the row of each: (n, C, S, S), (n,)."""
    pairs = list(order(rows, count, seed))
    made = np.empty((len(pairs), *images.shape[1:]), np.uint8)
    for k, (row, number) in enumerate(pairs):
        pixels = np.ascontiguousarray(images[row].transpose(1, 2, 0))  # CHW -> HWC
        if pixels.shape[2] == 1:
            made[k, 0] = varied(pixels[..., 0], changes, generator(seed, row, number))
        else:
            made[k] = varied(pixels, changes, generator(seed, row, number)).transpose(2, 0, 1)
    return made, np.array([row for row, _ in pairs], np.int64)
