"""Embeddings of features or latents as inline SVG scatter plots: dots are real images, crosses synthetic ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from balancegan.core.text import printable

Point = tuple[float, float, int, bool]
SIZE = 400
_EDGE = 10
COLOURS = 10  # classes with a colour of their own; further ones repeat the colours in another shade
_SHADES = 3
REAL_MARK = Markup(
    '<svg class="swatch" viewBox="0 0 16 14" aria-hidden="true"><path class="dot ink" d="M8 7h0"/></svg>'
)
FAKE_MARK = Markup(
    '<svg class="swatch" viewBox="0 0 16 14" aria-hidden="true"><path class="cross ink" d="M5 4l6 6m0-6l-6 6"/></svg>'
)


@dataclass(frozen=True)
class Scatter:
    """One embedding for the page; `counts` are its real and synthetic points."""

    id: str
    title: str
    caption: str
    svg: Markup
    counts: tuple[int, int]
    labels: tuple[int, ...]


def scatters(embeddings: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Scatter]:
    """A plot for every embedding that has points.

    Args:
        embeddings: the document's; points that are not finite are left out.
        names: of the classes, in the document's order.
    """
    plots = []
    for item in embeddings:
        points = finite_points(item)
        if points:
            real = sum(not fake for *_, fake in points)
            labels = tuple(sorted({label for _, _, label, _ in points}))
            counts = (real, len(points) - real)
            plots.append(Scatter(item["id"], item["title"], item["caption"], _draw(points, names), counts, labels))
    return plots


def finite_points(embedding: dict[str, Any]) -> list[Point]:
    """An embedding's points as (x, y, label, synthetic), without those that have no place."""
    columns = (embedding[key] for key in ("x", "y", "label", "fake"))
    return [
        (x, y, label, fake)
        for x, y, label, fake in zip(*columns, strict=True)
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]


def class_tone(label: int) -> str:
    """CSS classes of a class's colour and shade."""
    return f"c{label % COLOURS} s{label // COLOURS % _SHADES}"


def _draw(points: Sequence[Point], names: Sequence[str]) -> Markup:
    """One path per class and kind: a thousand elements would make the page slow."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0  # one scale for both axes: distances are to be seen
    left, top = (min(xs) + max(xs) - span) / 2, (min(ys) + max(ys) - span) / 2
    fold = (SIZE - 2 * _EDGE) / span
    paths: dict[tuple[bool, int], list[str]] = {}
    for x, y, label, fake in points:
        a, b = _EDGE + (x - left) * fold, SIZE - _EDGE - (y - top) * fold
        # A line without length and with round ends is a dot.
        mark = f"M{a - 3:.1f} {b - 3:.1f}l6 6m0-6l-6 6" if fake else f"M{a:.1f} {b:.1f}h0"
        paths.setdefault((bool(fake), int(label)), []).append(mark)
    body = Markup("").join(
        Markup('<path class="{} {}" d="{}"><title>{}</title></path>').format(
            "cross" if fake else "dot", class_tone(label), "".join(marks), _title(names, label, fake)
        )
        for (fake, label), marks in sorted(paths.items())
    )
    return Markup('<svg viewBox="0 0 {0} {0}" class="scatter" aria-hidden="true">{1}</svg>').format(SIZE, body)


def _title(names: Sequence[str], label: int, fake: bool) -> str:
    name = printable(names[label]) if 0 <= label < len(names) else str(label)
    return f"{name}, {'synthetic' if fake else 'real'}"
