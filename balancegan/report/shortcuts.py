"""Shortcuts: properties of the files, not of the pictures, that tell synthetic images from real ones.

A classifier that can see such a property learns it instead of the class, because in a balanced folder the small
classes are mostly synthetic. Only file headers are read.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 500
"""Files looked at on either side."""

TELLING = 0.9
"""A property is named when guessing real or synthetic by it alone is right this often on equal numbers of both."""

_BITS = {"1": "1-bit", "I": "32-bit", "F": "32-bit float"}


@dataclass(frozen=True)
class _Form:
    size: str
    format: str
    mode: str


def form_shortcuts(real_files: Sequence[Path], synthetic_files: Sequence[Path]) -> list[str]:
    """One plain sentence with its remedy for each of image size, file format and pixel type that gives the game away.

    Args:
        real_files: image files of the classes that received synthetic images.
        synthetic_files: the synthetic image files beside them.

    Returns:
        Sentences; empty when nothing tells, or when a side has no readable file.
    """
    real, fake = _forms(real_files), _forms(synthetic_files)
    if not real or not fake:
        return []
    found = []
    for attribute, subject, remedy in (
        (
            "size",
            "Image size",
            "Use `--out-size native` and a new `--out`, and resize all images to one size before training.",
        ),
        (
            "format",
            "File format",
            "Use `--format match` and a new `--out`, or save all files in one format before training.",
        ),
        ("mode", "Pixel type", "Use `--format match`, or convert all images to one mode and bit depth when loading."),
    ):
        ours = Counter(getattr(form, attribute) for form in real)
        theirs = Counter(getattr(form, attribute) for form in fake)
        if _guessing(ours, theirs) >= TELLING:
            found.append(
                f"{subject} alone tells synthetic from real images (synthetic: {_mostly(theirs)}; real: "
                f"{_mostly(ours)}): a classifier may learn that instead of the class. {remedy}"
            )
    return found


def _forms(files: Sequence[Path]) -> list[_Form]:
    from PIL import Image

    chosen = files if len(files) <= MAX_FILES else random.Random(0).sample(list(files), MAX_FILES)
    forms = []
    for path in chosen:
        try:
            with Image.open(path) as image:  # the header only: pixels are decoded on first use
                mode = _mode(image.mode)
                forms.append(_Form(f"{image.width}x{image.height}", image.format or "unknown", mode))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # broken files are the business of `inspect`
    return forms


def _mode(mode: str) -> str:
    bits = "16-bit" if mode.startswith("I;16") else _BITS.get(mode, "8-bit")
    names = {"L": "grey", "I": "grey", "F": "grey", "1": "black and white", "P": "palette"}
    return f"{bits} {names.get(mode.split(';')[0], mode)}"


def _guessing(real: Counter[str], fake: Counter[str]) -> float:
    """Share of right guesses by this property alone, on equal numbers of both: (1 + total variation) / 2."""
    values = real.keys() | fake.keys()
    apart = sum(abs(real[value] / real.total() - fake[value] / fake.total()) for value in values)
    return (1.0 + apart / 2.0) / 2.0


def _mostly(counts: Counter[str]) -> str:
    (value, count), *rest = counts.most_common()
    if not rest:
        return value
    return f"mostly {value}" if count > counts.total() / 2 else f"{len(counts)} different ones"
