"""Renders the report page: a document and pictures become one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from balancegan.core.documents import REFERENCES, Json
from balancegan.core.text import significant
from balancegan.report import quality_charts
from balancegan.report.charts import Panel, chart_style, class_colour, css, draw_panels, inline_svg
from balancegan.report.document_view import (
    MANY_CLASSES,
    Measured,
    at_a_glance,
    class_rows,
    level_title,
    made_by,
    reasons,
    unused,
    utility_view,
    worst_first,
)
from balancegan.report.filmstrip import Frame, Strip
from balancegan.report.loss_charts import Curve, loss_curves
from balancegan.report.pages import flat, render_page
from balancegan.report.pictures import COLUMNS, ClassPictures
from balancegan.report.quality_charts import Map
from balancegan.report.recipe_charts import gains, recipe_view


def render_html(
    document: Json,
    pictures: Sequence[ClassPictures],
    *,
    strips: Sequence[Strip] = (),
    frames: Sequence[Frame] = (),
    noise_latents: bool = False,
) -> str:
    """Render the page. It loads nothing: styles, charts and one script are inline, and pictures are data URIs.

    The script only adds conveniences (sortable tables, a slider). Its hash in the page's security policy blocks every
    other script.

    Args:
        document: the report's document; missing keys count as not measured.
        pictures: from `draw_pictures`, in the order of the document's classes.
        strips: from `draw_strips`.
        frames: from `draw_frames`.
        noise_latents: whether the latents between which the strips lead are images of noise.
    """
    rows = class_rows(document)
    made = made_by(document)
    maps = quality_charts.maps(document)
    curves = loss_curves(document["history"])
    labels = sorted({label for found in maps for label in found.labels if 0 <= label < len(rows)})
    with chart_style():
        utility_charts = _with_titles(quality_charts.differences(document) + quality_charts.recalls(document))
        recipe_charts = _with_titles(gains(document))
        distance_charts = _with_titles(quality_charts.distances(document))
        drawn_maps = [(found, _chart(found.panel, _map_label(found, made), legend=False)) for found in maps]
        drawn_curves = [(curve, _chart(curve.panel, _curve_label(curve))) for curve in curves]
    return render_page(
        "template.html.j2",
        doc={"delivered": True, "next": [], **document},
        kinds=REFERENCES,
        run=document.get("origin", "run") == "run",
        rows=list(zip(rows, pictures, strict=True)),
        made=made,
        mixed=made == "generated",
        unused=unused(document),
        overall=Measured(document["overall"]),
        largest=max(1, *(row["real"] + row["synthetic"] for row in rows), 1),
        findings=worst_first(document),
        glance=[(rows[k], pictures[k].glance) for k in at_a_glance(document) if pictures[k].glance],
        columns=COLUMNS,
        short=[row["name"] for row in rows if row["synthetic"] < row["requested"]],
        levels=next((list(row["swd"]) for row in rows if row["swd"]), []),
        level_title=level_title,
        utility=utility_view(document),
        many=MANY_CLASSES,
        recipe=recipe_view(document),
        recipe_charts=recipe_charts,
        shortcuts=document.get("shortcuts") or [],
        neighbours=sorted({row["prdc_k"] for row in rows if row["prdc_k"] is not None}),
        reasons=reasons,
        utility_charts=utility_charts,
        distance_charts=distance_charts,
        maps=drawn_maps,
        curves=drawn_curves,
        class_legend=[(css(class_colour(label)), rows[label]["name"]) for label in labels],
        strips=strips,
        frames=frames,
        noise_latents=noise_latents,
        settings=flat(document["settings"]),
        script=_script(),
    )


def _with_titles(panels: Sequence[Panel]) -> list[tuple[str, Markup]]:
    return [(p.title, _chart(p, f"Chart: {p.title}; the numbers are in the tables")) for p in panels]


def _map_label(found: Map, made: str) -> str:
    real, fake = found.counts
    return f"Map: {found.title}, {real:,} real and {fake:,} {made} images. {found.caption}"


def _curve_label(curve: Curve) -> str:
    first, last = (significant(value) for value in curve.points[[0, -1], 1])
    return f"Loss {curve.name} in stage {curve.stage}: first {first}, last {last}"


def _chart(panel: Panel, label: str, *, legend: bool = True) -> Markup:
    return inline_svg(draw_panels([panel], titles=False, legend=legend), label)


@dataclass(frozen=True)
class _Script:
    """The page's script, and the CSP source expression that allows only this script."""

    text: Markup
    source: Markup


def _script() -> _Script:
    text = files("balancegan.report").joinpath("templates/script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return _Script(Markup(text), Markup(f"'sha256-{digest}'"))
