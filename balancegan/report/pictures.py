"""Draws the report's pictures as PNG data URIs: contact sheets, and synthetic images beside their nearest real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from balancegan.report.document_view import at_a_glance, made_by
from balancegan.report.pages import picture_uri

Images = NDArray[np.uint8]
COLUMNS = 8
MIN_TILE = 64  # px; smaller images are enlarged to at least this, by whole factors and without smoothing
MAX_TILE = 96  # px; larger images are shrunk to this
GAP = 2


class ClassImages(Protocol):
    """A class's name and images, uint8 (n, C, H, W)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def real_train(self) -> Images: ...  # noqa: D102
    @property
    def real_holdout(self) -> Images: ...  # noqa: D102
    @property
    def fake(self) -> Images: ...  # noqa: D102


class RunPictures(Protocol):
    """A run's interpolations, uint8 (K, M, C, S, S), and the (step, file) of its samples; see `Extras`."""

    @property
    def interpolation(self) -> Images | None: ...  # noqa: D102
    @property
    def frames(self) -> Sequence[tuple[int, Path]]: ...  # noqa: D102
    @property
    def noise_latents(self) -> bool: ...  # noqa: D102


class ReportImages(Protocol):
    """A report's images, with classes in the document's order."""

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
    """The pictures of one class; a sheet is None if there are no images.

    `glance` holds a row of real and a row of synthetic images for the overview, empty if it does not show the class.
    """

    real: Sheet | None
    fake: Sheet | None
    pairs: tuple[Pair, ...]
    glance: tuple[tuple[str, Sheet], ...] = ()


def draw_pictures(inp: ReportImages, document: dict[str, Any], *, seed: int = 0) -> list[ClassPictures]:
    """Draw the pictures of every class, in the document's order.

    Args:
        inp: the report's images.
        document: from `compute_report` with the same input; its `pairs` select the pairs to show.
        seed: the report's seed.
    """
    # Keeps the page small enough for a phone when there are dozens of classes.
    limit = 32 if len(inp.classes) <= 12 else 16
    first, made = at_a_glance(document), made_by(document).capitalize()
    return [
        _class_pictures(images, row, seed + index, limit, made if index in first else "")
        for index, (images, row) in enumerate(zip(inp.classes, document["classes"], strict=True))
    ]


def sheet(images: Images, *, limit: int = 32, seed: int = 0) -> Sheet | None:
    """Draw up to `limit` random images of uint8 (N, C, H, W) as a grid; None for an empty set."""
    if not len(images):
        return None
    chosen = images if len(images) <= limit else images[np.random.default_rng(seed).permutation(len(images))[:limit]]
    return contact_sheet([tile(image) for image in chosen])


def contact_sheet(tiles: Sequence[NDArray[np.uint8]], columns: int = COLUMNS) -> Sheet:
    """Arrange one or more tiles of equal size (h, w, 3) in rows of up to `columns`."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    # An alpha channel keeps the gaps and the end of the last row transparent on light and dark pages.
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for index, pixels in enumerate(tiles):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width, :3] = pixels
        canvas[top : top + height, left : left + width, 3] = 255
    return Sheet(_png(canvas), len(tiles), canvas.shape[1], canvas.shape[0])


def _class_pictures(images: ClassImages, row: dict[str, Any], seed: int, limit: int, glance: str) -> ClassPictures:
    """Draw a class's pictures; `glance` is the name of its synthetic images in the overview, empty to leave it out."""
    real = images.real_train if len(images.real_train) else images.real_holdout
    pairs = tuple(
        Pair(
            fake=_png(tile(images.fake[pair["fake"]])),
            real=_png(tile(images.real_train[pair["train"]])),
            distance=pair["distance"],
            chosen=pair["chosen"],
        )
        for pair in row["pairs"] or ()
    )
    rows = {"Real": real, glance: images.fake} if glance else {}
    return ClassPictures(
        real=sheet(real, limit=limit, seed=seed),
        fake=sheet(images.fake, limit=limit, seed=seed),
        pairs=pairs,
        glance=tuple((kind, some) for kind, of in rows.items() if (some := sheet(of, limit=COLUMNS, seed=seed))),
    )


def tile(image: Images) -> NDArray[np.uint8]:
    """Resize uint8 (C, H, W) to (h, w, 3) at display size."""
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
