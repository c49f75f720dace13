"""One brightness window for a whole data set: it maps 16-bit, 32-bit and float images to 8 bits.

A window from the smallest to the largest value of all images would be wrong where a hot pixel or an unmarked "no data"
value stands far from everything else: all other images would become nearly flat. So a few pixels of each image, and
images whose values lie far from most others', do not widen the window (`common_window`).
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
_FAR = 8.0  # an image is left out whose values lie this many times the usual range away from the usual values
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


def value_range(pixels: NDArray[Any]) -> Values:
    """Return the range of a deep image's finite values."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels.reshape(-1)
    few = 1 + finite.size // _FEW if finite.size >= _SMALL else 0
    if not few:
        low, high = float(finite.min()), float(finite.max())
        return Values(low, high, low, high)
    ordered = np.partition(finite, (0, few, finite.size - 1 - few, finite.size - 1))
    low, inner_low, inner_high, high = (float(ordered[k]) for k in (0, few, -1 - few, -1))
    return Values(low, high, inner_low, inner_high)


def full_window(ranges: Sequence[Values]) -> Window:
    """The window from the smallest to the largest value."""
    return Window(min(r.low for r in ranges), max(r.high for r in ranges))


def common_window(ranges: Sequence[Values]) -> Window:
    """The window that leaves out what lies far from nearly everything else.

    Images far from the median image's inner range do not count, and then no single values beyond twice the range of
    the others. Without such outliers it is `full_window`.
    """
    whole = full_window(ranges)
    lows, highs = (np.array([r[k] for r in ranges]) for k in (2, 3))
    low, high = np.median(lows), np.median(highs)
    far = _FAR * (high - low)
    if not 0 < far < np.inf:
        return whole
    low, high = lows[lows >= low - far].min(), highs[highs <= high + far].max()
    span = high - low
    extremes = np.array([r[:2] for r in ranges])
    return Window(
        float(min(low, extremes[extremes[:, 0] >= low - span, 0].min(initial=low))),
        float(max(high, extremes[extremes[:, 1] <= high + span, 1].max(initial=high))),
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
