"""Images with more than eight bits per value, beyond what Pillow hands out by itself.

Pillow keeps 16-bit grey and 32-bit float, but of a 16-bit colour image only the upper bytes, and refuses 64-bit
floats and other scientific TIFFs, which tifffile (a dependency of scikit-image) reads.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_OTHER_END = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def lower_half(path: str | os.PathLike[str], im: Image.Image) -> Image.Image | None:
    """The lower bytes of a 16-bit RGB or RGBA image whose upper bytes `im` (not loaded yet) will hold; else None.

    Reading the values with their byte order reversed makes Pillow keep the other half.
    """
    tiles: list[Any] = getattr(im, "tile", None) or []
    raw = _raw_mode(tiles[0].args) if tiles else ""
    if raw[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    other = raw[:-1] + _OTHER_END[raw[-1]]
    with Image.open(path, formats=[im.format or ""]) as low:
        low.tile = [t._replace(args=other if isinstance(t.args, str) else (other, *t.args[1:])) for t in tiles]
        low.load()
        return low


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def join_halves(high: Image.Image, low: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint16]:
    """(H, W, 3) uint16 from two 8-bit halves, transparency over the background."""
    values = (np.asarray(high).astype(np.uint16) << 8) | np.asarray(low)
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:] / 65535.0
    under = np.array(background, dtype=np.float64) * 257.0
    return np.rint(values[..., :3] * alpha + under * (1.0 - alpha)).astype(np.uint16)


def as_tagged(pixels: NDArray[Any], im: Image.Image) -> NDArray[Any]:
    """Two TIFF tags that Pillow leaves to the reader for deep grey images: unsigned 32 bits, and white as zero."""
    if not isinstance(im, TiffImagePlugin.TiffImageFile):
        return pixels
    if pixels.dtype == np.int32 and im.tag_v2.get(_BITS) == (32,) and im.tag_v2.get(_SAMPLE_FORMAT, (1,)) == (1,):
        pixels = pixels.view(np.uint32)
    if im.tag_v2.get(_PHOTOMETRIC) == 0 and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return pixels


def scientific_tiff(path: str | os.PathLike[str], max_pixels: int) -> NDArray[Any] | None:
    """First page of a TIFF that Pillow refuses: (H, W) or (H, W, 3) of any real type; None when it is no such file."""
    with open(path, "rb") as f:  # noqa: PTH123 - path may be a string
        if f.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    import tifffile

    log = logging.getLogger("tifffile")
    if log.level == logging.NOTSET:  # it reports damaged tags on stderr; the file becomes a bad file with a reason
        log.setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        shape = page.shape
        if page.imagewidth * page.imagelength > max_pixels:  # type: ignore[union-attr]
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
