"""The report's figures as files for papers and slides: PNG for all, SVG too where lines say more than pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from balancegan.core.documents import Json
from balancegan.core.files import disk_errors
from balancegan.core.text import printable
from balancegan.evaluation.document import ReportInput
from balancegan.report.comparison_figures import COLOURS, DPI, MARKERS
from balancegan.report.figure_sheets import interpolation_sheet, sample_sheet
from balancegan.report.matplotlib_charts import canvas, chart_style, draw_losses, save_figure
from balancegan.report.measures_view import complete_row
from balancegan.report.scatter import finite_points
from balancegan.report.utility_view import MANY_CLASSES, utility_view

_REAL, _FAKE = COLOURS[0], COLOURS[1]
_PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
_ARMS = {
    "real only": "#565a66",
    "oversampling": _REAL,
    "balanced softmax": COLOURS[4],
    "real + synthetic": _FAKE,
    "real + synthetic, unfiltered": COLOURS[5],
    "synthetic only": COLOURS[3],
}
_LABEL = 38  # characters of a name in a figure


def write_figures(inp: ReportInput, document: Json, folder: Path) -> list[str]:
    """Write every figure that the document has something for into `folder`, which is made when it is missing.

    Args:
        inp: the report's images.
        document: from `compute_report` with the same input.
        folder: where the files go.

    Returns:
        The names of the files written.

    Raises:
        DiskError: the folder cannot be written.
    """
    charts: list[tuple[str, Callable[[], Any | None], tuple[str, ...]]] = [
        ("class_counts", lambda: _class_counts(document), ("png", "svg")),
        ("recall", lambda: _recall(document), ("png", "svg")),
        ("differences", lambda: _differences(document), ("png", "svg")),
        ("confusion", lambda: _confusion(document), ("png", "svg")),
        ("fid_kid", lambda: _fid_kid(document), ("png", "svg")),
        ("embeddings", lambda: _embeddings(document), ("png", "svg")),
        ("losses", lambda: draw_losses(document["history"]), ("png", "svg")),
        ("samples", lambda: sample_sheet(inp, document), ("png",)),
        ("interpolation", lambda: interpolation_sheet(inp), ("png",)),
    ]
    written: list[str] = []
    with disk_errors(f"write the figures to {folder}"), chart_style():
        folder.mkdir(parents=True, exist_ok=True)
        for stem, draw, formats in charts:
            figure = draw()
            if figure is not None:
                written += save_figure(figure, folder, stem, dpi=DPI, formats=formats)
    return written


def _class_counts(document: Json) -> Any | None:
    rows = document["classes"]
    if not rows:
        return None
    figure, axis = _bars_canvas(len(rows))
    real, fake = ([row[key] for row in rows] for key in ("real", "synthetic"))
    y = range(len(rows))
    axis.barh(y, real, color=_REAL, label="real")
    axis.barh(y, fake, left=real, color=_FAKE, label="synthetic", hatch="///", edgecolor="white", linewidth=0)
    for at, (a, b) in enumerate(zip(real, fake, strict=True)):
        axis.annotate(f"{a:,} + {b:,}" if b else f"{a:,}", (a + b, at), (3, 0), textcoords="offset points", va="center")
    axis.margins(x=0.16)
    axis.set(title="Images per class, before and after balancing", xlabel="images")
    return _classes_down(figure, axis, [row["name"] for row in rows])


def _recall(document: Json) -> Any | None:
    """Recall per class of every arm with its interval; of many classes only the two arms of the verdict."""
    view = utility_view(document)
    names = view["tested"]
    arms = [arm for arm in view["arms"] if arm.get("recall")]
    if len(names) > MANY_CLASSES:
        arms = [arm for arm in arms if arm["name"] in (view["baseline"], view["candidate"])]
    if not names or not arms:
        return None
    figure, axis = _bars_canvas(len(names), 0.16 * len(arms) + 0.16)
    for k, arm in enumerate(arms):
        found = [(at, arm["recall"].get(name)) for at, name in enumerate(names)]
        shift = 0.7 * ((k + 0.5) / len(arms) - 0.5)
        colour = _ARMS.get(arm["name"], "#222222")
        _points(axis, [(at + shift, value) for at, value in found], colour, MARKERS[k % 8], arm["title"])
    axis.set(title=f"Recall per class on real test images ({view['test_name']})", xlabel="recall, %", xlim=(-2, 102))
    return _classes_down(figure, axis, names)


def _differences(document: Json) -> Any | None:
    """The paired differences behind the verdict, in percentage points."""
    view = utility_view(document)
    rows = [row for row in view["classes"] if row.get("difference") and row["difference"].get("value") is not None]
    if not rows:
        return None
    figure, axis = _bars_canvas(len(rows))
    _points(axis, [(at, row["difference"]) for at, row in enumerate(rows)], "#222222", "o", "difference, interval")
    axis.axvline(0, color="#222", linewidth=0.8)
    reach = 110 * view["reach"]
    axis.set(
        title=f"Recall: {_short(view['candidate'])} minus {_short(view['baseline'])}",
        xlabel="percentage points; right of zero the synthetic images help",
        xlim=(-reach, reach),
    )
    return _classes_down(figure, axis, [row["name"] for row in rows])


def _confusion(document: Json) -> Any | None:
    matrices = utility_view(document)["confusions"]
    if not matrices:
        return None
    names = matrices[0]["names"]
    side = min(14.0, max(2.6, 0.42 * len(names) + 1.4))
    figure, axes = canvas(len(matrices) * (side + 0.4), side + 0.4, 1, len(matrices))
    image = None
    for axis, matrix in zip(axes[0], matrices, strict=True):
        shares = [[100 * (value or 0.0) for value in row] for _, row in matrix["rows"]]
        image = axis.imshow(shares, vmin=0, vmax=100, cmap="Blues")
        labels = [_short(name, 20) for name in matrix["names"]]
        axis.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        axis.set(title=_short(matrix["title"]), xlabel="predicted class", ylabel="true class")
        if len(labels) <= 20:
            for y, row in enumerate(shares):
                for x, value in enumerate(row):
                    axis.text(
                        x, y, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black", size=7
                    )
    figure.colorbar(image, ax=axes[0].tolist(), label="% of the class's test images", shrink=0.8)
    return figure


def _fid_kid(document: Json) -> Any | None:
    """A panel of bars for each of the two distances, with real against real as a mark on every bar."""
    rows = [complete_row(row) for row in document["classes"]]
    panels = [(key, [row for row in rows if row[key] is not None]) for key in ("fid", "kid")]
    panels = [(key, found) for key, found in panels if found]
    if not panels:
        return None
    most = max(len(found) for _, found in panels)
    figure, axes = canvas(4.6 * len(panels), 1.6 + 0.26 * most, 1, len(panels))
    for axis, (key, found) in zip(axes[0], panels, strict=True):
        fold = 1000.0 if key == "kid" else 1.0
        error = [fold * (row["kid_std"] or 0.0) for row in found] if key == "kid" else None
        axis.barh(range(len(found)), [fold * row[key] for row in found], xerr=error, color=_FAKE, height=0.6,
                  label="synthetic against real", error_kw={"elinewidth": 0.9, "capsize": 2})  # fmt: skip
        floors = [(at, fold * row[f"{key}_floor"]) for at, row in enumerate(found) if row[f"{key}_floor"] is not None]
        axis.plot([v for _, v in floors], [at for at, _ in floors], "|", color="#222", markersize=13, markeredgewidth=2,
                  label="real against real")  # fmt: skip
        sizes = [f"{_short(row['name'], 22)}\n{row['n_fake']:,} / {row['n_real']:,}" for row in found]
        axis.set_yticks(range(len(found)), sizes)
        axis.invert_yaxis()
        axis.axvline(0, color="#222", linewidth=0.8)
        title = "KID × 10³" if key == "kid" else "FID"
        axis.set(title=f"{title} per class, lower is better", xlabel=f"{title}; below a class: synthetic / real images")
        axis.grid(axis="x", alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _embeddings(document: Json) -> Any | None:
    """The maps side by side, with one legend: a class has the same colour in all of them."""
    maps = [(item, finite_points(item)) for item in document.get("embeddings") or []]
    maps = [(item, points) for item, points in maps if points]
    if not maps:
        return None
    names = [row["name"] for row in document["classes"]]
    columns = 2 if len(maps) in (2, 4) else min(3, len(maps))
    lines = math.ceil(len(maps) / columns)
    figure, axes = canvas(4.6 * columns, 4.7 * lines + 0.5, lines, columns)
    handles: dict[int, Any] = {}
    for axis, (item, points) in zip(axes.flat, maps, strict=False):
        for label in sorted({point[2] for point in points}):
            colour = _PALETTE[label % len(_PALETTE)]
            for fake, marker in ((False, "o"), (True, "x")):
                mine = [(x, y) for x, y, k, f in points if k == label and bool(f) == fake]
                drawn = axis.scatter(*zip(*mine, strict=True), s=11, marker=marker, color=colour, linewidths=0.8,
                                     alpha=0.75) if mine else None  # fmt: skip
                handles.setdefault(label, drawn) if drawn is not None else None
        real = sum(not point[3] for point in points)
        title = f"{_short(item['title'], 60)}\n{real:,} real (●), {len(points) - real:,} synthetic (×)"
        axis.set(title=title, xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axis.spines[:].set(visible=True, color="#cccccc")
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    labels = [_short(names[k] if 0 <= k < len(names) else str(k)) for k in handles]
    figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _points(axis: Any, found: Sequence[tuple[float, Json | None]], colour: str, marker: str, label: str) -> None:
    """Shares as points in per cent with their intervals; those not measured are left out."""
    there = [(y, value) for y, value in found if value and value.get("value") is not None]
    for y, value in there:
        if value.get("low") is not None and value.get("high") is not None:
            axis.plot([100 * value["low"], 100 * value["high"]], [y, y], color=colour, linewidth=1.2)
    x = [100 * value["value"] for _, value in there]
    axis.plot(x, [y for y, _ in there], marker, color=colour, markersize=5, label=_short(label))


def _bars_canvas(classes: int, height: float = 0.3) -> tuple[Any, Any]:
    figure, axes = canvas(6.8, 1.3 + height * classes)
    return figure, axes[0][0]


def _classes_down(figure: Any, axis: Any, names: Sequence[str]) -> Any:
    """Class names down the left, the first one at the top; a grid and the legend below."""
    axis.set_yticks(range(len(names)), [_short(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3 if max(map(len, labels), default=0) < 24 else 2,
        frameon=False,
    )
    return figure


def _short(text: str | None, limit: int = _LABEL) -> str:
    """A name on one line with at most `limit` characters; surrogates from odd file names made printable."""
    text = printable(" ".join((text or "").split()))
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
