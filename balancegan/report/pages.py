"""Shared by all pages: the template environment, and the formatting of numbers, names and pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from balancegan.core.text import human_time, printable, significant

if TYPE_CHECKING:
    from PIL.Image import Image

DASH = "–"
SHORT_CODE = 28  # characters that fit into a line on a phone


def render_page(template: str, **values: Any) -> str:
    """Render a template as a page. Values are escaped, a missing value is an error, and filters format numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("balancegan.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    env.filters |= {
        "breakable": _breakable,
        "code": _code,
        "count": _count,
        "gain": _gain,
        "number": _number,
        "percent": _percent,
        "points": _points,
        "rate": _rate,
        "size": _size,
        "time": _time,
    }
    return env.get_template(template).render(**values)


def picture_uri(picture: Image, kind: str = "png", **options: Any) -> str:
    """Encode a picture as a data URI; `options` are passed to Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **(options or {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into rows such as `("net.width", "64")`."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", DASH if value is None else str(value)))
    return rows


def _clean(value: Any) -> Any:
    """Remove control characters from text; leave picture data and ready-made markup unchanged."""
    plain = isinstance(value, str) and not isinstance(value, Markup) and not value.startswith("data:")
    return printable(value) if plain else value


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def _gain(value: float | None) -> str:
    """Format a difference with its sign, to three decimals."""
    if value is None:
        return DASH
    gain = round(value, 3)
    return "0.000" if gain == 0 else f"{gain:+.3f}".replace("-", "−")


def _number(value: float | None) -> str:
    """Format to three significant digits, without exponents."""
    return DASH if value is None else significant(value).replace("-", "−")


def _percent(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _points(value: float | None) -> str:
    """Format a difference of shares as signed percentage points."""
    if value is None:
        return DASH
    points = round(100 * value, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def _rate(value: float | None) -> str:
    """Format an imbalance rate: 280, 1, 2.5."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def _size(count: float | None) -> str:
    """Format a number of parameters: 987, 45.6 k, 1.23 M."""
    if count is None:
        return DASH
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count:,.0f}"


def _time(seconds: float | None) -> str:
    return DASH if seconds is None else human_time(seconds)


def _code(text: str) -> Markup:
    """Escape text and set its `quoted commands` as code; only long ones have line breaks, but not within an option."""
    text = str(escape(printable(text)))
    if text.count("`") % 2:  # a file name contains a backtick
        return Markup(text)
    return Markup(re.sub(r"`([^`]*)`", _quoted, text))


def _quoted(found: re.Match[str]) -> str:
    if len(found[1]) <= SHORT_CODE:
        return f"<code>{found[1]}</code>"
    parts = re.sub(r"(?<=\s)(--[\w-]+)", r"<span>\1</span>", found[1])
    return f'<code class="long">{parts}</code>'


def _breakable(text: str) -> Markup:
    """Escape a name and allow line breaks after its separators (_ . / -)."""
    return Markup(re.sub(r"([_./-])(?=\w)", r"\1<wbr>", str(escape(printable(text)))))
