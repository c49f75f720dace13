"""Writes the report's figures as files for papers and slides: all as PNG, and charts also as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from balancegan.core.documents import Json
from balancegan.core.files import disk_errors
from balancegan.report import quality_charts as charts
from balancegan.report.charts import Panel, chart_style, draw_panels, save_figure
from balancegan.report.loss_charts import loss_curves
from balancegan.report.pictures import ReportImages
from balancegan.report.recipe_charts import gains
from balancegan.report.sample_sheets import interpolation_sheet, sample_sheet

_COLUMNS = 3


def write_figures(inp: ReportImages, document: Json, folder: Path) -> list[str]:
    """Write every figure that the document has data for into `folder`.

    Args:
        inp: the report's images.
        document: the same report's document.
        folder: the output folder; created if missing.

    Returns:
        The names of the files written.

    Raises:
        DiskError: cannot write to the folder.
    """
    panels: dict[str, Callable[[], list[Panel]]] = {
        "class_counts": lambda: charts.class_counts(document),
        "recipe": lambda: gains(document),
        "recall": lambda: charts.recalls(document),
        "differences": lambda: charts.differences(document),
        "confusion": lambda: charts.confusions(document),
        "fid_kid": lambda: charts.distances(document),
        "embeddings": lambda: [found.panel for found in charts.maps(document)],
        "losses": lambda: [curve.panel for curve in loss_curves(document["history"])],
    }
    sheets: dict[str, Callable[[], Any | None]] = {
        "samples": lambda: sample_sheet(inp, document),
        "interpolation": lambda: interpolation_sheet(inp),
    }
    written: list[str] = []
    with disk_errors(f"write the figures to {folder}"), chart_style():
        folder.mkdir(parents=True, exist_ok=True)
        for stem, make in panels.items():
            if drawn := make():
                written += save_figure(draw_panels(drawn, _COLUMNS), folder, stem)
        for stem, sheet in sheets.items():
            if (figure := sheet()) is not None:
                written += save_figure(figure, folder, stem, ("png",))
    return written
