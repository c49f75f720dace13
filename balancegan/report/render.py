"""The report page: a document and pictures in, one self-contained HTML file out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from balancegan.data.scan import printable
from balancegan.metrics.memorisation import MAX_SIDE
from balancegan.report.charts import loss_curves
from balancegan.report.pictures import ClassPictures
from balancegan.text import significant

if TYPE_CHECKING:
    from jinja2 import Environment

DASH = "–"


def render_html(document: dict[str, Any], pictures: Sequence[ClassPictures]) -> str:
    """The page as text. It loads nothing: styles are inside, pictures are data URIs, and there are no scripts.

    Args:
        document: from `compute_report`.
        pictures: from `draw_pictures`, in the order of the document's classes.
    """
    rows = document["classes"]
    largest = max((row["real"] + row["synthetic"] for row in rows), default=0)
    general = [f for f in document["findings"] if f["class"] is None or f["level"] == "warning"]
    return (
        environment()
        .get_template("template.html.j2")
        .render(
            doc=document,
            rows=list(zip(rows, pictures, strict=True)),
            largest=max(1, largest),
            general=general,
            class_notes=[f for f in document["findings"] if f not in general],
            short=[row["name"] for row in rows if row["synthetic"] < row["requested"]],
            curves=loss_curves(document["history"]),
            copy_side=MAX_SIDE,
            settings=flat(document["settings"]),
        )
    )


def environment() -> Environment:
    """The environment of all pages: what is put in is escaped, a missing value is an error, filters format numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("balancegan.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    env.filters |= {"count": _count, "number": _number, "percent": _percent, "rate": rate, "code": _code}
    return env


def _clean(value: Any) -> Any:
    """Text from outside without control characters; pictures and ready-made markup as they are."""
    plain = isinstance(value, str) and not isinstance(value, Markup) and not value.startswith("data:")
    return printable(value) if plain else value


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def _number(value: float | None) -> str:
    """Three significant digits, without exponents."""
    return DASH if value is None else significant(value)


def _percent(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def rate(value: float | None) -> str:
    """An imbalance rate as people write it: 280, 1, 2.5."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def _code(text: str) -> Markup:
    """Text with its `quoted commands` set as code; everything else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(printable(text)))))


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `("net.width", "64")` rows."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", DASH if value is None else str(value)))
    return rows
