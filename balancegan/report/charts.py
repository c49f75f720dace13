"""Draws charts with matplotlib, both as files for print and as inline SVG for a page.

A chart is drawn in the page's light colours. In the inline SVG each colour becomes the CSS variable of the same name,
so that the chart follows the page's dark mode.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from balancegan.core.files import write_atomic
from balancegan.core.text import printable

COLOURS = {
    "ink": "#1c2430", "soft": "#5b6675", "line": "#dde2e8", "panel": "#ffffff", "real": "#3b6ea8", "fake": "#d98a2b",
    "c0": "#2f7fcb", "c1": "#d98300", "c2": "#b81f02", "c3": "#7d8a88", "c4": "#832db6",
    "c5": "#8f5847", "c6": "#e2520a", "c7": "#9c8f43", "c8": "#565a66", "c9": "#3fa7bd",
}  # fmt: skip
"""The variables of templates/style.css with their light values."""

INK, SOFT, LINE, PANEL, REAL, FAKE = (COLOURS[name] for name in ("ink", "soft", "line", "panel", "real", "fake"))
VARIED = COLOURS["c9"]  # transformed real images
SERIES = tuple(COLOURS[f"c{k}"] for k in range(10))
MARKERS = "os^DvPX*"
"""Distinguishable in print without colour."""

DPI = 150
_MOST_PIXELS = 60_000  # per side: matplotlib cannot draw larger pictures, which a thousand classes would need
WIDTH = 3.8  # inches: the width of a paper's column, and what a phone shows without shrinking the text
TITLE = "title: "  # prefix of an artist's gid; on the page the rest becomes a tooltip
_FORMATS: dict[str, dict[str, Any]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
    "png": {},
}
_FALLBACKS = (
    *("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans Thai", "Droid Sans Fallback", "Unifont"),
)
_RC: Any = {
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x"
    "axes.prop_cycle": f"cycler('color', ['{INK}'])",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "path.simplify": False,
    "pdf.fonttype": 42,  # journals refuse type 3 fonts
    "svg.hashsalt": "balancegan",  # the same document gives the same file
}


@dataclass(frozen=True)
class Panel:
    """One chart, with its size in inches; `draw` draws everything except the title on matplotlib axes."""

    title: str
    draw: Callable[[Any], None]
    height: float
    width: float = WIDTH


@contextmanager
def chart_style() -> Iterator[None]:
    """Apply one style to all charts, regardless of the user's matplotlibrc.

    Characters missing from the font come from fallback fonts, or become boxes without a warning for each.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        matplotlib.rcParams["font.family"] = font_families()
        warnings.filterwarnings("ignore", message="Glyph")
        yield


@cache
def font_families() -> list[str]:
    """Installed fonts, best first, for names in any script. A missing font would cause a warning for every letter."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure of this size in inches, and its axes as an array (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def draw_panels(panels: Sequence[Panel], columns: int = 1, *, titles: bool = True, legend: bool = True) -> Any:
    """Draw the panels as one figure with this many columns and one shared legend."""
    columns = min(columns, len(panels))
    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = columns * max(panel.width for panel in panels)
    figure, axes = canvas(width, sum(heights), len(rows), columns, height_ratios=heights)
    explained: dict[str, Any] = {}
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel.draw(axis)
        if titles:
            axis.set_title(panel.title)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            explained.setdefault(label, handle)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    if legend and explained:
        fitting = max(1, int(width / (0.35 + 0.065 * max(map(len, explained)))))
        lines = -(-len(explained) // fitting)
        figure.legend(
            list(explained.values()), list(explained), ncols=-(-len(explained) // lines), handlelength=1.2,
            loc="outside lower center" if titles else "outside upper left", columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
    return figure


def file_bytes(figure: Any, suffix: str, **options: Any) -> bytes:
    """Render the figure as the content of a PNG, SVG or PDF file."""
    buffer = io.BytesIO()
    dpi = min(DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    figure.savefig(buffer, format=suffix, metadata=_FORMATS[suffix], dpi=dpi, **options)
    return buffer.getvalue()


def save_figure(figure: Any, folder: Path, stem: str, formats: Sequence[str] = ("png", "svg")) -> list[str]:
    """Write the figure in each format, each file atomically; returns the file names."""
    for suffix in formats:
        write_atomic(folder / f"{stem}.{suffix}", file_bytes(figure, suffix))
    return [f"{stem}.{suffix}" for suffix in formats]


def inline_svg(figure: Any, label: str) -> Markup:
    """Render the figure, drawn in `COLOURS` and their shades, as an svg element; the page sets its width and font.

    `label` is its text for screen readers; it must be unique on the page.
    """
    from xml.etree import ElementTree

    import matplotlib

    label = printable(label)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        root = ElementTree.fromstring(file_bytes(figure, "svg", transparent=True))
    for parent in list(root.iter()):
        parent.text, parent.tail = parent.text and parent.text.strip(), None
        for child in list(parent):
            kind = child.tag.rpartition("}")[2]
            if kind in ("style", "metadata", "clipPath") or child.attrib.get("style") == "fill: none":
                parent.remove(child)
            elif kind == "g":
                gid = child.attrib.pop("id", "")
                if gid.startswith(TITLE):
                    title = ElementTree.Element("title")
                    title.text = gid.removeprefix(TITLE)
                    child.insert(0, title)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _short_value(key, value) for key, value in element.attrib.items()
                          if key != "clip-path" and not value.startswith("rotate(-0 ")}  # fmt: skip
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "plot", "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _short_value(key: str, value: str) -> str:
    """Shorten an SVG attribute: colours become CSS variables, and coordinates are cut to hundredths of a point."""
    if key == "style":
        return re.sub("#[0-9a-f]{6}", lambda found: css(found[0]), value)
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split())) if key in ("d", "x", "y", "transform") else value


def class_colour(label: int) -> str:
    """A class's colour: ten base colours, then darker and lighter shades of them."""
    return _shades()[label % len(_shades())][0]


def css(colour: str) -> str:
    """The CSS value of a chart colour."""
    return _variables()[colour]


@cache
def _variables() -> dict[str, str]:
    return {colour: f"var(--{name})" for name, colour in COLOURS.items()} | dict(_shades())


@cache
def _shades() -> list[tuple[str, str]]:
    """(colour, CSS value) of every class colour."""
    shades = [(colour, f"var(--c{k})") for k, colour in enumerate(SERIES)]
    for other in ("ink", "panel"):
        for k, colour in enumerate(SERIES):
            pairs = (bytes.fromhex(text[1:]) for text in (colour, COLOURS[other]))
            mixed = "".join(f"{round(0.55 * a + 0.45 * b):02x}" for a, b in zip(*pairs, strict=True))
            shades.append((f"#{mixed}", f"color-mix(in srgb, var(--c{k}) 55%, var(--{other}))"))
    return shades


def short(text: str | None, limit: int = 38) -> str:
    """Shorten a name to one line of at most `limit` characters; wide (such as Chinese) characters count as two."""
    text = printable(" ".join((text or "").split())) or "–"
    widths = [1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text]
    if sum(widths) <= limit:
        return text
    fitting = next(k for k in range(len(text)) if sum(widths[: k + 1]) > limit - 1)
    return text[:fitting].rstrip() + "…"
