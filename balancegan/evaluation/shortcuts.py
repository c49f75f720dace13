"""Detects shortcuts: properties of the files, rather than their content, that tell synthetic images from real ones.

A classifier may learn such a property instead of the class, because the small classes of a balanced folder are mostly
synthetic. Two kinds are checked: header fields (image size, format, pixel type), by guessing from the value itself, and
numbers (bytes, and three pixel statistics at the image's original size), by guessing from a threshold. Anything fitted
is fitted on one half of the files and tested on the other half.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.core.text import significant
from balancegan.data.decode import decode_image, read_header
from balancegan.data.refused import ImageError

MAX_FILES = 500
"""Maximum number of real, and of synthetic, files to check."""
MAX_DECODED = 300
"""Maximum number of files per side to decode."""

MIN_FILES = 10
"""Minimum number of files per side for fitting on one half and testing on the other."""

TELLING = 0.9
"""The report warns about a property that alone tells real from synthetic images with at least this accuracy."""

_PIXEL_BUDGET = 100_000_000  # decoded per side, after the first `2 * MIN_FILES` files; keeps the time to seconds
_WINDOW = 512  # px; only the centre of larger images is measured
_BLOCK = 8  # px, as in JPEG
_BITS = {"1": "1-bit", "I": "32-bit", "F": "32-bit float"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _File:
    """One file's properties. `numbers` holds only those that could be measured."""

    size: str
    format: str
    mode: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Form:
    """A check of a header field."""

    check: str
    attribute: str
    remedy: str
    many_values: bool = False


@dataclass(frozen=True)
class _Number:
    """A check of a number; `measured` describes it within the warning."""

    check: str
    measured: str
    remedy: str
    follows_form: bool = False  # follows from differences in size, format or pixel type
    plural: bool = False
    only_more: bool = False  # full warning only if synthetic images have more of it


_FORMS = (
    _Form(
        "image size",
        "size",
        "Use `--out-size native` and a new `--out`, and resize all images to one size before training.",
        many_values=True,
    ),
    _Form(
        "file format",
        "format",
        "Use `--format match` and a new `--out`, or save all files in one format before training.",
    ),
    _Form("pixel type", "mode", "Use `--format match`, or convert all images to one mode and bit depth when loading."),
)
DETAIL = "high frequencies"
_SAVE_ALIKE = "Save all files the same way before training: one program, one format, one quality."
_NUMBERS = (
    _Number("file size", "bytes per file", _SAVE_ALIKE, follows_form=True),
    _Number("bytes per pixel", "bytes per pixel", _SAVE_ALIKE, follows_form=True, plural=True),
    _Number(
        DETAIL,
        "mean magnitude of the Laplacian relative to the contrast",
        "Train longer, use all images at a lower resolution, or blur or re-encode all images alike before training.",
        plural=True,
    ),
    _Number(
        "checkerboard",
        "share of the pixel-to-pixel differences that alternates like a chessboard",
        "Train with `--set upsampling=resize` if the method has it, use all images at a lower resolution, or blur "
        "all images alike.",
        only_more=True,  # less of it means a lack of high frequencies, which has its own check
    ),
    _Number(
        "block grid",
        f"differences across the edges of {_BLOCK}-pixel blocks relative to those inside",
        "Compression leaves such a grid, even in files that are later saved as PNG. " + _SAVE_ALIKE,
    ),
)


def shortcut_checks(
    real_files: Sequence[Path], synthetic_files: Sequence[Path], *, side: int | None = None, seed: int = 0
) -> list[Json]:
    """Run every check and return all outcomes, including the negative ones.

    Args:
        real_files: image files of the classes that received synthetic images.
        synthetic_files: the synthetic image files beside them.
        side: of the images that the generator makes, in pixels: at this size, a lack of detail cannot tell them.
        seed: for the choice of files and halves.

    Returns:
        One `{check, accuracy, telling, sentence, explained, n_real, n_fake}` per check. `accuracy` is the share of
        correct guesses on equal numbers of both kinds: 0.5 if the property does not help, and None with fewer than
        `MIN_FILES` readable files on a side (for header fields, only if a side has none). `sentence` is empty unless
        the check is `telling`, and short if another check explains it (`explained`): file sizes depend on image size,
        format and pixel type, and smooth images have less of a checkerboard.
    """
    real, fake = _look_at(real_files, seed), _look_at(synthetic_files, seed)
    rows = [_form_row(form, real, fake, seed) for form in _FORMS]
    form_tells = any(row["telling"] for row in rows)
    said: set[str] = set()
    for number in _NUMBERS:
        if side and number.check == DETAIL:
            remedy = f"Resize all images to {side} px before training: generated images show no finer detail."
            number = replace(number, remedy=remedy)
        row = _number_row(number, real, fake, seed)
        if row["telling"] and number.follows_form and form_tells:
            row |= _too(number, "this follows from the image size, file format or pixel type")
        elif row["telling"] and number.remedy in said:
            row |= _too(number, "the remedy is the same")
        elif row["telling"]:
            said.add(number.remedy)
        rows.append(row)
    return rows


