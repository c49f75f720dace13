"""Progress of the Python functions: one line on stderr, overwritten in terminals and notebooks."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

from balancegan.commands.compare.matrix import Board, Matrix
from balancegan.core.text import human_time, printable

FAST, SLOW = 0.25, 10.0
"""Seconds between updates of the line; `SLOW` where it cannot be overwritten, between lines."""
WIDTH = 110
LOG = logging.getLogger("balancegan")


class QuietBoard(Board):
    """Shows nothing; notes go to the logger `balancegan`."""

    def note(self, text: str) -> None:
        """Log a note."""
        LOG.info(printable(text))

    def close(self) -> None:
        """Do nothing: no line was shown."""


class ProgressLine(QuietBoard):
    """Shows the current stage, its progress and the time left."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream: Any = sys.stderr if stream is None else stream
        notebook = type(self.stream).__module__.startswith("ipykernel")
        self.live = notebook or bool(getattr(self.stream, "isatty", bool)())
        self._stage, self._shown, self._told = "", "", 0.0
        self._begun = (0.0, 0)  # time and count at the stage's start
        self._cells = self._losses = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A `Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._losses = stage, (now, done), ""
            self._told = 0.0 if self.live else now  # short stages get one line, when they end
        last = bool(total) and done >= total
        if not last and now - self._told < (FAST if self.live else SLOW):
            return
        self._told = now
        began, first = self._begun
        text = f"{self._cells}{stage}: {done:,}" + (f" of {total:,}" if total else "")
        if total and first < done < total and now - began > 1:
            text += f", {human_time((total - done) * (now - began) / (done - first))} left"
        self._write(text + self._losses)

    def step(self, stage: str, step: int, total: int) -> None:
        """As in `Monitor`."""
        self(stage, step, total)

    def tick(self, row: dict[str, Any]) -> None:
        """As in `Monitor`."""
        losses = (f"{key.removeprefix('loss/')}={value:.3g}" for key, value in row.items() if key.startswith("loss/"))
        self._losses = f", {row['images_per_second']:.0f} img/s: {' '.join(losses)}"

    def matrix(self, matrix: Matrix) -> None:
        """Put a comparison's progress at the start of the line."""
        over, total = matrix.position
        self._cells = f"[{over} of {total} training runs] "

    def note(self, text: str) -> None:
        """Print a line that stays on screen."""
        super().note(text)
        self._clear()
        self.stream.write(printable(text) + "\n")

    def close(self) -> None:
        """Clear the line."""
        self._clear()
        self.stream.flush()

    def _write(self, text: str) -> None:
        text = printable(text)
        if not self.live:
            self.stream.write(text + "\n")
            return
        shown = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
        self.stream.write("\r" + shown.ljust(len(self._shown)))
        self.stream.flush()
        self._shown = shown

    def _clear(self) -> None:
        if self._shown:
            self.stream.write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""
