"""Writes the report's files: document, page and figures."""

from __future__ import annotations

import contextlib
from pathlib import Path

from balancegan.core.documents import Json
from balancegan.core.errors import DiskError
from balancegan.core.files import disk_errors, write_atomic, write_json
from balancegan.report.figures import write_figures
from balancegan.report.filmstrip import draw_frames, draw_strips
from balancegan.report.pictures import ReportImages, draw_pictures
from balancegan.report.render import render_html


def write_report(document: Json, inp: ReportImages, out_dir: Path, *, figures: Path | None = None) -> None:
    """Write `report.json` and `report.html` into `out_dir`, each file atomically.

    Args:
        document: the report's document, with numbers finite or None.
        inp: the images that it describes.
        out_dir: the output folder; created if missing.
        figures: a folder for the figures as PNG and SVG files. If None, or if it cannot be written to, no figures are
            written.

    Raises:
        DiskError: cannot write to `out_dir`.
    """
    extras = inp.extras
    page = render_html(
        document,
        draw_pictures(inp, document, seed=document["limits"]["seed"]),
        strips=draw_strips(extras.interpolation if extras else None, [row["name"] for row in document["classes"]]),
        frames=draw_frames(extras.frames if extras else ()),
        noise_latents=bool(extras and extras.noise_latents),
    )
    with disk_errors(f"write the report to {out_dir}"):
        out_dir.mkdir(parents=True, exist_ok=True)
        write_json(out_dir / "report.json", document)
        write_atomic(out_dir / "report.html", page)
    if figures is not None:
        with contextlib.suppress(DiskError):  # the report is complete; a read-only run folder is no failure
            write_figures(inp, document, figures)