# Looking at files ----------------------------------------------------------------------------------------------------


def _look_at(files: Sequence[Path], seed: int) -> list[_File]:
    chosen = random.Random(seed).sample(list(files), min(len(files), MAX_FILES))
    found: list[_File] = []
    decoded = spent = 0
    for path in chosen:
        decode = decoded < MAX_DECODED and (decoded < 2 * MIN_FILES or spent < _PIXEL_BUDGET)
        file, pixels = _look(path, decode)
        if file is not None:
            found.append(file)
            decoded, spent = decoded + (pixels > 0), spent + pixels
    return found


def _look(path: Path, decode: bool) -> tuple[_File | None, int]:
    """Read a file; returns it with the number of pixels decoded. Skips broken files, which `inspect` reports."""
    try:
        (width, height), mode, form = read_header(path)
        size = path.stat().st_size
    except (OSError, ImageError):
        return None, 0
    numbers, pixels = {"file size": float(size), "bytes per pixel": size / (width * height)}, 0
    if decode:
        try:
            numbers |= pixel_numbers(decode_image(path).pixels)
        except ImageError:
            return None, 0
        pixels = width * height
    return _File(f"{width}x{height}", form, _mode(mode), numbers), pixels


def _mode(mode: str) -> str:
    bits = "16-bit" if mode.startswith("I;16") else _BITS.get(mode, "8-bit")
    names = {"L": "grey", "I": "grey", "F": "grey", "1": "black and white", "P": "palette"}
    return f"{bits} {names.get(mode.split(';')[0], mode)}"


