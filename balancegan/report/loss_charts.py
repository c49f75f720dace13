"""Draws a run's training losses, one small chart each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.files import disk_errors
from balancegan.report.charts import REAL, Panel, chart_style, draw_panels, save_figure, short

COLUMNS = 3
_BINS = 120


@dataclass(frozen=True)
class Curve:
    """One loss over the steps of one stage; `points` holds (step, value), (n, 2)."""

    stage: str
    name: str
    points: NDArray[np.float64]

    @property
    def panel(self) -> Panel:
        """The chart."""
        title = self.name if self.name.startswith(self.stage) else f"{self.name}, {self.stage}"
        return Panel(short(title), self._draw, 1.5, 3.0)

    def _draw(self, axis: Any) -> None:
        """Draw the mean of each bin as a line and its range as a band."""
        bins = np.array_split(self.points, min(_BINS, len(self.points)))
        steps, mean = np.array([part.mean(axis=0) for part in bins]).T
        low, high = (np.array([extreme(part[:, 1]) for part in bins]) for extreme in (np.min, np.max))
        # Rare spikes do not set the scale, since one would flatten the whole curve. They are clipped at the edge.
        usual = np.percentile(self.points[:, 1], (1, 99))
        bottom, top = min(mean.min(), usual[0]), max(mean.max(), usual[1])
        margin = 0.08 * (top - bottom) or max(1e-6, 0.1 * abs(top))
        bottom, top = bottom - margin, top + margin
        axis.fill_between(steps, low.clip(bottom, top), high.clip(bottom, top), color=REAL, alpha=0.2, linewidth=0)
        axis.plot(steps, mean, color=REAL, linewidth=1.3, marker="o" if len(mean) == 1 else None)
        axis.set(xlabel="step", ylim=(bottom, top))
        axis.margins(x=0.02)
        axis.locator_params(nbins=4)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_major_formatter("{x:,.6g}")
        axis.grid(axis="y")


def loss_curves(history: list[dict[str, Any]], least: int = 2) -> list[Curve]:
    """Every loss of every stage with at least `least` values in a run's metrics, in order of appearance.

    Args:
        history: rows with "step", "stage" and any number of "loss/…" values; non-finite values are skipped.
        least: the fewest values that make a curve.
    """
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in history:
        for key, value in row.items():
            if key.startswith("loss/") and _is_number(value) and _is_number(row.get("step")):
                series[str(row.get("stage", "")), key.removeprefix("loss/")].append((float(row["step"]), float(value)))
    return [
        Curve(stage, name, np.array(sorted(points))) for (stage, name), points in series.items() if len(points) >= least
    ]


def plot_losses(history: list[dict[str, Any]], path: Path) -> bool:
    """Draw every loss from metrics.jsonl into a PNG file; returns false if there are none."""
    panels = [curve.panel for curve in loss_curves(history, least=1)]
    if not panels:
        return False
    with chart_style(), disk_errors(f"write {path.name}"):
        save_figure(draw_panels(panels, COLUMNS), path.parent, path.stem, formats=("png",))
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e100
