"""Picture grids: one row per class, written atomically as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from balancegan.files import disk_errors, write_atomic

GAP = 2
PAPER = 255


def grid_image(rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, min_side: int = 64) -> Image.Image:
    """Lay out rows of images; `rows[k]` is uint8 (n, C, H, W), `labels[k]` is written before it.

    Small images are enlarged by a whole factor (nearest neighbour) to at least `min_side` px: pixels stay visible.
    """
    columns = max((len(r) for r in rows), default=0)
    height, width = next(r.shape[2:] for r in rows)
    factor = max(1, -(-min_side // max(height, width)))
    cell_h, cell_w = height * factor + GAP, width * factor + GAP
    font = ImageFont.load_default(size=max(12, min(20, cell_h // 4)))
    margin = int(max((font.getlength(text) for text in labels or ()), default=-12)) + 12
    canvas = Image.new("RGB", (margin + columns * cell_w + GAP, len(rows) * cell_h + GAP), (PAPER,) * 3)
    draw = ImageDraw.Draw(canvas)
    for i, images in enumerate(rows):
        top = GAP + i * cell_h
        if labels:
            draw.text((6, top + cell_h // 2), labels[i], fill=(0, 0, 0), font=font, anchor="lm")
        for j, image in enumerate(images):
            picture = to_pil(image).convert("RGB").resize((width * factor, height * factor), Image.Resampling.NEAREST)
            canvas.paste(picture, (margin + GAP + j * cell_w, top))
    return canvas


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 (C, H, W) with one or three channels to a Pillow image of mode L or RGB."""
    return Image.fromarray(image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG file's content."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save_grid(rows: Sequence[np.ndarray], path: Path, labels: Sequence[str] | None = None) -> None:
    """Write `grid_image` as a PNG."""
    with disk_errors(f"write {path.name}"):
        write_atomic(path, png_bytes(grid_image(rows, labels)))
