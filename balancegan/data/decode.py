"""Decode files to pixels: every mode, depth and orientation that Pillow reads becomes uint8 grey or RGB.

Resizing uses Pillow's Lanczos filter, which averages over all source pixels when shrinking (antialiased).
16-bit, 32-bit and float images keep their depth until one window for the whole data set maps them to 0..255;
Pillow's own conversion clips at 255, which turns a 16-bit grey image white.
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

from balancegan.core.errors import UsageError
from balancegan.core.files import read_regular
from balancegan.core.text import printable
from balancegan.data.high_depth import as_tagged, join_halves, lower_half, row_blocks, scientific_tiff, tile_pixels

Fit = Literal["stretch", "crop", "pad"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad")
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit (89 megapixels), above which Pillow only warns; larger files count as decompression bombs."""
_AVIF = importlib.util.find_spec("PIL.AvifImagePlugin") is not None  # Pillow 11.3 and newer
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", *(("AVIF",) if _AVIF else ()))
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

for _name in ("PIL", "tifffile"):  # damaged files are reported as reasons, not in log lines
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.CRITICAL)


class ImageError(Exception):
    """A file cannot be decoded; `reason` says why in plain words, without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class DecodeSettings:
    """How images become network inputs. `channels` None means 1 if every image is grey, else 3.

    `background` (RGB) fills transparent pixels and the area around padded images.
    """

    image_size: int = 64
    channels: int | None = None
    fit: str = "stretch"
    background: tuple[int, int, int] = (255, 255, 255)

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
class Window:
    """The values of 16-bit, 32-bit and float images that become 0 and 255, for the whole data set."""

    low: float
    high: float


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, (H, W) grey or (H, W, 3) RGB, uint8 or a deep dtype, with the file's own size and mode.

    `size` is the native (width, height) after orientation; the array may be smaller if a reduced decode was requested.
    """

    pixels: NDArray[Any]
    size: tuple[int, int]
    mode: str

    @property
    def deep(self) -> bool:
        """Whether the pixels need a window to become 8-bit."""
        return self.pixels.dtype != np.uint8


def decode_image(
    path: str | os.PathLike[str],
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    at_least: int = 0,
) -> Picture:
    """Decode the first frame completely, at native size and depth, upright, without transparency.

    `at_least` allows a faster reduced decode of a JPEG as long as both sides keep that many pixels.
    Raises ImageError, and nothing else, whatever is wrong with the file.
    """
    try:
        with read_regular(path) as file, Image.open(file, formats=FORMATS) as im:
            if im.width * im.height > max_pixels:
                raise ImageError(_bomb(im.width, im.height, max_pixels))
            if tile_pixels(im) > max_pixels:
                raise ImageError(f"decompression bomb: tiles of more than {max_pixels:,} pixels")
            return _load(path, im, background, at_least)
    except ImageError:
        raise
    except Image.UnidentifiedImageError as e:
        return _last_resort(path, max_pixels, e)
    except Image.DecompressionBombError as e:
        raise ImageError(f"decompression bomb: more than {max_pixels:,} pixels") from e
    except Exception as e:  # decoders raise exceptions of every kind on damaged files
        raise ImageError(_plain_reason(e)) from e


def _last_resort(path: str | os.PathLike[str], max_pixels: int, refused: Exception) -> Picture:
    """Decode a TIFF variant that Pillow does not support."""
    try:
        pixels = scientific_tiff(path, max_pixels)
    except Image.DecompressionBombError as e:
        raise ImageError(f"decompression bomb: more than {max_pixels:,} pixels") from e
    except Exception as e:
        raise ImageError(_plain_reason(refused)) from e
    if pixels is None:
        raise ImageError(_plain_reason(refused)) from refused
    return Picture(_some_finite(pixels), (pixels.shape[1], pixels.shape[0]), str(pixels.dtype))


class Header(NamedTuple):
    """What a file's header says; `format` in Pillow's spelling."""

    size: tuple[int, int]
    mode: str
    format: str


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read native (width, height), Pillow's mode and the format from the header alone; raises ImageError on failure."""
    try:
        with read_regular(path) as file, Image.open(file, formats=FORMATS) as im:
            return Header(im.size, im.mode, im.format or "unknown")
    except Image.DecompressionBombError as e:
        raise ImageError(f"decompression bomb: more than {MAX_PIXELS:,} pixels") from e
    except Exception as e:
        raise ImageError(_plain_reason(e)) from e


