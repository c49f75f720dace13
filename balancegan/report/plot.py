"""The run's loss curves as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from balancegan.files import disk_errors, write_atomic


def plot_losses(history: list[dict[str, Any]], path: Path) -> bool:
    """Draw every loss of metrics.jsonl over the steps, one panel per network; false when there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in history:
        for key, value in row.items():
            if key.startswith("loss/"):
                _, network, term = key.split("/", 2)
                xs, ys = panels.setdefault(network, {}).setdefault(term, ([], []))
                xs.append(row["step"])
                ys.append(value)
    if not panels:
        return False
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"pretrain": "pre-training", "d": "discriminator", "g": "generator"}
    for axis, (network, terms) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for term, (xs, ys) in terms.items():
            axis.plot(xs, ys, label=term, linewidth=1)
        axis.set(title=titles.get(network, network), xlabel="step", ylabel="loss")
        if min(y for _, ys in terms.values() for y in ys) > 0:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with disk_errors(f"write {path.name}"):
        write_atomic(path, buffer.getvalue())
    return True
