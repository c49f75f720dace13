"""Draws a comparison's figures: bars per class, lines over imbalance rates, and sheets of sample images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from balancegan.core.documents import Json
from balancegan.core.grid import PAPER, grid_image, png_bytes
from balancegan.core.text import SCALE
from balancegan.report.charts import (
    INK,
    MARKERS,
    SERIES,
    SOFT,
    Panel,
    chart_style,
    draw_panels,
    file_bytes,
    inline_svg,
    short,
)
from balancegan.report.pages import picture_uri

TITLES = {
    "fid": "FID, lower is better",
    "kid": "KID × 10³, lower is better",
    "ssim": "SSIM, higher is closer to real",
    "copy_rate": "copies in %, lower is better",
}
MANY_CLASSES, FEW_SHOWN = 12, 6  # with more than MANY_CLASSES, a chart shows only the FEW_SHOWN smallest
NARROW_BARS = 48  # charts with up to this many bars are placed side by side
SHEET_WIDTH = 1180  # px: fits the page without scaling, which would blur pixels and text
BAND_GAP = 14  # px between the bands of a sheet
MAX_TILE = 128  # px of a sample's longer side; larger images are shrunk to keep the page small


@dataclass(frozen=True)
class Picture:
    """A picture on the page: its data URI and size in px."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Figure:
    """One figure. `files` holds its content by suffix; on the page it is a chart, or pictures in several pieces."""

    kind: str  # "lines", "bars" or "samples"
    ir: float | None
    measure: str | None  # None for samples
    files: dict[str, bytes]
    chart: Markup | None = None
    wide: bool = False
    pieces: Sequence[Picture] = ()

    @property
    def stem(self) -> str:
        """Its file name without suffix."""
        if self.kind == "lines":
            return f"{self.measure}-over-ir"
        return (self.measure or "samples") + ("" if self.ir is None else f"-ir{self.ir:.10g}")


def draw_charts(document: Json) -> list[Figure]:
    """Draw all charts: lines first if there are several imbalance rates, then bars per rate and measure."""
    with chart_style():
        table = document["table"]
        lines = [("lines", None, m, lines_panel(document, m)) for m in table[0]["measures"] if len(table) > 1]
        bars = [
            ("bars", entry["ir"], measure, bars_panel(document, entry, measure))
            for entry in table
            for measure in entry["measures"]
        ]
        return [_chart(*chart) for chart in lines + bars]


def draw_samples(
    ir: float | None, rows: Sequence[tuple[str, np.ndarray]], headings: Sequence[tuple[str, int]]
) -> Figure:
    """Draw rows of images under their class names; rows too wide for the page continue below.

    Args:
        ir: the imbalance rate that the methods were trained with; None for the unmodified data.
        rows: (label, uint8 (n, C, S, S)), with the same n in all rows.
        headings: (class name, number of its columns); the numbers sum to n.

    Raises:
        ValueError: the numbers do not sum to n, or a row has a different n.
    """
    n = sum(span for _, span in headings)
    if any(len(images) != n for _, images in rows):
        raise ValueError(f"headings span {n} columns, the rows have {[len(images) for _, images in rows]}")
    tiles = [_reduced(images) for _, images in rows]
    labels = [short(label, 24) for label, _ in rows]
    margin, two = (grid_image([t[:k] for t in tiles], labels).width for k in (0, 2))
    bands, start = [], 0
    for part in _bands(headings, (SHEET_WIDTH - margin) // ((two - margin) // 2)):
        stop = start + sum(span for _, span in part)
        bands.append(grid_image([t[start:stop] for t in tiles], labels, headings=part))
        start = stop
    size = (max(band.width for band in bands), sum(band.height + BAND_GAP for band in bands) - BAND_GAP)
    canvas, top = Image.new("RGB", size, (PAPER,) * 3), 0
    for band in bands:
        canvas.paste(band, (0, top))
        top += band.height + BAND_GAP
    # On the page as separate pieces, so that print can break between them.
    pieces = [Picture(picture_uri(band), *band.size) for band in bands]
    return Figure("samples", ir, None, {"png": png_bytes(canvas)}, pieces=pieces)


def shown_columns(document: Json, columns: Sequence[Json], counts: dict[str, int]) -> list[int]:
    """The columns of a table that its chart shows: all, or only the smallest classes if there are many.

    Args:
        document: the comparison's document.
        columns: the columns of one measure's table.
        counts: training images per class.
    """
    classes = [i for i, column in enumerate(columns) if column["kind"] == "class"]
    if len(document["classes"]) > MANY_CLASSES:
        classes = sorted(classes, key=lambda i: counts.get(columns[i]["title"], 0))[:FEW_SHOWN]
    return [i for i, column in enumerate(columns) if column["kind"] != "class"] + classes


def counts_at(document: Json, ir: float | None) -> dict[str, int]:
    """Training images per class at one imbalance rate."""
    return next((row["counts"] for row in document["train_counts"] if row["ir"] == ir), {})


def bars_panel(document: Json, entry: Json, measure: str) -> Panel:
    """Bar chart of one measure at one imbalance rate: a group per table column, a bar per method."""
    part = entry["measures"][measure]
    chosen = shown_columns(document, part["columns"], counts_at(document, entry["ir"]))
    columns = [part["columns"][i] for i in chosen]
    wide = len(chosen) * len(part["rows"]) > NARROW_BARS
    special = sum(column["kind"] != "class" for column in columns)
    names = [short(column["title"], 22) for column in columns]
    if len(columns) <= 6 or wide:  # enough room for the averages' longer names on two lines
        names = [n if c["kind"] == "class" else n.replace(" ", "\n", 1) for n, c in zip(names, columns, strict=True)]
    turned = not wide or len(columns) > 8

    def draw(axis: Any) -> None:
        width = 0.84 / max(1, len(part["rows"]))
        for k, row in enumerate(part["rows"]):
            x = np.arange(len(chosen)) - 0.42 + width * (k + 0.5)
            mean, std = _values([row["values"][i] for i in chosen], measure)
            colour = method_colour(document, row["method"])
            axis.bar(x, mean, width * 0.92, color=colour, label=short(row["method"], 24))
            axis.errorbar(x, mean, std, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.6)
            axis.plot(x[np.isnan(mean)], 0 * x[np.isnan(mean)], "x", color=colour, markersize=4, clip_on=False,
                      in_layout=False)  # fmt: skip
        if 0 < special < len(columns):
            axis.axvline(special - 0.5, color=SOFT, linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(columns)), names, rotation=38 if turned else 0, ha="right" if turned else "center",
                        rotation_mode="anchor" if turned else "default")  # fmt: skip
        axis.tick_params(axis="x", length=0)
        axis.set(xlim=(-0.6, len(columns) - 0.4))
        axis.axhline(0, color=SOFT, linewidth=0.8)
        axis.grid(axis="y")

    return Panel(TITLES[measure], draw, *((3.2, 11.6) if wide else (3.1, 4.0)))


