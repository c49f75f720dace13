"""Draws the quality report's charts: each function turns a document into panels, or an empty list without data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balancegan.core.documents import Json
from balancegan.report.charts import (
    COLOURS,
    FAKE,
    INK,
    LINE,
    MARKERS,
    PANEL,
    REAL,
    SOFT,
    TITLE,
    VARIED,
    Panel,
    class_colour,
    short,
)
from balancegan.report.document_view import Measured, class_rows, made_by, utility_view

Point = tuple[float, float, int, bool]
ARMS = {
    "real only": COLOURS["c8"],
    "oversampling": REAL,
    "balanced softmax": COLOURS["c4"],
    "oversampling with TrivialAugment": COLOURS["c5"],
    "Mixup": COLOURS["c7"],
    "real + synthetic": FAKE,
    "real + transformed": VARIED,
    "real + synthetic, unfiltered": COLOURS["c6"],
    "generated only": COLOURS["c2"],
}
_MOST_MARKS = 60  # in the chart of recalls; with more, it shows only the verdict's two arms
_NAME, _ROW, _GAP = 0.17, 0.16, 0.07  # inches: a lane's name, each row of marks below it, and the gap to the next lane
_AROUND = 0.75  # inches for the axis and the legend
_DOT, _MAP = 0.03, 3.4  # inches: the size of a point on a map, and of the map


@dataclass(frozen=True)
class _Lanes:
    """One lane per class, from the top: its name above `rows` rows of marks. The y axis counts inches downwards."""

    names: Sequence[str]
    rows: int = 1

    def panel(self, title: str, draw: Any) -> Panel:
        return Panel(title, draw, self.y(len(self.names), 0) + _AROUND)

    def y(self, lane: int, row: int) -> float:
        """The middle of a row of a lane."""
        return lane * (_NAME + self.rows * _ROW + _GAP) + _NAME + (row + 0.5) * _ROW

    def ys(self, row: int) -> list[float]:
        """The middle of a row in every lane."""
        return [self.y(lane, row) for lane in range(len(self.names))]

    def prepare(self, axis: Any, label: str) -> None:
        for lane, name in enumerate(self.names):
            top = self.y(lane, 0) - _ROW / 2
            axis.axhline(top - _NAME - _GAP / 2, color=LINE, linewidth=0.6)
            axis.text(0.005, top, short(name), transform=axis.get_yaxis_transform(), va="bottom", in_layout=False,
                      bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 0.5})  # fmt: skip
        axis.set(xlabel=label, yticks=[], ylim=(self.y(len(self.names), 0) - _NAME - _ROW / 2, 0))
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
        axis.grid(axis="x")


def class_counts(document: Json) -> list[Panel]:
    """Stacked bars of real, generated and transformed images per class."""
    rows = class_rows(document)
    lanes = _Lanes([row["name"] for row in rows])
    made = made_by(document)
    kinds = [("real", "real", REAL), ("generated", made, FAKE), ("transformed", "transformed", VARIED)]

    def draw(axis: Any) -> None:
        shown = kinds if made == "generated" else kinds[:2]
        total = [0] * len(rows)
        for key, label, colour in shown:
            axis.barh(lanes.ys(0), [row[key] for row in rows], 0.13, left=total, color=colour, label=label)
            total = [n + row[key] for n, row in zip(total, rows, strict=True)]
        for y, n, row in zip(lanes.ys(0), total, rows, strict=True):
            counts = [f"{row[key]:,}" for key, _, _ in (shown if row["synthetic"] else shown[:1])]
            axis.annotate(" + ".join(counts), (n, y), (3, -0.5), textcoords="offset points", va="center")
        axis.margins(x=0.12 * len(shown))
        lanes.prepare(axis, "images")

    return [lanes.panel("Images per class, before and after balancing", draw)] if rows else []


def distances(document: Json) -> list[Panel]:
    """FID and KID per class as bars, with a mark for real against real."""
    rows = [Measured(row) for row in document["classes"]]
    kinds = (("fid", "FID", 1.0), ("kid", "KID × 10³", 1000.0))
    made = made_by(document)
    return [panel for key, title, fold in kinds for panel in _distance(rows, key, title, fold, made)]


def _distance(rows: Sequence[Json], key: str, title: str, fold: float, made: str) -> list[Panel]:
    rows = [row for row in rows if row[key] is not None]
    lanes = _Lanes([row["name"] for row in rows])

    def draw(axis: Any) -> None:
        value, std, floor = ([_scaled(row[k], fold) for row in rows] for k in (key, f"{key}_std", f"{key}_floor"))
        axis.barh(lanes.ys(0), value, 0.13, color=FAKE, label=f"{made} against real")
        axis.errorbar(value, lanes.ys(0), xerr=std, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        axis.plot(floor, lanes.ys(0), "|", color=INK, markersize=10, markeredgewidth=2, label="real against real")
        axis.axvline(0, color=SOFT, linewidth=0.8)
        lanes.prepare(axis, title)

    return [lanes.panel(f"{title} per class, lower is better", draw)] if rows else []


def recalls(document: Json) -> list[Panel]:
    """Recall per class and arm, with intervals; only the verdict's two arms if there are many."""
    view = utility_view(document)
    arms = [arm for arm in view["arms"] if arm["recall"]]
    if len(view["tested"]) * len(arms) > _MOST_MARKS:
        arms = [arm for arm in arms if arm["name"] in (view["baseline"], view["candidate"])]
    lanes = _Lanes(view["tested"], len(arms))

    def draw(axis: Any) -> None:
        for k, arm in enumerate(arms):
            found = [arm["recall"].get(name) for name in lanes.names]
            look = {"color": ARMS.get(arm["name"], INK), "marker": MARKERS[k % len(MARKERS)]}
            _intervals(axis, found, lanes.ys(k), label=short(arm["title"]), **look)
        axis.set_xlim(-2, 102)
        lanes.prepare(axis, f"recall in %, on {view['test_name']}")

    return [lanes.panel("Recall per class, with intervals", draw)] if lanes.names and arms else []


