"""Read images that are not in picture formats: NumPy arrays (.npy) and DICOM files (with the extra `dicom`)."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balancegan.core.files import open_regular
from balancegan.data.refused import ImageError, no_such_page, too_large

NPY, DICOM = b"\x93NUMPY", b"DICM"
DICOM_AT = 128
"""Where a DICOM file says that it is one."""


class Contained(NamedTuple):
    """Pixels (H, W) or (H, W, 3) of any real type, and the number of pages or frames in the file."""

    pixels: NDArray[Any]
    pages: int = 1


def read(path: str | os.PathLike[str], page: int, max_pixels: int) -> Contained | None:
    """Read one page (from 1); None if the file is neither. Raises `ImageError` if it cannot be used as an image."""
    with open_regular(path) as file:
        head = file.read(DICOM_AT + len(DICOM))
        file.seek(0)
        if head.startswith(NPY):
            if page > 1:
                raise ImageError(no_such_page(1, page))
            return _npy(file, max_pixels)
        return _dicom(file, page, max_pixels) if head[DICOM_AT:] == DICOM else None


def _npy(file: BinaryIO, max_pixels: int) -> Contained:
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        file.seek(0)
        _require_image(shape, dtype, max_pixels)
        pixels = np.load(file, allow_pickle=False)
    except ValueError as e:
        raise ImageError(f"a damaged NumPy array: {e}") from e
    return Contained(_colours_last(pixels))


def _require_image(shape: tuple[int, ...], dtype: np.dtype[Any], max_pixels: int) -> None:
    """Raise `ImageError` unless an array of this shape is one image."""
    if dtype.kind not in "uifb" or not (len(shape) == 2 or (len(shape) == 3 and {shape[0], shape[2]} & {1, 3, 4})):
        raise ImageError(
            f"an array of shape {shape} and type {dtype} is not one image: (H, W), (H, W, 3) or (3, H, W) of numbers is"
        )
    if min(shape) < 1:
        raise ImageError(f"an array of shape {shape} has no pixels")
    if np.prod([int(n) for n in shape], dtype=float) > 4 * max_pixels:
        raise ImageError(too_large(max_pixels))


def _colours_last(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) or (H, W, 3) in the machine's byte order, without transparency."""
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def _dicom(file: BinaryIO, page: int, max_pixels: int) -> Contained:
    try:
        import pydicom
    except ImportError:
        raise ImageError("DICOM: install the extra, pip install 'balancegan[dicom]'") from None
    try:
        found = pydicom.dcmread(file)
        pages = int(found.get("NumberOfFrames", 1) or 1)
        if int(found.Rows) * int(found.Columns) > max_pixels:
            raise ImageError(too_large(max_pixels, f"{found.Columns} x {found.Rows} pixels"))
        if page > pages:
            raise ImageError(no_such_page(pages, page))
        pixels = pydicom.pixels.pixel_array(found, index=page - 1 if pages > 1 else None)
        return Contained(_as_shown(found, pixels), pages)
    except ImageError:
        raise
    except Exception as e:  # the library raises exceptions of every kind on damaged files
        raise ImageError(f"a DICOM file without a readable image: {' '.join(str(e).split())[:200]}") from e


def _as_shown(found: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """Apply what the header says of the values: rescaling, the window or its table, and white as zero."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if pixels.ndim == 3:  # colour: the library has converted it to RGB
        return _colours_last(pixels)
    shown = apply_voi_lut(apply_modality_lut(pixels, found), found)
    if found.get("PhotometricInterpretation") == "MONOCHROME1":
        shown = shown.max() + shown.min() - shown
    return _colours_last(shown)
