"""Read images with more than eight bits per value that Pillow supports only in part.

Pillow reads 16-bit grey and 32-bit float, but keeps only the upper bytes of 16-bit colour images, and rejects 64-bit
floats and other scientific TIFFs, which tifffile reads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from balancegan.core.files import open_regular

_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339
_BLOCK = 1 << 20
_MOST_BYTES = 8
"""Bytes per pixel of the largest accepted image: with larger pixels, fewer of them are accepted."""
_OTHER_END = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def lower_half(path: str | os.PathLike[str], im: Image.Image) -> Image.Image | None:
    """Return the lower bytes of a 16-bit RGB or RGBA image as an 8-bit image; None for other images.

    `im`, not loaded yet, will hold the upper bytes. Reversing the byte order makes Pillow keep the other half.
    """
    tiles: list[Any] = getattr(im, "tile", None) or []
    raw = _raw_mode(tiles[0].args) if tiles else ""
    if raw[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    other = raw[:-1] + _OTHER_END[raw[-1]]
    with open_regular(path) as file, Image.open(file, formats=[im.format or ""]) as low:
        low.tile = [t._replace(args=other if isinstance(t.args, str) else (other, *t.args[1:])) for t in tiles]
        low.load()
        return low


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def join_halves(high: Image.Image, low: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Join two 8-bit halves to (H, W, 3) uint16, with transparency composited over the background."""
    out = np.empty((high.height, high.width, 3), np.uint16)
    under = np.array(background, dtype=np.float64) * 257.0
    top = 0
    for into in row_blocks(out):
        box = (0, top, high.width, top := top + len(into))
        values = (np.asarray(high.crop(box)).astype(np.uint16) << 8) | np.asarray(low.crop(box))
        if values.shape[2] == 4:
            alpha = values[..., 3:] / 65535.0
            values = np.rint(values[..., :3] * alpha + under * (1.0 - alpha)).astype(np.uint16)
        into[:] = values
    return out


def row_blocks(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of a few rows each, so that double-precision work does not take many times the image's memory."""
    rows = max(1, _BLOCK // max(1, pixels[:1].size))
    return (pixels[i : i + rows] for i in range(0, len(pixels), rows))


def tile_pixels(im: Image.Image) -> int:
    """Return the pixels of one tile of a TIFF, or 0 without tiles; a tile is decoded whole even for a small image."""
    if not isinstance(im, TiffImagePlugin.TiffImageFile):
        return 0
    sides = [im.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    return int(sides[0]) * int(sides[1]) if all(isinstance(side, int) for side in sides) else 0


def as_tagged(pixels: NDArray[Any], im: Image.Image) -> NDArray[Any]:
    """Apply two TIFF tags that Pillow ignores for deep grey images: unsigned 32 bits, and white as zero."""
    if not isinstance(im, TiffImagePlugin.TiffImageFile):
        return pixels
    if pixels.dtype == np.int32 and im.tag_v2.get(_BITS) == (32,) and im.tag_v2.get(_SAMPLE_FORMAT, (1,)) == (1,):
        pixels = pixels.view(np.uint32)
    if im.tag_v2.get(_PHOTOMETRIC) == 0 and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels


def scientific_tiff(path: str | os.PathLike[str], max_pixels: int) -> NDArray[Any] | None:
    """Read the first page of a TIFF that Pillow rejects: (H, W) or (H, W, 3) of any real type; None for other files."""
    with open_regular(path) as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        file.seek(0)
        return _first_page(file, max_pixels)


def _first_page(file: BinaryIO, max_pixels: int) -> NDArray[Any] | None:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        shape = page.shape
        tile = page.tilewidth * page.tilelength * page.tiledepth if page.is_tiled else 0
        too_many = max(page.imagewidth * page.imagelength, tile) > max_pixels
        if too_many or page.nbytes > _MOST_BYTES * max_pixels:
            raise Image.DecompressionBombError
        if len(shape) == 3 and shape[0] in (3, 4) and shape[2] not in (3, 4):  # planar
            pixels = np.moveaxis(page.asarray(), 0, 2)
        elif len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)):
            pixels = page.asarray()
        else:
            return None
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3) or not pixels.size:  # damaged tags
        return None
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
