"""The report's two files: compute the document, draw the page, write both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from balancegan.files import disk_errors, write_atomic, write_json
from balancegan.metrics.features import Extractor
from balancegan.progress import Progress, silent
from balancegan.report.compute import ReportInput, compute_report
from balancegan.report.pictures import draw_pictures
from balancegan.report.render import render_html


def write_report(
    inp: ReportInput,
    extractor: Extractor,
    out_dir: Path,
    *,
    seed: int = 0,
    max_images: int = 2000,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compute the report and write `report.json` and `report.html` into `out_dir`, each file whole or not at all.

    Raises:
        DiskError: the folder cannot be written.
    """
    document = compute_report(inp, extractor, seed=seed, max_images=max_images, progress=progress)
    page = render_html(document, draw_pictures(inp, document, seed=seed))
    with disk_errors(f"write the report to {out_dir}"):
        out_dir.mkdir(parents=True, exist_ok=True)
        write_json(out_dir / "report.json", document)
        write_atomic(out_dir / "report.html", page)
    return document
