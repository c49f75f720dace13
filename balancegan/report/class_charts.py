"""Charts with one lane per class as inline SVG: bars, points with intervals, marks, on an axis that all lanes share.

Positions across are percentages and heights are pixels, so a chart fills any width, from a phone to paper, without its
text or marks being scaled. Names stand beside the lanes as HTML: the SVG holds numbers and fixed markup only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from balancegan.core.text import significant

ROW = 14  # px of one mark's line inside a lane
_SIDE = 2.5  # per cent left free at both ends, for marks and labels at the very edge
_SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "triangle": "M0-4.6L4.8 3.8H-4.8z",
    "down": "M0 4.6L4.8-3.8H-4.8z",
    "plus": "M-1.5-4.8h3v3.3h3.3v3h-3.3v3.3h-3v-3.3h-3.3v-3h3.3z",
}
SHAPES = tuple(_SHAPES)


@dataclass(frozen=True)
class Mark:
    """One value in a lane. `tone` is a CSS class with its colour; `shape` is a key of `SHAPES`, "bar" or "tick".

    Marks of the same `row` share a line; `low` and `high` are drawn as a whisker.
    """

    value: float
    tone: str
    shape: str
    row: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Lane:
    """A name and what is drawn beside it."""

    name: str
    svg: Markup


@dataclass(frozen=True)
class Chart:
    """A chart for the page. `key` explains the marks: (swatch, text)."""

    title: str
    lanes: tuple[Lane, ...]
    axis: Markup
    key: tuple[tuple[Markup, str], ...]


def lane_chart(
    title: str,
    lanes: Sequence[tuple[str, Sequence[Mark]]],
    key: Sequence[tuple[str, str, str]],
    *,
    domain: tuple[float, float] | None = None,
    suffix: str = "",
) -> Chart | None:
    """Draw the lanes on one axis; None when no lane has anything to show.

    Args:
        title: of the chart.
        lanes: (name, its marks), from above.
        key: (tone, shape, text) of every kind of mark.
        domain: ends of the axis; else zero and all the values.
        suffix: written after the numbers at the axis.
    """
    values = [v for _, marks in lanes for m in marks for v in (m.value, m.low, m.high) if v is not None]
    if not values:
        return None
    low, high = domain or (min(0.0, *values), max(0.0, *values))
    ticks = nice_ticks(low, high)
    rows = 1 + max(m.row for _, marks in lanes for m in marks)
    scale = _Scale(low, high)
    return Chart(
        title,
        tuple(Lane(name, _lane(marks, scale, ticks, rows)) for name, marks in lanes),
        _axis(scale, ticks, suffix),
        tuple((swatch(tone, shape), text) for tone, shape, text in key),
    )


def difference_lane(value: float | None, low: float | None, high: float | None, reach: float) -> Markup:
    """One difference with its interval on an axis from -reach to reach with a zero line, for a cell of a table."""
    marks = [] if value is None else [Mark(value, "ink", "circle", low=low, high=high)]
    return _lane(marks, _Scale(-reach, reach), [0.0], 1)


def swatch(tone: str, shape: str) -> Markup:
    """A mark by itself, for the key."""
    if shape == "bar":
        inner = Markup('<rect class="{}" x="1" y="3" width="14" height="8"/>').format(tone)
    elif shape == "tick":
        inner = Markup('<rect class="{}" x="7" y="0" width="2.5" height="14"/>').format(tone)
    else:
        inner = Markup('<path class="{}" transform="translate(8 7)" d="{}"/>').format(tone, _SHAPES[shape])
    return Markup('<svg class="swatch" viewBox="0 0 16 14" aria-hidden="true">{}</svg>').format(inner)


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between `low` and `high`, at equal steps of 1, 2 or 5 times a power of ten, about so many."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [0.0]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda step: abs(step - raw))
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    def __call__(self, value: float) -> float:
        """A value's place in per cent of the width; values outside are put at the edge."""
        share = (value - self.low) / max(1e-12, self.high - self.low)
        return _SIDE + (100 - 2 * _SIDE) * min(1.0, max(0.0, share))


def _lane(marks: Sequence[Mark], scale: _Scale, ticks: Sequence[float], rows: int) -> Markup:
    height = ROW * rows + 10
    parts = [
        f'<line class="{"grid" if tick else "zero"}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'
        for tick, x in ((tick, scale(tick)) for tick in ticks)
    ]
    parts += [_draw(mark, scale, 5 + ROW * mark.row + ROW / 2) for mark in marks]
    return Markup(f'<svg class="lane" style="height:{height}px" aria-hidden="true">{"".join(parts)}</svg>')


def _draw(mark: Mark, scale: _Scale, middle: float) -> str:
    at = scale(mark.value)
    if mark.shape == "bar":
        zero = scale(0.0)
        left, width = min(zero, at), max(0.15, abs(at - zero))
        body = f'<rect class="{mark.tone}" x="{left:.2f}%" width="{width:.2f}%" y="{middle - 6}" height="12"/>'
        return body + _whisker(mark, scale, middle, "ink")
    if mark.shape == "tick":
        # On a nested element, whose place is a percentage while its drawing is in pixels.
        body = f'<rect class="{mark.tone}" x="-1.25" y="-9" width="2.5" height="18"/>'
        return f'<svg x="{at:.2f}%" y="{middle}">{body}</svg>'
    shape = f'<svg x="{at:.2f}%" y="{middle}"><path class="{mark.tone}" d="{_SHAPES[mark.shape]}"/></svg>'
    return _whisker(mark, scale, middle, mark.tone) + shape


def _whisker(mark: Mark, scale: _Scale, middle: float, tone: str) -> str:
    if mark.low is None or mark.high is None:
        return ""
    left, right = scale(mark.low), scale(mark.high)
    line = f'<line class="whisker {tone}" x1="{left:.2f}%" x2="{right:.2f}%" y1="{middle}" y2="{middle}"/>'
    ends = "".join(
        f'<line class="whisker {tone}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{middle - 3}" y2="{middle + 3}"/>'
        for x in (left, right)
    )
    return line + ends


def _axis(scale: _Scale, ticks: Sequence[float], suffix: str) -> Markup:
    texts = "".join(
        f'<text x="{scale(tick):.2f}%" y="12" text-anchor="middle">{_short(tick)}{suffix}</text>' for tick in ticks
    )
    return Markup(f'<svg class="lane" style="height:16px" aria-hidden="true">{texts}</svg>')


def _short(value: float) -> str:
    """A tick's number without needless zeros."""
    text = significant(round(value, 10))
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−") or "0"