def pixel_numbers(pixels: NDArray[Any]) -> dict[str, float]:
    """High frequencies, checkerboard and block grid of an image (H, W) or (H, W, 3) at its original size, in grey.

    All three are ratios, so they do not depend on brightness and contrast; they are 0 for an image of one colour.
    Measures that need a larger image (at least 3 px for the Laplacian, 16 px for two blocks) or that are not finite are
    left out.
    """
    top, left = (
        max(0, side - _WINDOW) // 2 // _BLOCK * _BLOCK for side in pixels.shape[:2]
    )  # multiples of the block keep the grid's phase
    grey = pixels[top : top + _WINDOW, left : left + _WINDOW].astype(np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    measures: dict[str, tuple[int, Callable[[Floats], float]]] = {
        "high frequencies": (3, _laplacian),
        "checkerboard": (3, _checkerboard),
        "block grid": (2 * _BLOCK, _block_grid),
    }
    with np.errstate(all="ignore"):
        found = {name: measure(grey) for name, (side, measure) in measures.items() if min(grey.shape) >= side}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _laplacian(grey: Floats) -> float:
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return _share(np.abs(4 * grey[1:-1, 1:-1] - around).mean(), grey.std())


def _checkerboard(grey: Floats) -> float:
    alternating = grey[:-1, :-1] - grey[:-1, 1:] - grey[1:, :-1] + grey[1:, 1:]
    return _share(np.abs(alternating).mean(), sum(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))


def _block_grid(grey: Floats) -> float:
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        edge = np.arange(len(steps)) % _BLOCK == _BLOCK - 1
        ratios.append(_share(steps[edge].mean(), steps[~edge].mean()))
    return sum(ratios) / 2


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


# Guessing ------------------------------------------------------------------------------------------------------------


def _form_row(form: _Form, real: list[_File], fake: list[_File], seed: int) -> Json:
    ours = [getattr(file, form.attribute) for file in real]
    theirs = [getattr(file, form.attribute) for file in fake]
    accuracy = None
    if ours and theirs:
        # Fields with few values need no fitting, but every image may have a different size.
        fitted = form.many_values and min(len(ours), len(theirs)) >= MIN_FILES
        guessing = _on_the_other_half(ours, theirs, _values_right, seed) if fitted else None
        accuracy = _guessing(Counter(ours), Counter(theirs)) if guessing is None else guessing
    shown = f"(synthetic: {_mostly(theirs)}; real: {_mostly(ours)})" if ours and theirs else ""
    return _row(form.check, accuracy, shown, form.remedy, len(ours), len(theirs))


def _number_row(number: _Number, real: list[_File], fake: list[_File], seed: int) -> Json:
    ours, theirs = ([f.numbers[number.check] for f in files if number.check in f.numbers] for files in (real, fake))
    accuracy, shown = None, ""
    if min(len(ours), len(theirs)) >= MIN_FILES:
        accuracy = _on_the_other_half(ours, theirs, _threshold_right, seed)
        medians = (significant(float(np.median(values))) for values in (theirs, ours))
        shown = "({}; median of synthetic images {}, of real ones {})".format(number.measured, *medians)
    row = _row(number.check, accuracy, shown, number.remedy, len(ours), len(theirs), plural=number.plural)
    if row["telling"] and number.only_more and np.median(theirs) < np.median(ours):
        row |= _too(number, "smooth images have less of it")
    return row


def _too(number: _Number, why: str) -> Json:
    verb = "tell" if number.plural else "tells"
    sentence = f"{number.check.capitalize()} {verb} synthetic from real images too: {why}."
    return {"sentence": sentence, "explained": True}


def _row(
    check: str, accuracy: float | None, shown: str, remedy: str, n_real: int, n_fake: int, *, plural: bool = False
) -> Json:
    telling = accuracy is not None and accuracy >= TELLING
    sentence = (
        f"{check.capitalize()} alone tell{'' if plural else 's'} synthetic from real images {shown}: a "
        f"classifier may learn that instead of the class. {remedy}"
    )
    return {
        "check": check,
        "accuracy": accuracy,
        "telling": telling,
        "sentence": sentence if telling else "",
        "explained": False,
        "n_real": n_real,
        "n_fake": n_fake,
    }


def _on_the_other_half(
    real: Sequence[Any],
    fake: Sequence[Any],
    right: Callable[[tuple[list[Any], list[Any]], tuple[list[Any], list[Any]]], float],
    seed: int,
) -> float:
    """Cross-validate: the mean of `right(fit on, count on)` with the two halves in both roles."""
    rng = random.Random(seed)
    ours, theirs = (rng.sample(list(side), len(side)) for side in (real, fake))
    first, second = (
        (ours[: len(ours) // 2], theirs[: len(theirs) // 2]),
        (ours[len(ours) // 2 :], theirs[len(theirs) // 2 :]),
    )
    return (right(first, second) + right(second, first)) / 2


def _threshold_right(fit: tuple[list[Any], list[Any]], count: tuple[list[Any], list[Any]]) -> float:
    """Share of correct guesses with the best single threshold in the better direction."""
    real, fake = (np.sort(np.array(side, np.float64)) for side in fit)
    values = np.unique(np.concatenate([real, fake]))
    cuts = (values[:-1] + values[1:]) / 2 if len(values) > 1 else values
    below = [np.searchsorted(side, cuts, side="right") / len(side) for side in (real, fake)]
    gain = below[0] - below[1]  # > 0: synthetic ones lie above
    best = int(np.abs(gain).argmax())
    above = [float((np.array(side) > cuts[best]).mean()) for side in count]
    return (1 + (above[1] - above[0]) * (1 if gain[best] >= 0 else -1)) / 2


def _values_right(fit: tuple[list[Any], list[Any]], count: tuple[list[Any], list[Any]]) -> float:
    """Share of correct guesses from the value: guess the side where it is more frequent.

    For a value seen on neither side, guess the side with the larger share of values that occur only once.
    """
    real, fake = (Counter(side) for side in fit)
    once = [sum(n == 1 for n in side.values()) / side.total() for side in (real, fake)]

    def says_fake(value: Any) -> float:
        ours, theirs = real[value] / real.total(), fake[value] / fake.total()
        if ours == theirs == 0:
            ours, theirs = once
        return 0.5 if ours == theirs else float(theirs > ours)

    said = [sum(map(says_fake, side)) / len(side) for side in count]
    return (1 + said[1] - said[0]) / 2


def _guessing(real: Counter[str], fake: Counter[str]) -> float:
    """Share of correct guesses from this property alone, on equal numbers of both: (1 + total variation) / 2."""
    values = real.keys() | fake.keys()
    apart = sum(abs(real[value] / real.total() - fake[value] / fake.total()) for value in values)
    return (1.0 + apart / 2.0) / 2.0


def _mostly(values: Sequence[str]) -> str:
    counts = Counter(values)
    (value, count), *rest = counts.most_common()
    if not rest:
        return value
    return f"mostly {value}" if count > counts.total() / 2 else f"{len(counts)} different ones"
