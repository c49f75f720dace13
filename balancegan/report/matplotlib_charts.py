"""Matplotlib without surprises: one style for all of the report's figures, files written whole; and the loss curves."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from balancegan.core.files import disk_errors, write_atomic

_NO_DATE: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {}}
_FALLBACKS = (
    *("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans Thai", "Droid Sans Fallback", "Unifont"),
)

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a class may be called "$x"
    "text.usetex": False,
    "pdf.fonttype": 42,  # journals refuse type 3 fonts
    "svg.hashsalt": "balancegan",  # the same document gives the same file
}


@contextmanager
def chart_style() -> Iterator[None]:
    """One look for all charts, whatever the user's matplotlibrc says.

    Letters that the font lacks are taken from other fonts, or become boxes without a warning each.
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
    """Installed fonts, best first, for names in any script; one that is not installed would warn at every letter."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes as an array of (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save_figure(
    figure: Any, folder: Path, stem: str, *, dpi: int, formats: Sequence[str] = ("png", "svg")
) -> list[str]:
    """Write the figure in each format, each file whole or not at all.

    Returns:
        The names of the files.
    """
    for suffix in formats:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=dpi, metadata=_NO_DATE[suffix])
        write_atomic(folder / f"{stem}.{suffix}", buffer.getvalue())
    return [f"{stem}.{suffix}" for suffix in formats]


def draw_losses(history: list[dict[str, Any]]) -> Any | None:
    """Every loss of metrics.jsonl over the steps, one panel per network; None when there is nothing to draw."""
    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in history:
        for key, value in row.items():
            if key.startswith("loss/") and isinstance(value, int | float):
                network, _, term = key.removeprefix("loss/").partition("/")
                xs, ys = panels.setdefault(network, {}).setdefault(term or network, ([], []))
                xs.append(row["step"])
                ys.append(value)
    if not panels:
        return None
    figure, axes = canvas(5 * len(panels), 3.6, 1, len(panels))
    titles = {"pretrain": "pre-training", "d": "discriminator", "g": "generator"}
    for axis, (network, terms) in zip(axes[0], panels.items(), strict=True):
        for term, (xs, ys) in terms.items():
            axis.plot(xs, ys, label=term, linewidth=1)
        axis.set(title=titles.get(network, network), xlabel="step", ylabel="loss")
        if min(y for _, ys in terms.values() for y in ys) > 0:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return figure


def plot_losses(history: list[dict[str, Any]], path: Path) -> bool:
    """Draw every loss of metrics.jsonl into a PNG file; false when there is nothing to draw."""
    with chart_style():
        figure = draw_losses(history)
        if figure is None:
            return False
        with disk_errors(f"write {path.name}"):
            save_figure(figure, path.parent, path.stem, dpi=110, formats=("png",))
    return True
