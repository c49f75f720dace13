"""The report's two files: compute the document, draw the page, write both."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from balancegan.compute.memory import memory_errors
from balancegan.core.documents import Json
from balancegan.core.errors import DiskError
from balancegan.core.files import disk_errors, write_atomic, write_json
from balancegan.core.progress import Progress, silent
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.document import ReportInput, compute_report
from balancegan.evaluation.measures import METRICS
from balancegan.metrics.features import Cached, Extractor
from balancegan.report.figures import write_figures
from balancegan.report.filmstrip import draw_frames, draw_strips
from balancegan.report.pictures import draw_pictures
from balancegan.report.render import render_html


def write(
    inp: ReportInput, extractor: Cached, out: Path, judging: Judging, *, figures: Path | None, progress: Progress
) -> Json:
    """The report's files; returns the document."""
    with memory_errors(judging.device, "use --device cpu"):
        return write_report(
            inp,
            extractor,
            out,
            seed=judging.seed,
            max_images=judging.limit,
            metrics=judging.metrics,
            figures=figures,
            progress=progress,
        )


def write_report(
    inp: ReportInput,
    extractor: Extractor,
    out_dir: Path,
    *,
    seed: int = 0,
    max_images: int = 2000,
    metrics: frozenset[str] = frozenset(METRICS),
    progress: Progress = silent,
    figures: Path | None = None,
) -> dict[str, Any]:
    """Compute the report and write `report.json` and `report.html` into `out_dir`, each file whole or not at all.

    Args:
        inp: images, counts and circumstances.
        extractor: gives the features of the measures.
        out_dir: where the files go; it is made when it is missing.
        seed: of every random choice.
        max_images: per class and set that enter a measure.
        metrics: of `METRICS`, which to measure.
        progress: called as `("report", done, classes)`.
        figures: a folder for the figures as PNG and SVG files; none are written without it, or where it cannot be
            written to.

    Raises:
        DiskError: the folder cannot be written.
    """
    document = compute_report(inp, extractor, seed=seed, max_images=max_images, metrics=metrics, progress=progress)
    extras = inp.extras
    page = render_html(
        document,
        draw_pictures(inp, document, seed=seed),
        strips=draw_strips(extras.interpolation if extras else None, [row["name"] for row in document["classes"]]),
        frames=draw_frames(extras.frames if extras else ()),
    )
    with disk_errors(f"write the report to {out_dir}"):
        out_dir.mkdir(parents=True, exist_ok=True)
        write_json(out_dir / "report.json", document)
        write_atomic(out_dir / "report.html", page)
    if figures is not None:
        with contextlib.suppress(DiskError):  # the report is out; a run that cannot be written to must not undo that
            write_figures(inp, document, figures)
    return document
