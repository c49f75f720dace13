"""Fit decoded images to the square, antialiased inputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from balancegan.data.decode import DecodeSettings


def resize(pixels: NDArray[np.uint8], settings: DecodeSettings) -> NDArray[np.uint8]:
    """Fit an (H, W) or (H, W, 3) image to (1 or 3, S, S), antialiased.

    `stretch` ignores the aspect ratio, `crop` takes the largest central square, `pad` shows the whole image on
    the background colour (grey images stay grey if the background is grey).
    """
    side = settings.image_size
    im = Image.fromarray(pixels)
    if settings.fit == "pad" and im.width != im.height:
        im = _pad(im, side, settings.reading.background)
    else:
        box = _central_square(im.size) if settings.fit == "crop" else None
        if im.size != (side, side):
            im = im.resize((side, side), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    out = np.asarray(im)
    return out[None] if out.ndim == 2 else np.ascontiguousarray(out.transpose(2, 0, 1))  # HWC -> CHW


def _central_square(size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    side = min(size)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def _pad(im: Image.Image, side: int, background: tuple[int, int, int]) -> Image.Image:
    scale = side / max(im.size)
    size = (max(1, round(im.width * scale)), max(1, round(im.height * scale)))
    grey = im.mode == "L" and len(set(background)) == 1
    canvas = Image.new("L", (side, side), background[0]) if grey else Image.new("RGB", (side, side), background)
    canvas.paste(
        im.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0),
        ((side - size[0]) // 2, (side - size[1]) // 2),
    )
    return canvas


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether an (H, W) or (H, W, 3) image has no colour: one channel, or three equal ones."""
    if pixels.ndim == 2:
        return True
    first = pixels[0, 0]
    if first[0] != first[1] or first[1] != first[2]:  # decides for most colour images
        return False
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


def network_pixels(pixels: NDArray[np.uint8], settings: DecodeSettings) -> tuple[NDArray[np.uint8], bool]:
    """Return pixels as stored, (C, S, S) with C = `settings.channels` (resolved), and whether they are grey.

    Colour becomes grey by luma (ITU-R 601) if one channel is requested.
    """
    x = resize(pixels, settings)
    grey = len(x) == 1 or is_grey(x.transpose(1, 2, 0))
    if settings.channels == 3 and len(x) == 1:
        x = np.repeat(x, 3, axis=0)
    elif settings.channels == 1 and len(x) == 3:
        x = x[:1] if grey else np.asarray(Image.fromarray(x.transpose(1, 2, 0).copy()).convert("L"))[None]
    return np.ascontiguousarray(x), grey
