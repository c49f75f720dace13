"""Decode files to pixels: every mode, depth and orientation that Pillow reads becomes uint8 grey or RGB.

Resizing uses Pillow's Lanczos filter, which averages over all source pixels when shrinking (antialiased).
16-bit, 32-bit and float images keep their depth until one window for the whole data set maps them to 0..255
(`data/window.py`); Pillow's own conversion clips at 255, which turns a 16-bit grey image white.

`DECODING` (in core/options.py) numbers the rules. A run records its number, so that its images are always read as when
it was trained:
1. Colour profiles are ignored, the window spans all values, only Pillow's own reading of TIFFs and PNGs.
2. Colour profiles become sRGB; outliers do not widen the window; values that mean "no data" are left out; planar
   16-bit and signed 8-bit TIFFs and 16-bit grey PNGs with transparency keep their values.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from balancegan.core.errors import DiskError, UsageError
from balancegan.core.files import read_again, read_regular
from balancegan.core.options import DECODING, MAX_PIXELS, DataOptions
from balancegan.core.text import printable
from balancegan.data import containers
from balancegan.data.colour import to_srgb
from balancegan.data.high_depth import (
    as_tagged,
    is_preview,
    join_halves,
    lower_half,
    needs_tifffile,
    nodata,
    scientific_tiff,
    tile_pixels,
    without_nodata,
)
from balancegan.data.refused import ImageError, no_such_page, too_large
from balancegan.data.window import Window

Fit = Literal["stretch", "crop", "pad"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad")
_AVIF = importlib.util.find_spec("PIL.AvifImagePlugin") is not None  # Pillow 11.3 and newer
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", *(("AVIF",) if _AVIF else ()))
_PAGED = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF"})
_METADATA = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition for each EXIF orientation. Pillow's own function also rewrites EXIF data, and may fail on it."""
_GREY = frozenset({"1", "L"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_COLOUR = frozenset({"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"})
_EIGHT_BITS = _COLOUR | _GREY | _ALPHA

for _name in ("PIL", "tifffile"):  # damaged files are reported as reasons, not in log lines
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Reading:
    """How a file becomes pixels.

    `background` (RGB) fills transparent pixels and the area around padded images; larger images than `max_pixels` are
    refused; `page` counts from 1; `decoding` numbers the rules, see the module's docstring.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = MAX_PIXELS
    page: int = 1
    decoding: int = DECODING

    @classmethod
    def of(cls, how: DataOptions, background: tuple[int, int, int] = (255, 255, 255)) -> Reading:
        """Return how the files of a folder are read that is read like this."""
        return cls(background, how.max_pixels, how.page, how.decoding)


AS_USUAL = Reading()


@dataclass(frozen=True)
class DecodeSettings:
    """How images become network inputs. `channels` None means 1 if every image is grey, else 3.

    `window` is the one to use for deep images; None for that of the images themselves.
    """

    image_size: int = 64
    channels: int | None = None
    fit: str = "stretch"
    reading: Reading = AS_USUAL
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"fit '{self.fit}' is unknown", f"choose one of {', '.join(FITS)}")
        if self.channels not in (None, 1, 3):
            raise UsageError(
                f"channels must be 1 or 3, not {self.channels}", "leave it out to detect it from the images"
            )
        if not 1 <= self.image_size <= 4096:
            raise UsageError(f"image size {self.image_size} is out of range", "choose a size from 16 to 256")


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, (H, W) grey or (H, W, 3) RGB, uint8 or a deep dtype, with the file's own size and mode.

    `size` is the native (width, height) after orientation; the array may be smaller if a reduced decode was requested.
    `pages` counts the pages or frames of the file; `preview` says that this one is only the preview of a raw image.
    """

    pixels: NDArray[Any]
    size: tuple[int, int]
    mode: str
    pages: int = 1
    preview: bool = False

    @property
    def deep(self) -> bool:
        """Whether the pixels need a window to become 8-bit."""
        return self.pixels.dtype != np.uint8


def decode_image(path: str | os.PathLike[str], reading: Reading = AS_USUAL, *, at_least: int = 0) -> Picture:
    """Decode one page completely, at native size and depth, upright, without transparency.

    `at_least` allows a faster reduced decode of a JPEG as long as both sides keep that many pixels.
    Raises ImageError whatever is wrong with the file, and DiskError if a disk, network or memory fails.
    """
    try:
        return read_again(lambda: _decode(path, reading, at_least), f"read {path}")
    except (ImageError, DiskError):
        raise
    except Image.DecompressionBombError as e:
        raise ImageError(too_large(reading.max_pixels)) from e
    except Exception as e:  # decoders raise exceptions of every kind on damaged files
        raise ImageError(_plain_reason(e)) from e


def _decode(path: str | os.PathLike[str], reading: Reading, at_least: int) -> Picture:
    _raise_limit(reading)
    try:
        with read_regular(path) as file, Image.open(file, formats=FORMATS) as im:
            if im.width * im.height > reading.max_pixels:
                raise ImageError(too_large(reading.max_pixels, f"{im.width} x {im.height} pixels"))
            if tile_pixels(im) > reading.max_pixels:
                raise ImageError(too_large(reading.max_pixels, "tiles with too many pixels"))
            if not (reading.decoding > 1 and needs_tifffile(im)):
                return _load(path, im, reading, at_least)
            refused: Exception = Image.UnidentifiedImageError()
    except Image.UnidentifiedImageError as e:
        refused = e
    return _last_resort(path, reading, refused)


def _raise_limit(reading: Reading) -> None:
    """Let Pillow read images as large as the user allows."""
    if reading.max_pixels > (Image.MAX_IMAGE_PIXELS or reading.max_pixels):
        Image.MAX_IMAGE_PIXELS = reading.max_pixels


def _last_resort(path: str | os.PathLike[str], reading: Reading, refused: Exception) -> Picture:
    """Decode what Pillow does not support: some TIFFs, NumPy arrays and DICOM images."""
    found = containers.read(path, reading.page, reading.max_pixels)
    if found is not None:
        return Picture(_some_finite(found.pixels), found.pixels.shape[1::-1], _mode_of(found.pixels), found.pages)
    try:
        tiff = scientific_tiff(path, reading.page, reading.max_pixels)
    except (Image.DecompressionBombError, MemoryError, ImageError):
        raise
    except Exception as e:
        raise ImageError(str(e) if "imagecodecs" in str(e) else _plain_reason(refused)) from e
    if tiff is None:
        raise ImageError(_plain_reason(refused)) from refused
    pixels = _some_finite(without_nodata(tiff.pixels, tiff.nodata) if reading.decoding > 1 else tiff.pixels)
    mode = _mode_of(pixels) if reading.decoding > 1 else str(pixels.dtype)
    return Picture(pixels, (pixels.shape[1], pixels.shape[0]), mode, tiff.pages)


def _mode_of(pixels: NDArray[Any]) -> str:
    """Name the mode of pixels that Pillow did not read: "RGB;uint16", "float64"."""
    if pixels.dtype == np.uint8:
        return "RGB" if pixels.ndim == 3 else "L"
    return f"{'RGB;' if pixels.ndim == 3 else ''}{pixels.dtype}"


def is_deep_mode(mode: str) -> bool:
    """Whether a `Picture.mode` has more than 8 bits per value."""
    return mode not in _EIGHT_BITS


def is_colour_mode(mode: str) -> bool:
    """Whether a `Picture.mode` can have colour."""
    return mode.split(";")[0] in _COLOUR


class Header(NamedTuple):
    """What a file's header says; `format` in Pillow's spelling."""

    size: tuple[int, int]
    mode: str
    format: str


def read_header(path: str | os.PathLike[str], reading: Reading = AS_USUAL) -> Header:
    """Read native (width, height), Pillow's mode and the format from the header alone; raises ImageError on failure."""

    def opened() -> Header:
        _raise_limit(reading)
        with read_regular(path) as file, Image.open(file, formats=FORMATS) as im:
            if im.width * im.height > reading.max_pixels:
                raise ImageError(too_large(reading.max_pixels, f"{im.width} x {im.height} pixels"))
            return Header(im.size, im.mode, im.format or "unknown")

    try:
        return read_again(opened, f"read {path}")
    except (DiskError, ImageError):
        raise
    except Image.DecompressionBombError as e:
        raise ImageError(too_large(reading.max_pixels)) from e
    except Image.UnidentifiedImageError:
        found = decode_image(path, reading)
        return Header(found.size, found.mode, "unknown")
    except Exception as e:
        raise ImageError(_plain_reason(e)) from e


def _load(path: str | os.PathLike[str], im: Image.Image, reading: Reading, at_least: int) -> Picture:
    if reading.page > 1:
        if reading.page > (pages := _count_pages(im)):
            raise ImageError(no_such_page(pages, reading.page))
        im.seek(reading.page - 1)
    preview = is_preview(im)
    width, height = im.size
    mode = im.mode
    if at_least and mode in ("L", "RGB") and min(width, height) >= 2 * at_least:
        im.draft(mode, (at_least, at_least))  # JPEG
    reduced = im.size != (width, height)
    low = lower_half(path, im, grey=reading.decoding > 1)
    im.load()
    turn = _orientation(im)
    upright = im.transpose(_TURNS[turn]) if turn > 1 else im
    if not reduced:
        width, height = upright.size
    elif turn >= 5:
        width, height = height, width
    if low is not None:
        low = low.transpose(_TURNS[turn]) if turn > 1 else low
        pixels, mode = join_halves(upright, low, reading.background), f"{mode};16"
    else:
        pixels = _pixels(upright, reading)
    return Picture(pixels, (width, height), mode, _count_pages(im) if reading.decoding > 1 else 1, preview)


def _count_pages(im: Image.Image) -> int:
    """Return the number of pages or frames; 1 if a later page is damaged, which does not matter for the first."""
    if im.format not in _PAGED:
        return 1
    try:
        return int(getattr(im, "n_frames", 1))
    except Exception:
        return 1


def _orientation(im: Image.Image) -> int:
    """Return the EXIF orientation, 1..8 (5 and up swap the sides); 1 if the metadata is missing or unreadable."""
    if im.format != "TIFF" and not _METADATA & im.info.keys():
        return 1
    try:
        turn = im.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return turn if turn in range(1, 9) else 1


def _pixels(im: Image.Image, reading: Reading) -> NDArray[Any]:
    if im.mode in _DEEP:
        return _deep_pixels(im, reading)
    if reading.decoding > 1:
        im = to_srgb(im)
    if im.mode in _ALPHA or "transparency" in im.info:
        under = Image.new("RGBA", im.size, (*reading.background, 255))
        im = Image.alpha_composite(under, im.convert("RGBA")).convert("RGB")
    elif im.mode in _GREY:
        im = im.convert("L") if im.mode == "1" else im
    elif im.mode != "RGB":
        try:
            im = im.convert("RGB")
        except ValueError as e:
            raise ImageError(f"colour mode {im.mode} is not supported") from e
    return np.asarray(im)


def _deep_pixels(im: Image.Image, reading: Reading) -> NDArray[Any]:
    pixels = np.asarray(im)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    pixels = as_tagged(pixels, im)
    return _some_finite(without_nodata(pixels, nodata(im)) if reading.decoding > 1 else pixels)


def _some_finite(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise ImageError("contains no finite value (only NaN or infinity)")
    return pixels


def _plain_reason(e: Exception) -> str:
    text = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    lowered = text.lower()
    if isinstance(e, Image.UnidentifiedImageError):
        return "damaged, or a variant of its format that Pillow cannot read"
    if isinstance(e, FileNotFoundError):
        return "the file vanished after the folder was listed"
    if isinstance(e, PermissionError):
        return "no permission to read it"
    if isinstance(e, OSError) and e.errno is not None:
        return f"cannot be read: {e.strerror}"
    if isinstance(e, EOFError) or any(
        word in lowered for word in ("truncated", "premature", "end of file", "only got")
    ):
        return "truncated: the file ends before the image is complete"
    return f"damaged: {printable(text)[:200]}"  # "broken data stream" and the like
