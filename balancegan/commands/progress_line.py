"""Progress of the Python functions: one line on stderr, written over in terminals and notebooks."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

from balancegan.commands.compare.matrix import Board, Matrix
from balancegan.core.text import human_time, printable

FAST, SLOW = 0.25, 10.0
"""Seconds between updates of the line; where it cannot be written over, between lines."""
WIDTH = 110
LOG = logging.getLogger("balancegan")


class QuietBoard(Board):
    """Shows nothing; what would be said goes to the logger `balancegan`."""

    def note(self, text: str) -> None:
        """A line for the log."""
        LOG.info(printable(text))

    def close(self) -> None:
        """Nothing to clear."""


class ProgressLine(QuietBoard):
    """Shows what is being done, how far it is and how long it will take."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream: Any = sys.stderr if stream is None else stream
        notebook = type(self.stream).__module__.startswith("ipykernel")
        self.live = notebook or bool(getattr(self.stream, "isatty", bool)())
        self._stage, self._shown, self._told = "", "", 0.0
        self._begun = (0.0, 0)  # when the stage began, and where
        self._cells = self._losses = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A `Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._losses = stage, (now, done), ""
            self._told = 0.0 if self.live else now  # short stages get one line, at their end
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
        """How far a comparison is goes before everything else."""
        over, total = matrix.position
        self._cells = f"[{over} of {total} trainings] "

    def note(self, text: str) -> None:
        """A line that stays."""
        super().note(text)
        self._clear()
        self.stream.write(printable(text) + "\n")

    def close(self) -> None:
        """Take the line away."""
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
