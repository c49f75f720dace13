"""Encode synthetic images in the form of the real images of their class, so that no file is told by its form."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from balancegan.core.grid import PNG_OPTIONS, png_bytes, to_pil
from balancegan.data.decode import decode_image, is_colour_mode, is_deep_mode
from balancegan.data.resize import resize
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes, generator, varied
from balancegan.data.window import to_uint8 as scale_to_uint8
from balancegan.folder.real_files import READABLE

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "PNG": PNG_OPTIONS,
}
FORMATS = {"png": "PNG", "jpeg": "JPEG"}
ATTEMPTS = 20  # at a variation that differs from its source


@dataclass(frozen=True)
class ClassForm:
    """The form of a class's real files, which generated ones imitate."""

    format: str
    mode: str  # L or RGB
    rows: np.ndarray  # (n,) of the store: real images, whose sizes and compression are imitated


def class_form(data: TrainingSet, label: int) -> ClassForm:
    """Return the most common format and mode of a class, and its images, from the training split."""
    rows = np.sort(data.split_rows[data.labels[data.split_rows] == label])
    formats = Counter(data.store.files[i].format for i in rows if data.store.files[i].format in READABLE - {"PPM"})
    grey = Counter("RGB" if is_colour_mode(data.store.native_modes[i]) else "L" for i in rows)
    mode = grey.most_common(1)[0][0] if data.store.images.shape[1] == 1 else "RGB"
    return ClassForm(formats.most_common(1)[0][0] if formats else "PNG", mode, rows)


class Encoder:
    """Encodes the synthetic images of a data set.

    Args:
        data: the real images.
        format: `match` for the format of the real images, `png` or `jpeg`.
        out_size: `native` for the sizes of the real images, `model` for the model's.
    """

    def __init__(self, data: TrainingSet, format: str, out_size: str) -> None:
        self.data, self.format, self.out_size = data, format, out_size
        self.forms = [class_form(data, label) for label in range(len(data.class_names))]

    def format_of(self, label: int) -> str:
        """Return the format of a class's generated images."""
        return FORMATS.get(self.format) or self.forms[label].format

    def format_of_row(self, row: int) -> str:
        """Return the format of the variations of a real image."""
        found = self.data.store.files[row].format
        plain = found in READABLE - {"PPM"} and not is_deep_mode(self.data.store.native_modes[row])
        return FORMATS.get(self.format) or (found if plain else "PNG")

    def generated(self, image: np.ndarray, label: int, seed: int) -> bytes:
        """Encode a generated image, uint8 (C, S, S), with the size and compression of some real one of its class."""
        form, picture = self.forms[label], to_pil(image)
        like = int(form.rows[np.random.default_rng(seed).integers(len(form.rows))])
        if self.out_size == "native":
            width, height = self.data.store.native_sizes[like]
            picture = picture.resize((int(width), int(height)), Image.Resampling.LANCZOS)
        return self._saved(picture.convert(form.mode), self.format_of(label), like)

    def transformed(self, row: int, number: int, changes: Changes, seed: int, attempt: int = 0) -> bytes | None:
        """Encode a variation of a real image; None if none of `ATTEMPTS` differs from it (an image of one colour).

        Raises `ImageError` if the image cannot be read any more.
        """
        settings = self.data.store.settings
        path = self.data.folder.path(self.data.store.files[row])
        found = decode_image(path, settings.reading)
        pixels = scale_to_uint8(found.pixels, self.data.store.window)
        for further in range(ATTEMPTS):
            changed = varied(pixels, changes, generator(seed, row, number, ATTEMPTS * attempt + further))
            if changed.shape != pixels.shape or not np.array_equal(changed, pixels):
                break
        else:
            return None
        picture = Image.fromarray(np.ascontiguousarray(changed))
        if self.out_size == "model":
            picture = to_pil(resize(np.ascontiguousarray(changed), settings))
        return self._saved(picture, self.format_of_row(row), row)

    def _saved(self, picture: Image.Image, format: str, like: int) -> bytes:
        options = SAVE_OPTIONS.get(format, {})
        if format == "JPEG" and self.data.store.files[like].format == "JPEG" and self.format == "match":
            options = _compression(self.data.folder.path(self.data.store.files[like])) or options
        buffer = io.BytesIO()
        picture.save(buffer, format, **options)
        return buffer.getvalue()


@lru_cache(maxsize=4096)
def _compression(path: Path) -> dict[str, Any]:
    """Return the options that compress like this JPEG; empty if it cannot be told."""
    try:
        with Image.open(path, formats=("JPEG",)) as found:
            assert isinstance(found, JpegImagePlugin.JpegImageFile)
            tables, sampling = found.quantization, JpegImagePlugin.get_sampling(found)
    except (OSError, ValueError, SyntaxError):
        return {}
    if not 1 <= len(tables) <= 2:
        return {}
    return {"qtables": tables, "subsampling": max(0, sampling)}


def convert_to_png(path: Path, data: TrainingSet) -> bytes:
    """Decode as for training (window, background, orientation), keep the native size, encode as 8-bit PNG."""
    picture = decode_image(path, data.store.settings.reading)
    return png_bytes(Image.fromarray(scale_to_uint8(picture.pixels, data.store.window)))