def differences(document: Json) -> list[Panel]:
    """The paired differences behind the verdict, per class and over all classes."""
    view = utility_view(document)
    rows = [(row["name"], row.get("difference")) for row in view["classes"]]
    rows += [(row["title"], row["difference"]) for row in view["summary"]]
    rows = [(name, found) for name, found in rows if found and found.get("value") is not None]
    lanes = _Lanes([name for name, _ in rows])

    def draw(axis: Any) -> None:
        axis.axvline(0, color=SOFT, linewidth=0.8)
        _intervals(axis, [found for _, found in rows], lanes.ys(0), color=INK, marker="o")
        axis.set_xlim(-105 * view["reach"], 105 * view["reach"])
        lanes.prepare(axis, "percentage points; above zero, the synthetic images help")

    title = f"“{short(view['candidate'], 28)}” minus “{short(view['baseline'], 18)}”"
    return [lanes.panel(title, draw)] if rows else []


def confusions(document: Json) -> list[Panel]:
    """The confusion matrices of the verdict's two arms."""
    return [_confusion(matrix) for matrix in utility_view(document)["confusions"]]


def _confusion(matrix: Json) -> Panel:
    names = [short(name, 20) for name in matrix["names"]]
    side = min(14.0, 1.2 + 0.4 * len(names) + 0.07 * max(map(len, names), default=0))

    def draw(axis: Any) -> None:
        shares = [[100 * (value or 0.0) for value in row] for _, row in matrix["rows"]]
        image = axis.imshow(shares, vmin=0, vmax=100, cmap="Blues")
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="predicted class", ylabel="true class")
        cells = [(x, y, value) for y, row in enumerate(shares) for x, value in enumerate(row)]
        for x, y, value in cells if len(names) <= 20 else ():
            axis.text(x, y, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else INK, size=7)
        axis.figure.colorbar(image, ax=axis, label="% of the class's test images", shrink=0.8)

    return Panel(short(matrix["title"]), draw, side, side + 0.9)


