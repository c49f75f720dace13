"""Writes a comparison of methods: its document, cells as CSV, page and figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from balancegan.core.documents import Json
from balancegan.core.files import disk_errors, write_atomic, write_json
from balancegan.core.text import SCALE
from balancegan.report.comparison_figures import (
    FEW_SHOWN,
    MANY_CLASSES,
    Figure,
    counts_at,
    draw_charts,
    draw_samples,
)
from balancegan.report.pages import DASH, flat, render_page

CSV_COLUMNS = (
    *("ir", "method", "seed", "class", "fid", "kid", "kid_std", "ssim", "copy_rate", "near_rate"),
    *("n_real", "n_fake", "reference", "status", "reason"),
)
MAX_COLUMNS = 18  # wider tables are split
NARROW_COLUMNS = 7  # wider tables show the spread below the mean, and the page prints in landscape
_TITLES = {"fid": "FID", "kid": "KID × 10³", "ssim": "SSIM to real", "copy_rate": "Copies, %"}
_DIRECTIONS = {
    "fid": "lower is better",
    "kid": "lower is better",
    "ssim": "higher means closer to real images, but copies score high too",
    "copy_rate": "copies of the class's training images, lower is better",
}


@dataclass(frozen=True)
class SampleSheet:
    """Sample images of one imbalance rate, shown side by side.

    Attributes:
        ir: the imbalance rate; None for the unmodified data.
        rows: (label, uint8 (n, C, S, S)): first real images, labelled "real", then one row per method. Failed
            methods may be missing.
        headings: (class name, number of consecutive columns that it spans); the numbers sum to n.
    """

    ir: float | None
    rows: list[tuple[str, np.ndarray]]
    headings: list[tuple[str, int]]


@dataclass(frozen=True)
class Value:
    """One table cell as text; `marks` are its footnote letters."""

    mean: str
    std: str | None = None
    best: bool = False
    failed: bool = False
    marks: str = ""


@dataclass(frozen=True)
class Row:
    """One method's cells. `left` says how many seeds finished if some failed; `marks` apply to all cells."""

    method: str
    left: str | None
    cells: list[Value]
    marks: str


@dataclass(frozen=True)
class Table:
    """One table of the page, or one part of a table with many columns.

    Attributes:
        heads: (title, number of real images it is compared with or None, whether these are training images).
        rows: one per method.
        floor: the real-against-real value of each column, or None.
        improvement: the text of the improvement row, one per column, or None.
        notes: (letter, text) of each footnote.
    """

    measure: str
    number: int
    part: int
    parts: int
    heads: list[tuple[str, int | None, bool]]
    rows: list[Row]
    floor: list[str] | None
    improvement: list[str] | None
    notes: list[tuple[str, str]]


def write_comparison(document: Json, pictures: Sequence[SampleSheet], out: Path) -> list[Path]:
    """Write `compare.json`, `compare.csv`, `compare.html` and `figures/` into `out`, each file atomically.

    Args:
        document: the comparison's numbers, finite or None.
        pictures: at most one sheet per imbalance rate.
        out: a folder; created if missing.

    Returns:
        The files written.

    Raises:
        DiskError: cannot write to the folder.
    """
    written: dict[Path, bytes | str] = {out / "compare.csv": cells_csv(document)}
    with disk_errors(f"write the comparison to {out}"):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        # Write the numbers first: they took hours and must survive if drawing fails.
        write_json(out / "compare.json", document)
        write_atomic(out / "compare.csv", written[out / "compare.csv"])
    figures = draw_charts(document) + [draw_samples(p.ir, p.rows, p.headings) for p in pictures]
    for figure in figures:
        for suffix in ("png", "pdf"):
            if suffix in figure.files:
                written[out / "figures" / f"{figure.stem}.{suffix}"] = figure.files[suffix]
    written[out / "compare.html"] = render_html(document, figures)
    with disk_errors(f"write the comparison to {out}"):
        for path, data in list(written.items())[1:]:
            write_atomic(path, data)
    return [out / "compare.json", *written]