def _load(path: str | os.PathLike[str], im: Image.Image, background: tuple[int, int, int], at_least: int) -> Picture:
    width, height = im.size
    mode = im.mode
    if at_least and mode in ("L", "RGB") and min(width, height) >= 2 * at_least:
        im.draft(mode, (at_least, at_least))
    reduced = im.size != (width, height)
    low = lower_half(path, im)
    im.load()
    turn = _orientation(im)
    upright = im.transpose(_TURNS[turn]) if turn > 1 else im
    if not reduced:
        width, height = upright.size
    elif turn >= 5:
        width, height = height, width
    if low is not None:
        low = low.transpose(_TURNS[turn]) if turn > 1 else low
        return Picture(join_halves(upright, low, background), (width, height), f"{mode};16")
    return Picture(_pixels(upright, background), (width, height), mode)


def _orientation(im: Image.Image) -> int:
    """Return the EXIF orientation, 1..8 (5 and up swap the sides); 1 if the metadata is missing or unreadable."""
    if im.format != "TIFF" and not _METADATA & im.info.keys():
        return 1
    try:
        turn = im.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return turn if turn in range(1, 9) else 1


def _pixels(im: Image.Image, background: tuple[int, int, int]) -> NDArray[Any]:
    if im.mode in _DEEP:
        return _deep_pixels(im)
    if im.mode in _ALPHA or "transparency" in im.info:
        under = Image.new("RGBA", im.size, (*background, 255))
        im = Image.alpha_composite(under, im.convert("RGBA")).convert("RGB")
    elif im.mode in _GREY:
        im = im.convert("L") if im.mode == "1" else im
    elif im.mode != "RGB":
        try:
            im = im.convert("RGB")
        except ValueError as e:
            raise ImageError(f"colour mode {im.mode} is not supported") from e
    return np.asarray(im)


def _deep_pixels(im: Image.Image) -> NDArray[Any]:
    pixels = np.asarray(im)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return _some_finite(as_tagged(pixels, im))


def _some_finite(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise ImageError("contains no finite value (only NaN or infinity)")
    return pixels


def _bomb(width: int, height: int, limit: int) -> str:
    return f"decompression bomb: {width} x {height} pixels, more than {limit:,}"


def _plain_reason(e: Exception) -> str:
    text = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    lowered = text.lower()
    if isinstance(e, Image.UnidentifiedImageError):
        return "damaged, or a variant of its format that Pillow cannot read"
    if isinstance(e, FileNotFoundError):
        return "the file vanished after the folder was listed"
    if isinstance(e, PermissionError):
        return "no permission to read it"
    if isinstance(e, MemoryError):
        return "too large for this machine's memory"
    if isinstance(e, OSError) and e.errno is not None:
        return f"cannot be read: {e.strerror}"
    if isinstance(e, EOFError) or any(
        word in lowered for word in ("truncated", "premature", "end of file", "only got")
    ):
        return "truncated: the file ends before the image is complete"
    return f"damaged: {printable(text)[:200]}"  # "broken data stream" and the like


def finite_range(pixels: NDArray[Any]) -> Window:
    """Return the smallest and largest finite value of a deep image."""
    lows, highs = [], []
    for block in row_blocks(pixels):
        values = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    return Window(min(lows), max(highs))


def to_uint8(pixels: NDArray[Any], window: Window | None) -> NDArray[np.uint8]:
    """Map a deep image through the data set's window, clipping values outside it and mapping NaN to 0.

    8-bit images are returned unchanged.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if window is None:
        raise ValueError("a deep image needs a window")
    low, high = window.low / 2, window.high / 2  # halving is exact in binary; the span of two doubles can overflow
    span = high - low
    out = np.empty(pixels.shape, np.uint8)
    for block, into in zip(row_blocks(pixels), row_blocks(out), strict=True):
        # double precision: float32 cannot tell neighbouring 32-bit integers apart
        share = (block.astype(np.float64) / 2 - low) / (span if span > 0 else np.inf)
        share = np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0)
        into[:] = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return out


def resize(pixels: NDArray[np.uint8], settings: DecodeSettings) -> NDArray[np.uint8]:
    """Fit an (H, W) or (H, W, 3) image to (1 or 3, S, S), antialiased.

    `stretch` ignores the aspect ratio, `crop` takes the largest central square, `pad` shows the whole image on
    the background colour (grey images stay grey if the background is grey).
    """
    side = settings.image_size
    im = Image.fromarray(pixels)
    if settings.fit == "pad" and im.width != im.height:
        im = _pad(im, side, settings.background)
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