def lines_panel(document: Json, measure: str) -> Panel:
    """Line chart of one measure's minority average over the imbalance rates: a line per method."""
    rates = [entry["imbalance_rate"] if entry["ir"] is None else entry["ir"] for entry in document["table"]]
    entries = sorted(
        ((rate, entry) for rate, entry in zip(rates, document["table"], strict=True) if rate),
        key=lambda pair: pair[0],
    )

    def draw(axis: Any) -> None:
        for k, method in enumerate(document["methods"]):
            values = [_minority(entry["measures"][measure], method) for _, entry in entries]
            mean, std = _values(values, measure)
            # Offset slightly, so that error bars do not hide one another.
            x = np.array([rate for rate, _ in entries]) * 1.02 ** (k - (len(document["methods"]) - 1) / 2)
            look = {"color": method_colour(document, method), "marker": MARKERS[k % len(MARKERS)], "markersize": 4}
            axis.plot(x, mean, linewidth=1.3, label=short(method, 24), **look)
            axis.errorbar(x, mean, std, fmt="none", ecolor=look["color"], elinewidth=0.9, capsize=2)
        axis.set_xscale("log")
        axis.set_xticks([rate for rate, _ in entries], [f"{rate:.3g}" for rate, _ in entries])
        axis.set_xticks([], minor=True)
        axis.set(xlabel="imbalance rate (log scale)")
        axis.grid()

    return Panel(TITLES[measure], draw, 3.1, 4.0)


def method_colour(document: Json, method: str) -> str:
    """A method's colour, the same in all charts."""
    return SERIES[document["methods"].index(method) % len(SERIES)]


def _chart(kind: str, ir: float | None, measure: str, panel: Panel) -> Figure:
    figure = draw_panels([panel])
    where = "" if ir is None else f", at imbalance rate {ir:g}"
    label = f"Chart of {kind}, by method: {panel.title}{where}; the numbers are in the tables"
    files = {suffix: file_bytes(figure, suffix) for suffix in ("png", "pdf")}
    return Figure(kind, ir, measure, files, inline_svg(figure, label), panel.width > 6)


def _minority(part: Json, method: str) -> Json:
    """A method's minority average; empty if there is none."""
    at = next((i for i, column in enumerate(part["columns"]) if column["kind"] == "minority"), None)
    row = next((row for row in part["rows"] if row["method"] == method), None)
    return {"mean": None, "std": None} if at is None or row is None else row["values"][at]


def _values(values: Sequence[Json], measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations in display units, (n,) each; NaN where missing."""
    scale = SCALE[measure]
    numbers = [[math.nan if v[key] is None else v[key] * scale for v in values] for key in ("mean", "std")]
    return np.array(numbers[0], float), np.array(numbers[1], float)


def _bands(headings: Sequence[tuple[str, int]], room: int) -> list[Sequence[tuple[str, int]]]:
    """Split the headings into similar-sized groups of about `room` columns, each with at least one heading."""
    widest = max(span for _, span in headings)
    bands = -(-len(headings) // max(1, room // widest))
    per = -(-len(headings) // bands)
    return [headings[at : at + per] for at in range(0, len(headings), per)]


def _reduced(images: np.ndarray) -> np.ndarray:
    """Shrink uint8 images (n, C, H, W) to at most `MAX_TILE` pixels per side."""
    if max(images.shape[2:]) <= MAX_TILE:
        return images
    scale = MAX_TILE / max(images.shape[2:])
    size = (max(1, round(images.shape[3] * scale)), max(1, round(images.shape[2] * scale)))
    planes = images.reshape(-1, *images.shape[2:])
    small = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)) for plane in planes]
    return np.stack(small).reshape(*images.shape[:2], size[1], size[0])
