"""Read images with more than eight bits per value that Pillow supports only in part.

Pillow reads 16-bit grey and 32-bit float, but keeps only the upper bytes of 16-bit colour images, and rejects 64-bit
floats and other scientific TIFFs, which tifffile reads. It misreads 16-bit TIFFs whose colours are stored one after
the other (planar), and signed 8-bit ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from balancegan.core.files import open_regular
from balancegan.data.refused import ImageError, no_such_page

_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339
_SUBFILE, _PLANAR, _SUB_IFDS, _NODATA, _DNG = 254, 284, 330, 42113, 50706
_SIGNED, _SEPARATE, _REDUCED = 2, 2, 1
_LARGEST = float(np.finfo(np.float32).max)
"""Usual for "no data" in float images. Such a value means nothing in a double, either."""
_BLOCK = 1 << 20
_MOST_BYTES = 8
"""Bytes per pixel of the largest accepted image: with larger pixels, fewer of them are accepted."""
_OTHER_END = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def lower_half(path: str | os.PathLike[str], im: Image.Image, *, grey: bool) -> Image.Image | None:
    """Return the lower bytes of a 16-bit RGB or RGBA image as an 8-bit image; None for other images.

    `im`, not loaded yet, will hold the upper bytes. Reversing the byte order makes Pillow keep the other half. With
    `grey`, 16-bit grey with transparency counts too: Pillow makes it RGBA, and has no reversed order for it, but its
    four bytes per pixel can be read as RGBA.
    """
    tiles: list[Any] = getattr(im, "tile", None) or []
    raw = _raw_mode(tiles[0].args) if tiles else ""
    grey = grey and raw == "LA;16B" and im.mode == "RGBA"
    if not grey and raw[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    other = "RGBA" if grey else raw[:-1] + _OTHER_END[raw[-1]]
    with open_regular(path) as file, Image.open(file, formats=[im.format or ""]) as low:
        low.seek(im.tell())
        low.tile = [t._replace(args=other if isinstance(t.args, str) else (other, *t.args[1:])) for t in tiles]
        low.load()
        if not grey:
            return low
        _, value, _, alpha = low.split()
        return Image.merge("RGBA", (value, value, value, alpha))


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


def needs_tifffile(im: Image.Image) -> bool:
    """Whether Pillow would misread this TIFF: planar with 16 bits, or signed 8 bits."""
    if not isinstance(im, TiffImagePlugin.TiffImageFile):
        return False
    bits = im.tag_v2.get(_BITS, ())
    planar = im.tag_v2.get(_PLANAR) == _SEPARATE and len(bits) > 1 and max(bits) > 8
    return planar or (set(bits) == {8} and _SIGNED in im.tag_v2.get(_SAMPLE_FORMAT, ()))


def is_preview(im: Image.Image) -> bool:
    """Whether Pillow sees only the preview of a camera's raw image (DNG and relatives, which are TIFFs)."""
    if not isinstance(im, TiffImagePlugin.TiffImageFile):
        return False
    return bool(im.tag_v2.get(_SUBFILE, 0) & _REDUCED) and (_SUB_IFDS in im.tag_v2 or _DNG in im.tag_v2)


def nodata(im: Image.Image) -> float | None:
    """Return the value that stands for "no data" by GDAL's tag; None without one."""
    return _number(im.tag_v2.get(_NODATA)) if isinstance(im, TiffImagePlugin.TiffImageFile) else None


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def without_nodata(pixels: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    """Replace values that mean "no data" by NaN: the tagged one, and the largest floats."""
    if pixels.dtype.kind == "f":
        empty = ~(np.abs(pixels) < _LARGEST)
        empty |= False if nodata is None else pixels == pixels.dtype.type(nodata)
        return np.where(empty & ~np.isinf(pixels), np.nan, pixels) if empty.any() else pixels
    if nodata is None or not (empty := pixels == nodata).any():
        return pixels
    exact = np.float32 if pixels.dtype.itemsize < 4 else np.float64
    return np.where(empty, exact(np.nan), pixels.astype(exact))


def _count(tiff: Any) -> int:
    try:
        return len(tiff.pages)
    except Exception:  # a later page is damaged
        return 1


class Page(NamedTuple):
    """A page of a TIFF: pixels (H, W) or (H, W, 3), the number of pages, and the value for "no data"."""

    pixels: NDArray[Any]
    pages: int
    nodata: float | None


def scientific_tiff(path: str | os.PathLike[str], page: int, max_pixels: int) -> Page | None:
    """Read a page (from 1) of a TIFF that Pillow rejects, of any real type; None for other files."""
    with open_regular(path) as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        file.seek(0)
        return _page(file, page, max_pixels)


def _page(file: BinaryIO, number: int, max_pixels: int) -> Page | None:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        pages = _count(tiff)
        if number > pages:
            raise ImageError(no_such_page(pages, number))
        page: Any = tiff.pages[number - 1] if number > 1 else tiff.pages.first
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
            raise ImageError(f"an image of shape {shape}: only grey and RGB are supported")
        tag = page.tags.get(_NODATA)
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3) or not pixels.size:  # damaged tags
        return None
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    pixels = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    return Page(pixels, pages, _number(tag.value) if tag else None)
