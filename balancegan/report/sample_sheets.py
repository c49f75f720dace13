"""Draws sheets of images as matplotlib figures, which have fonts for class names in any script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from balancegan.core.documents import Json
from balancegan.report.charts import canvas, short
from balancegan.report.document_view import made_by
from balancegan.report.pictures import GAP, ClassImages, Images, ReportImages, tile

SHOWN = 6  # images per kind and class
MAX_CLASSES = 40  # more would make a picture too large to open
_INCHES = 0.5  # per image


def sample_sheet(inp: ReportImages, document: Json, *, seed: int = 0) -> Any | None:
    """Draw a row per class with synthetic images: real ones, synthetic ones, and the nearest training image to each.

    None if no class has synthetic images.
    """
    found = [(images, row) for images, row in zip(inp.classes, document["classes"], strict=True) if len(images.fake)]
    rows = [(images.name, _kinds(images, row, seed + k)) for k, (images, row) in enumerate(found[:MAX_CLASSES])]
    titles = ("real, random", made_by(document), "nearest real training image")
    return _sheet(rows, titles, SHOWN, "Samples per class")


def interpolation_sheet(inp: ReportImages) -> Any | None:
    """Draw the interpolations between two latents, a row per class; None if there are none."""
    walks = inp.extras.interpolation if inp.extras else None
    if walks is None or not walks.size:
        return None
    by_class = len(walks) > 1 or len(inp.classes) == 1
    names = [images.name for images in inp.classes] if by_class else ["all classes"]
    rows = [(name, [row]) for name, row in zip(names, walks, strict=False)]
    return _sheet(rows[:MAX_CLASSES], ("",), walks.shape[1], "From one latent to another")


def _kinds(images: ClassImages, row: Json, seed: int) -> list[Images]:
    """Real, synthetic and nearest training images; the last two are the document's pairs, in the same order."""
    real = images.real_train if len(images.real_train) else images.real_holdout
    order = np.random.default_rng(seed).permutation(len(real))[:SHOWN]
    pairs = sorted(row.get("pairs") or (), key=lambda pair: pair["chosen"] != "random")[:SHOWN]
    if not pairs:
        return [real[order], images.fake[:SHOWN], images.real_train[:0]]
    return [
        real[order],
        images.fake[[pair["fake"] for pair in pairs]],
        images.real_train[[pair["train"] for pair in pairs]],
    ]


def _sheet(rows: Sequence[tuple[str, list[Images]]], titles: Sequence[str], shown: int, title: str) -> Any | None:
    if not rows:
        return None
    figure, axes = canvas(
        1.2 + _INCHES * shown * len(titles), 0.8 + (_INCHES + 0.06) * len(rows), len(rows), len(titles)
    )
    figure.suptitle(title)
    for line, (name, kinds) in zip(axes, rows, strict=True):
        for axis, images in zip(line, kinds, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if len(images):
                axis.imshow(_row(images, shown), interpolation="nearest")
        line[0].set_ylabel(short(name, 18), rotation=0, ha="right", va="center")
    for axis, head in zip(axes[0], titles, strict=True):
        axis.set_title(head)
    return figure


def _row(images: Images, columns: int) -> np.ndarray:
    """Place uint8 images (n, C, H, W) side by side on white (h, w, 3), as wide as `columns` images."""
    tiles = [tile(image) for image in images[:columns]]
    height, width = tiles[0].shape[:2]
    paper = np.full((height, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for k, pixels in enumerate(tiles):
        paper[:, k * (width + GAP) : k * (width + GAP) + width] = pixels
    return paper
