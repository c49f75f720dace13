"""Photographs of made objects: several exposures of each, so that we know which images are siblings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

TEXTURES = ("blots", "grain", "stripes")
CANVAS = 320  # pixels of an object's surface; a photograph shows the inner 0.8 of them, more or less


class Photographs(NamedTuple):
    """Images of different sizes, with class and object of each; names that tell nothing, in their (sorted) order."""

    images: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    objects: NDArray[np.int64]
    names: list[str]


def surface(kind: str, rng: np.random.Generator) -> Image.Image:
    """One object's surface, CANVAS x CANVAS in colour: what its class has in common, and details of its own."""
    n = CANVAS
    cloud = sum(_noise(rng, n / part) * part**-0.5 for part in (4, 8, 16, 32))
    if kind == "blots":
        spots = np.zeros((n, n))
        yy, xx = np.ogrid[:n, :n]
        for _ in range(rng.integers(12, 30)):
            y, x, r = *rng.uniform(0, n, 2), rng.uniform(6, 26)
            spots += rng.uniform(0.4, 1) * np.exp(-((((yy - y) ** 2 + (xx - x) ** 2) / r**2) ** 2))
        grey = 0.75 - 0.5 * np.minimum(spots, 1) + 0.03 * cloud
    elif kind == "stripes":
        yy, xx = np.mgrid[:n, :n]
        angle, wave = rng.normal(0, 0.15), rng.uniform(22, 36)
        bend = 9 * _noise(rng, 45)
        phase = 2 * np.pi * (np.cos(angle) * xx + np.sin(angle) * yy + bend) / wave + rng.uniform(0, 6.3)
        grey = 0.5 + 0.25 * np.sin(phase) + 0.04 * cloud
    else:
        grey = 0.5 + 0.14 * cloud
    tint = {"blots": (1.0, 0.92, 0.8), "stripes": (0.85, 0.95, 1.0), "grain": (0.97, 1.0, 0.93)}[kind]
    levels = np.clip(grey[..., None] * np.array(tint), 0, 1) * 255
    return Image.fromarray(levels.round().astype(np.uint8))


def _noise(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    field = gaussian_filter(rng.normal(size=(CANVAS, CANVAS)), scale / 3, mode="wrap")
    return np.asarray(field / field.std())


def photograph(
    scene: Image.Image,
    rng: np.random.Generator,
    side: int,
    *,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    mirror: bool = False,
    exposure: float = 1.0,
    contrast: float = 1.0,
    gamma: float = 1.0,
    noise: float = 1.0,
    quality: int = 0,
) -> NDArray[np.uint8]:
    """Photograph an object's surface: (side, side, 3), uint8.

    `zoom` 0.9 shows nine tenths of each side, `shift` is in sides of the photograph, `noise` in grey levels, and
    `quality` that of a JPEG in between (0: none).
    """
    across = 0.8 * CANVAS * zoom
    top, left = CANVAS / 2 + 0.8 * CANVAS * np.array(shift) - across / 2
    picture = scene.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + across, top + across))
    seen = np.asarray(picture) / 255.0
    seen = np.clip((seen - 0.5) * contrast + 0.5, 0, 1) ** gamma * exposure
    levels = seen * 255 + rng.normal(0, noise, seen.shape)
    pixels = np.clip(levels, 0, 255).round().astype(np.uint8)
    if mirror:
        pixels = pixels[:, ::-1]
    if not quality:
        return np.ascontiguousarray(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def photographs(
    objects: int = 30, *, most: int = 8, sides: Sequence[int] = (48, 96, 256), mirrors: float = 0.2, seed: int = 0
) -> Photographs:
    """Photograph `objects` objects of each texture 1 to `most` times, each time a little differently, and shuffle.

    All photographs of an object have one size. The share `mirrors` of them is mirrored.
    """
    rng = np.random.default_rng(seed)
    found = []
    for label, kind in enumerate(TEXTURES):
        for thing in range(objects):
            scene, side = surface(kind, rng), int(rng.choice(sides))
            for _ in range(rng.integers(1, most + 1)):
                pixels = photograph(
                    scene,
                    rng,
                    side,
                    zoom=rng.uniform(0.88, 1),
                    shift=tuple(rng.uniform(-0.04, 0.04, 2)),
                    mirror=rng.random() < mirrors,
                    exposure=rng.uniform(0.55, 1.3),
                    contrast=rng.uniform(0.6, 1.2),
                    gamma=rng.uniform(0.75, 1.35),
                    quality=int(rng.integers(50, 96)),
                )
                found.append(
                    (f"{TEXTURES[label]}/{rng.integers(16**8):08x}.png", pixels, label, label * objects + thing)
                )
    found.sort(key=lambda item: item[0])
    names, images, labels, things = zip(*found, strict=True)
    return Photographs(list(images), np.array(labels), np.array(things), list(names))


def write_photographs(folder: Path, shots: Photographs) -> Path:
    """Write them as `folder/<class>/<name>.png`, with the objects in `folder/groups.csv` (file_name, group)."""
    for name, pixels in zip(shots.names, shots.images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    rows = [f"{name},{thing}\n" for name, thing in zip(shots.names, shots.objects.tolist(), strict=True)]
    (folder / "groups.csv").write_text("file_name,group\n" + "".join(rows))
    return folder