@dataclass(frozen=True)
class Map:
    """One embedding: dots are real images, crosses synthetic ones, called `made`; `names` are the class names."""

    title: str
    caption: str
    points: Sequence[Point]
    names: Sequence[str]
    made: str = "synthetic"

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of real and synthetic points."""
        fake = sum(point[3] for point in self.points)
        return len(self.points) - fake, fake

    @property
    def labels(self) -> list[int]:
        """The classes that have points."""
        return sorted({point[2] for point in self.points})

    @property
    def panel(self) -> Panel:
        """The chart."""
        real, fake = self.counts
        title = f"{short(self.title, 44)}\n{real:,} real (●), {fake:,} {self.made} (×)"
        return Panel(title, self._draw, _MAP, _MAP)

    def _draw(self, axis: Any) -> None:
        xs, ys = [p[0] for p in self.points], [p[1] for p in self.points]
        span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0  # the same scale on both axes preserves distances
        unit = 1.04 * span / _MAP  # data units per inch
        for axis_limits, values in ((axis.set_xlim, xs), (axis.set_ylim, ys)):
            middle = (min(values) + max(values)) / 2
            axis_limits(middle - 0.52 * span, middle + 0.52 * span)
        for label in self.labels:
            name = short(self.names[label] if 0 <= label < len(self.names) else str(label))
            for fake in (False, True):
                mine = [(x, y) for x, y, k, f in self.points if k == label and f == fake]
                _marks(axis, mine, fake, unit * _DOT, color=class_colour(label),
                       gid=f"{TITLE}{name}, {self.made if fake else 'real'}")  # fmt: skip
            axis.plot([], [], "o", color=class_colour(label), label=name)
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set(visible=True, color=LINE)


def maps(document: Json) -> list[Map]:
    """The document's embeddings that have finite points."""
    names, made = [row["name"] for row in document["classes"]], made_by(document)
    found = [
        Map(item["title"], item["caption"], finite_points(item), names, made)
        for item in document.get("embeddings") or []
    ]
    return [item for item in found if item.points]


def finite_points(embedding: Mapping[str, Any]) -> list[Point]:
    """An embedding's points as (x, y, label, synthetic), without non-finite ones."""
    columns = (embedding[key] for key in ("x", "y", "label", "fake"))
    return [
        (x, y, int(label), bool(fake))
        for x, y, label, fake in zip(*columns, strict=True)
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]


def _marks(axis: Any, places: Sequence[tuple[float, float]], cross: bool, size: float, **look: Any) -> None:
    """Draw dots or crosses as strokes of a single line, because thousands of elements would slow the page."""
    if not places:
        return
    strokes = [(-size, -size, size, size), (-size, size, size, -size)] if cross else [(0.0, 0.0, size / 5, 0.0)]
    line = [point for x, y in places for a, b, c, d in strokes
            for point in ((x + a, y + b), (x + c, y + d), (math.nan, math.nan))]  # fmt: skip
    axis.plot(*zip(*line, strict=True), linewidth=1.1 if cross else 3.6, alpha=0.8, solid_capstyle="round", **look)


def _intervals(axis: Any, found: Sequence[Json | None], y: Sequence[float], **look: Any) -> None:
    """Draw shares as points in per cent with their intervals, skipping those not measured."""
    value, low, high = ([_scaled((f or {}).get(key), 100) for f in found] for key in ("value", "low", "high"))
    axis.hlines(y, low, high, color=look["color"], linewidth=1.2)
    axis.plot(value, y, linestyle="none", markersize=4.5, **look)


def _scaled(value: float | None, fold: float) -> float:
    return math.nan if value is None else fold * value
