"""Picture grids: one row per class, written atomically as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from balancegan.core.files import disk_errors, write_atomic

GAP = 2
PAPER = 255
SPAN_GAP = 6  # extra px between the columns of two headings
RULE = 1  # px; thickness of the line below a heading


def grid_image(
    rows: Sequence[np.ndarray],
    labels: Sequence[str] | None = None,
    min_side: int = 64,
    headings: Sequence[tuple[str, int]] | None = None,
) -> Image.Image:
    """Lay out rows of images; `rows[k]` is uint8 (n, C, H, W), `labels[k]` is written to its left.

    Small images are enlarged by a whole factor (nearest neighbour) to at least `min_side` px, to keep pixels visible.

    Args:
        rows: one array per row, all with the same H and W.
        labels: one per row.
        min_side: least px of an image's longer side on the grid.
        headings: (text, number of columns that it spans) from left to right, covering all columns.

    Raises:
        ValueError: the headings do not span the columns.
    """
    columns = max((len(r) for r in rows), default=0)
    height, width = next(r.shape[2:] for r in rows)
    factor = max(1, -(-min_side // max(height, width)))
    cell_h, cell_w = height * factor + GAP, width * factor + GAP
    size = max(12, min(20, cell_h // 4))
    font = ImageFont.load_default(size=size)
    margin = int(max((font.getlength(text) for text in labels or ()), default=-12)) + 12
    spans = [span for _, span in headings] if headings else [columns]
    if sum(spans) != columns or min(spans) < (1 if headings else 0):
        raise ValueError(f"headings span {spans} columns, the rows have {columns}")
    lefts = _lefts(spans, margin + GAP, cell_w)
    head = size * 3 // 2 + RULE + GAP if headings else 0
    right = lefts[-1] + cell_w if lefts else margin + GAP
    canvas = Image.new("RGB", (right, head + len(rows) * cell_h + GAP), (PAPER,) * 3)
    draw = ImageDraw.Draw(canvas)
    _write_headings(draw, headings or (), lefts, cell_w, head, font)
    for i, images in enumerate(rows):
        top = head + GAP + i * cell_h
        if labels:
            draw.text((6, top + cell_h // 2), labels[i], fill=(0, 0, 0), font=font, anchor="lm")
        for left, image in zip(lefts, images, strict=False):  # a row may be shorter than the longest
            picture = to_pil(image).convert("RGB").resize((width * factor, height * factor), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top))
    return canvas


def _lefts(spans: Sequence[int], start: int, cell: int) -> list[int]:
    """Return the x of every column, with a wider gap between spans."""
    groups = [group for group, span in enumerate(spans) for _ in range(span)]
    return [start + column * cell + group * SPAN_GAP for column, group in enumerate(groups)]


def _write_headings(
    draw: ImageDraw.ImageDraw,
    headings: Sequence[tuple[str, int]],
    lefts: Sequence[int],
    cell: int,
    bottom: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw each text centred over its columns, with a rule of their width below it."""
    first = 0
    for text, span in headings:
        left, right = lefts[first], lefts[first + span - 1] + cell - GAP
        middle = ((left + right) / 2, (bottom - RULE) / 2)
        draw.text(middle, _cut(text, right - left, font), fill=(0, 0, 0), font=font, anchor="mm")
        draw.rectangle((left, bottom - RULE, right - 1, bottom - 1), fill=(120,) * 3)
        first += span


def _cut(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Put the text on one line, shortened with an ellipsis to at most `width` px."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def to_pil(image: np.ndarray) -> Image.Image:
    """Convert uint8 (C, H, W) with one or three channels to a Pillow image of mode L or RGB."""
    return Image.fromarray(image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


PNG_OPTIONS = {"compress_level": 3}
"""At 128 px it takes a third of the time of Pillow's 6, for 5% more bytes on photographs: benchmarks/sampling.md."""


def png_bytes(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **PNG_OPTIONS)
    return buffer.getvalue()


def save_grid(
    rows: Sequence[np.ndarray],
    path: Path,
    labels: Sequence[str] | None = None,
    headings: Sequence[tuple[str, int]] | None = None,
) -> None:
    """Write `grid_image` as a PNG."""
    with disk_errors(f"write {path.name}"):
        write_atomic(path, png_bytes(grid_image(rows, labels, headings=headings)))
