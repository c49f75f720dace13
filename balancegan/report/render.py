"""The report page: a document and pictures in, one self-contained HTML file out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from balancegan.core.text import printable, significant
from balancegan.evaluation.findings import REFERENCES
from balancegan.metrics.memorisation import MAX_SIDE
from balancegan.report.filmstrip import Frame, Strip
from balancegan.report.loss_charts import loss_curves
from balancegan.report.measures_view import complete_overall, complete_row, distance_charts, reasons
from balancegan.report.pictures import ClassPictures
from balancegan.report.scatter import FAKE_MARK, REAL_MARK, class_tone, scatters
from balancegan.report.utility_view import MANY_CLASSES, utility_view

if TYPE_CHECKING:
    from jinja2 import Environment


DASH = "–"


def render_html(
    document: dict[str, Any],
    pictures: Sequence[ClassPictures],
    *,
    strips: Sequence[Strip] = (),
    frames: Sequence[Frame] = (),
) -> str:
    """The page as text. It loads nothing: styles and one script are inside, pictures are data URIs.

    The script only adds comfort (tables that sort, a slider); its hash in the page's security policy keeps every other
    script from running.

    Args:
        document: from `compute_report`. Missing keys count as not measured.
        pictures: from `draw_pictures`, in the order of the document's classes.
        strips: from `draw_strips`.
        frames: from `draw_frames`.
    """
    rows = [complete_row(row) for row in document["classes"]]
    general = [f for f in document["findings"] if f["class"] is None or f["level"] == "warning"]
    plots = scatters(document.get("embeddings") or [], [row["name"] for row in rows])
    env = environment()
    return env.get_template("template.html.j2").render(
        doc={"delivered": True, **document},
        kinds=REFERENCES,
        run=document.get("origin", "run") == "run",
        rows=list(zip(rows, pictures, strict=True)),
        overall=complete_overall(document["overall"]),
        largest=max(1, *(row["real"] + row["synthetic"] for row in rows), 1),
        general=general,
        class_notes=[f for f in document["findings"] if f not in general],
        short=[row["name"] for row in rows if row["synthetic"] < row["requested"]],
        utility=utility_view(document),
        many=MANY_CLASSES,
        shortcuts=document.get("shortcuts") or [],
        charts=distance_charts(rows),
        neighbours=sorted({row["prdc_k"] for row in rows if row["prdc_k"] is not None}),
        reasons=reasons,
        plots=plots,
        shown_labels=sorted({label for plot in plots for label in plot.labels if 0 <= label < len(rows)}),
        tone=class_tone,
        marks={"real": REAL_MARK, "fake": FAKE_MARK},
        strips=strips,
        frames=frames,
        curves=loss_curves(document["history"]),
        copy_side=MAX_SIDE,
        settings=flat(document["settings"]),
        script=_script(env),
    )


@dataclass(frozen=True)
class _Script:
    """The page's script, and the source expression that allows it and no other."""

    text: Markup
    source: Markup


def _script(env: Environment) -> _Script:
    assert env.loader is not None
    text = env.loader.get_source(env, "script.js")[0].replace("\r\n", "\n")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return _Script(Markup(text), Markup(f"'sha256-{digest}'"))


def environment() -> Environment:
    """The environment of all pages: what is put in is escaped, a missing value is an error, filters format numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("balancegan.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    env.filters |= {"count": _count, "number": _number, "percent": _percent, "points": _points, "rate": rate}
    env.filters |= {"code": _code, "breakable": _breakable}
    return env


def _clean(value: Any) -> Any:
    """Text from outside without control characters; pictures and ready-made markup as they are."""
    plain = isinstance(value, str) and not isinstance(value, Markup) and not value.startswith("data:")
    return printable(value) if plain else value


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    """Three significant digits, without exponents."""
    return DASH if value is None else significant(value).replace("-", "−")


def _percent(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if value is None:
        return DASH
    points = round(100 * value, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def rate(value: float | None) -> str:
    """An imbalance rate as people write it: 280, 1, 2.5."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def _code(text: str) -> Markup:
    """Text with its `quoted commands` set as code; everything else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(printable(text)))))


def _breakable(text: str) -> Markup:
    """A name that may break after the signs which join its words, where the browser would not."""
    return Markup(re.sub(r"([_./-])(?=\w)", r"\1<wbr>", str(escape(printable(text)))))


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `("net.width", "64")` rows."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", DASH if value is None else str(value)))
    return rows
