"""Pictures of the report as PNG data URIs: contact sheets, and pairs of a synthetic and its nearest real image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from balancegan.report.pages import picture_uri

Images = NDArray[np.uint8]
COLUMNS = 8
MIN_TILE = 64  # small images are enlarged, by whole factors and without smoothing, to at least this many pixels
MAX_TILE = 96  # larger ones are reduced to this
GAP = 2


class ClassImages(Protocol):
    """What is shown of a class: its name and images, uint8 (n, C, H, W)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def real_train(self) -> Images: ...  # noqa: D102
    @property
    def real_holdout(self) -> Images: ...  # noqa: D102
    @property
    def fake(self) -> Images: ...  # noqa: D102


class RunPictures(Protocol):
    """What is shown of a run: walks between latents, uint8 (K, M, C, S, S), and (step, file) of its samples."""

    @property
    def interpolation(self) -> Images | None: ...  # noqa: D102
    @property
    def frames(self) -> Sequence[tuple[int, Path]]: ...  # noqa: D102


class ReportImages(Protocol):
    """The images behind a report's document, whose classes are in the same order."""

    @property
    def classes(self) -> Sequence[ClassImages]: ...  # noqa: D102
    @property
    def extras(self) -> RunPictures | None: ...  # noqa: D102


@dataclass(frozen=True)
class Sheet:
    """A grid of images in one PNG."""

    uri: str
    shown: int
    width: int
    height: int


@dataclass(frozen=True)
class Pair:
    """A synthetic image and the training image nearest to it."""

    fake: str
    real: str
    distance: float
    chosen: str  # "closest" or "random"


@dataclass(frozen=True)
class ClassPictures:
    """Everything drawn for one class; sheets are None where there is nothing to show."""

    real: Sheet | None
    fake: Sheet | None
    pairs: tuple[Pair, ...]


def draw_pictures(inp: ReportImages, document: dict[str, Any], *, seed: int = 0) -> list[ClassPictures]:
    """Pictures for every class, in the document's order.

    Args:
        inp: the report's images.
        document: from `compute_report` with the same input; its `pairs` say what to show.
        seed: of the report.
    """
    # With dozens of classes the page stays small enough to open on a phone.
    limit = 32 if len(inp.classes) <= 12 else 16
    return [
        _class_pictures(images, row, seed + index, limit)
        for index, (images, row) in enumerate(zip(inp.classes, document["classes"], strict=True))
    ]


def sheet(images: Images, *, limit: int = 32, seed: int = 0) -> Sheet | None:
    """Up to `limit` random images of uint8 (N, C, H, W) as a grid, or None for an empty set."""
    if not len(images):
        return None
    chosen = images if len(images) <= limit else images[np.random.default_rng(seed).permutation(len(images))[:limit]]
    return contact_sheet([tile(image) for image in chosen])


def contact_sheet(tiles: Sequence[NDArray[np.uint8]], columns: int = COLUMNS) -> Sheet:
    """Tiles of one size, (h, w, 3) each and at least one, in rows of up to `columns`."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    # An alpha channel keeps gaps and the end of the last row transparent, on light and dark pages.
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for index, pixels in enumerate(tiles):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width, :3] = pixels
        canvas[top : top + height, left : left + width, 3] = 255
    return Sheet(_png(canvas), len(tiles), canvas.shape[1], canvas.shape[0])


def _class_pictures(images: ClassImages, row: dict[str, Any], seed: int, limit: int) -> ClassPictures:
    pairs = tuple(
        Pair(
            fake=_png(tile(images.fake[pair["fake"]])),
            real=_png(tile(images.real_train[pair["train"]])),
            distance=pair["distance"],
            chosen=pair["chosen"],
        )
        for pair in row["pairs"] or ()
    )
    return ClassPictures(
        real=sheet(images.real_train if len(images.real_train) else images.real_holdout, limit=limit, seed=seed),
        fake=sheet(images.fake, limit=limit, seed=seed),
        pairs=pairs,
    )


def tile(image: Images) -> NDArray[np.uint8]:
    """uint8 (C, H, W) -> (h, w, 3) at the size shown."""
    from PIL import Image

    pixels = np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image[:3]
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    longest = max(picture.size)
    if longest < MIN_TILE:
        factor = math.ceil(MIN_TILE / longest)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    elif longest > MAX_TILE:
        picture.thumbnail((MAX_TILE, MAX_TILE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _png(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    return picture_uri(Image.fromarray(pixels))