def cells_csv(document: Json) -> str:
    """The document's cells as CSV with a header; None becomes an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(document["cells"])
    return buffer.getvalue()


def render_html(document: Json, figures: Sequence[Figure]) -> str:
    """Render the page. It loads nothing: styles are inline, figures are data URIs, and it has no scripts.

    Args:
        document: the comparison's numbers.
        figures: from `draw_charts` and `draw_samples`, in any order.
    """
    tables, sections = 0, []
    for entry in document["table"]:
        part = entry_tables(document, entry, tables)
        tables = part[-1].number if part else tables
        sections.append((entry, part))
    several = len(document["table"]) > 1
    return render_page(
        "comparison.html.j2",
        doc=document,
        sections=sections,
        several=several,
        figures=figures,
        titles=_TITLES,
        directions=_DIRECTIONS,
        landscape=any(len(table.heads) > NARROW_COLUMNS for _, part in sections for table in part),
        narrow=NARROW_COLUMNS,
        few=FEW_SHOWN if len(document["classes"]) > MANY_CLASSES else None,
        failures=[run for run in document["runs"] if run["status"] == "failed"],
        floors=any(row["fid_floor"] is not None for row in document["classes"]),
        settings=_side_by_side(document["settings"]),
        hardware=flat(document["hardware"]),
        counts=lambda ir: counts_at(document, ir),
    )


def entry_tables(document: Json, entry: Json, before: int) -> list[Table]:
    """The tables of one imbalance rate, numbered from `before` + 1 and split into as many parts as needed."""
    tables = []
    for number, (measure, part) in enumerate(entry["measures"].items(), before + 1):
        total = len(part["columns"])
        parts = max(1, math.ceil(total / MAX_COLUMNS))
        bounds = [round(k * total / parts) for k in range(parts + 1)]
        for k in range(parts):
            at = slice(bounds[k], bounds[k + 1])
            tables.append(_table(document, entry, measure, at, (number, k + 1, parts)))
    return tables


def _table(document: Json, entry: Json, measure: str, at: slice, numbers: tuple[int, int, int]) -> Table:
    """One measure's table, restricted to the columns `at`."""
    part = entry["measures"][measure]
    columns = part["columns"][at]
    notes: dict[tuple[str, Any, str], str] = {}
    rows = []
    for row in part["rows"]:
        left = f"{row['finished']} of {row['finished'] + row['failed']} seeds" if row["failed"] else None
        pairs = zip(columns, row["values"][at], strict=True)
        cells = [_cell(document, entry["ir"], row["method"], measure, c, v, notes) for c, v in pairs]
        marks = cells[0].marks if len({cell.marks for cell in cells}) == 1 else ""
        if marks:
            cells = [replace(cell, marks="") for cell in cells]
        rows.append(Row(row["method"], left, cells, marks))
    floors = [_floor(document, column) if measure == "fid" else None for column in columns]
    gain = part["improvement"]
    return Table(
        measure,
        *numbers,
        heads=[_head(document, column) for column in columns],
        rows=rows,
        floor=[_numbers(value, None, "fid")[0] for value in floors] if any(f is not None for f in floors) else None,
        improvement=[_signed(value) for value in gain["values"][at]] if gain else None,
        notes=[(letter, f"{method}, seed {seed}: {why}") for (method, seed, why), letter in notes.items()],
    )


def _cell(
    document: Json, ir: float | None, method: str, measure: str, column: Json, value: Json, notes: dict[Any, str]
) -> Value:
    """One cell, with footnotes for missing results; adds new footnotes to `notes`."""
    names = {row["name"] for row in _classes(document, column)}
    behind = [c for c in document["cells"] if c["ir"] == ir and c["method"] == method and c["class"] in names]
    marks = []
    for cell in behind:
        failed = cell["status"] == "failed"
        if failed or (cell[measure] is None and cell["reason"]):
            key = (method, cell["seed"], cell["reason"] or "failed without a reason")
            letter = notes.setdefault(key, _letter(len(notes)))
            marks += [letter] if letter not in marks else []
    mean, std = _numbers(value["mean"], value["std"], measure)
    gone = value["mean"] is None and bool(behind) and all(c["status"] == "failed" for c in behind)
    return Value("failed" if gone else mean, std, bool(value["best"]), gone, ", ".join(marks))


def _classes(document: Json, column: Json) -> list[Json]:
    """The document's classes that a column covers."""
    if column["kind"] == "class":
        return [row for row in document["classes"] if row["name"] == column["title"]]
    return [row for row in document["classes"] if row["majority"] == (column["kind"] == "majority")]


def _head(document: Json, column: Json) -> tuple[str, int | None, bool]:
    classes = _classes(document, column) if column["kind"] != "minority" else []
    real = classes[0]["n_reference"] if len(classes) == 1 else None
    return column["title"], real, any(row["reference"] == "train" for row in classes)


def _floor(document: Json, column: Json) -> float | None:
    """The FID of real against real images; for an average, only if all of its classes have one."""
    floors = [row["fid_floor"] for row in _classes(document, column)]
    return None if not floors or None in floors else float(np.mean(floors))


def _numbers(mean: float | None, std: float | None, measure: str) -> tuple[str, str | None]:
    """Mean and spread as text: SSIM with three decimals, others with three significant digits (of the larger)."""
    if mean is None:
        return DASH, None
    mean, std = mean * SCALE[measure], None if std is None else std * SCALE[measure]
    places = 3 if measure == "ssim" else _places(max(abs(mean), std or 0.0))
    return _fixed(mean, places), None if std is None else _fixed(std, places)


def _places(value: float) -> int:
    """Number of decimals that gives three significant digits."""
    return 2 if value == 0 else max(0, 2 - int(f"{value:.2e}".partition("e")[2]))


def _fixed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−")


def _signed(value: float | None) -> str:
    """A fraction as a signed percentage."""
    return DASH if value is None else f"{round(100 * value, 1) + 0.0:+,.1f}%".replace("-", "−")


def _letter(index: int) -> str:
    """Footnote letters: 0, 1, … 26 become a, b, … aa."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _side_by_side(settings: dict[str, Json]) -> list[tuple[str, list[str], bool]]:
    """All methods' settings as rows (name, value per method, whether they differ), in order of appearance."""
    columns = [dict(flat(values)) for values in settings.values()]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, DASH) for column in columns]) for name in names]
    return [(name, values, len(set(values)) > 1) for name, values in rows]
