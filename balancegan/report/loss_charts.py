"""Loss curves as inline SVG that takes its colours from the page, so that it reads in light, dark and print."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22
_BINS = 120


@dataclass(frozen=True)
class Curve:
    """One loss over the steps of one stage. `svg` holds numbers and fixed markup only, no text from outside."""

    stage: str
    name: str
    first: float
    last: float
    svg: str


def loss_curves(history: list[dict[str, Any]]) -> list[Curve]:
    """One small chart for every stage and loss of a run's metrics, in the order of their appearance.

    Args:
        history: rows with "step", "stage" and any number of "loss/…" values; values that are not finite are left out.
    """
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in history:
        for key, value in row.items():
            if key.startswith("loss/") and _is_number(value) and _is_number(row.get("step")):
                series[str(row.get("stage", "")), key.removeprefix("loss/")].append((float(row["step"]), float(value)))
    return [
        Curve(stage, name, points[0][1], points[-1][1], _draw(np.array(sorted(points))))
        for (stage, name), points in series.items()
        if len(points) >= 2
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _draw(points: NDArray[np.float64]) -> str:
    """(n, 2) steps and values -> an svg element: the mean in bins as a line, the range in bins as a band."""
    bins = np.array_split(points, min(_BINS, len(points)))
    steps = np.array([part[:, 0].mean() for part in bins])
    mean = np.array([part[:, 1].mean() for part in bins])
    low = np.array([part[:, 1].min() for part in bins])
    high = np.array([part[:, 1].max() for part in bins])
    # Rare spikes do not set the scale: one would press the whole curve flat. They are cut off at the edge.
    usual = np.percentile(points[:, 1], (1, 99))
    bottom, top = min(float(mean.min()), usual[0]), max(float(mean.max()), usual[1])
    margin = 0.08 * (top - bottom) or max(1e-6, 0.1 * abs(top))
    bottom, top = bottom - margin, top + margin
    x = _LEFT + (steps - steps[0]) / max(1e-9, steps[-1] - steps[0]) * (WIDTH - _LEFT - _RIGHT)

    def y(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return _TOP + (top - np.clip(values, bottom, top)) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    def path(across: NDArray[np.float64], down: NDArray[np.float64]) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))

    band = path(np.concatenate([x, x[::-1]]), np.concatenate([y(high), y(low)[::-1]]))
    base = HEIGHT - _BOTTOM
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{_short(value)}</text>'
        for at, value in ((_TOP + 2.0, top), ((_TOP + base) / 2, (top + bottom) / 2), (float(base), bottom))
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{lines}'
        f'<polygon class="band" points="{band}"/><polyline class="curve" points="{path(x, y(mean))}"/>'
        f'<text x="{_LEFT}" y="{HEIGHT - 6}">{points[0, 0]:,.0f}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">step {points[-1, 0]:,.0f}</text></svg>'
    )


def _short(value: float) -> str:
    if abs(value) >= 1e5 or 0 < abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
