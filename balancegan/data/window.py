"""One brightness window for a whole data set: it maps 16-bit, 32-bit and float images to 8 bits.

A window from the smallest to the largest value of all images would be wrong where a hot pixel or an unmarked "no data"
value stands far from everything else: all other images would become nearly flat. So a few pixels of each image, and
single images whose values lie far from most others', do not widen the window (`common_window`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balancegan.core.text import plural, printable
from balancegan.data.high_depth import row_blocks

_FEW = 10_000  # one pixel in so many, and one more, may lie outside an image's inner range
_SMALL = 100  # pixels; smaller images have no inner range
_FAR = 8.0  # an image is far whose values lie this many times the usual range away from the usual values
_SINGLE = 0.05  # far images are ignored only if at most this share of all images (or one image) is far,
_OF_CLASS = 1 / 3  # and at most this share of their class: the rare class may well be the bright one
_SAMPLE = 1 << 20  # values, of which the inner range of a large image is taken
_FLAT = 0.02  # an image that uses less of the window than this is nearly flat


@dataclass(frozen=True)
class Window:
    """The values of 16-bit, 32-bit and float images that become 0 and 255, for the whole data set."""

    low: float
    high: float


class Values(NamedTuple):
    """The finite values of one deep image: the extremes, and those of all but a few pixels."""

    low: float
    high: float
    inner_low: float
    inner_high: float


def extremes(pixels: NDArray[Any]) -> Window:
    """Return the smallest and the largest finite value of a deep image."""
    lows, highs = [], []
    for block in row_blocks(pixels):
        values = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    return Window(min(lows), max(highs))


def value_range(pixels: NDArray[Any]) -> Values:
    """Return the range of a deep image's finite values."""
    whole = extremes(pixels)
    step = 1 + int((pixels.size / _SAMPLE) ** 0.5)
    some = pixels[::step, ::step]
    some = some[np.isfinite(some)] if some.dtype.kind == "f" else some.reshape(-1)
    few = 1 + some.size // _FEW if some.size >= _SMALL else 0
    if not few:
        return Values(whole.low, whole.high, whole.low, whole.high)
    ordered = np.partition(some, (few, some.size - 1 - few))
    return Values(whole.low, whole.high, float(ordered[few]), float(ordered[-1 - few]))


def full_window(ranges: Sequence[Values]) -> Window:
    """The window from the smallest to the largest value."""
    return Window(min(r.low for r in ranges), max(r.high for r in ranges))


def common_window(ranges: Sequence[Values], classes: Sequence[int]) -> Window:
    """The window that leaves out what lies far from nearly everything else.

    Single images far from the median one do not count, and then no single values beyond twice the range of the others.
    Without such outliers it is `full_window`. `classes` numbers the class of each image.
    """
    whole = full_window(ranges)
    lows, highs = (np.array([r[k] for r in ranges]) for k in (2, 3))
    middle = len(ranges) // 2  # of an even number, one of the two: their mean may be no image's value
    low, high = np.sort(lows)[middle], np.sort(highs)[middle]
    far = _FAR * (high - low)
    if not 0 < far < np.inf:
        return whole
    out = (lows < low - far) | (highs > high + far)
    of_class = np.array(classes)
    for each in np.unique(of_class[out]):
        mine = of_class == each
        if (out & mine).sum() > _OF_CLASS * mine.sum():
            out &= ~mine
    if out.sum() > max(1, _SINGLE * len(ranges)):
        out[:] = False
    low, high = lows[~out].min(), highs[~out].max()
    span = high - low
    every = np.array([r[:2] for r in ranges])
    return Window(
        float(min(low, every[every[:, 0] >= low - span, 0].min(initial=low))),
        float(max(high, every[every[:, 1] <= high + span, 1].max(initial=high))),
    )


def window_notes(names: Sequence[str], ranges: Sequence[Values], window: Window) -> list[str]:
    """Sentences on images (named by `names`) that the window cuts off, or in which they are nearly flat."""
    notes, shown = [], f"{window.low:,.7g} to {window.high:,.7g}"
    cut = [(n, r) for n, r in zip(names, ranges, strict=True) if r.low < window.low or r.high > window.high]
    if cut:
        name, r = max(cut, key=lambda item: max(item[1].high - window.high, window.low - item[1].low))
        value = r.high if r.high - window.high > window.low - r.low else r.low
        notes.append(
            f"{plural(len(cut), 'image has', 'images have')} values outside the brightness window {shown} (e.g. "
            f"{printable(name)}: {value:,.7g}): they become black or white"
        )
    span = window.high - window.low
    flat = [(n, r) for n, r in zip(names, ranges, strict=True) if 0 < r.inner_high - r.inner_low < _FLAT * span]
    if flat:
        name, r = flat[0]
        notes.append(
            f"{len(flat):,} of {plural(len(names), 'image')} with more than 8 bits use less than {_FLAT:.0%} of the "
            f"brightness window {shown} and look flat (e.g. {printable(name)}: {r.inner_low:,.7g} to "
            f"{r.inner_high:,.7g}): bring all images to one scale"
        )
    return notes


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
