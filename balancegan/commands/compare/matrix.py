"""Progress of a comparison: the state of every cell, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass(frozen=True, order=True)
class Cell:
    """One training run of the matrix; `ir` is 0 for the unthinned data."""

    ir: float
    seed: int
    method: str

    @property
    def name(self) -> str:
        """File name of its records."""
        return (f"ir{self.ir:g}-" if self.ir else "") + f"{self.method}-seed{self.seed}"

    @property
    def label(self) -> str:
        """Human-readable name."""
        return f"{self.method}, seed {self.seed}" + (f", IR {self.ir:g}" if self.ir else "")


@dataclass
class State:
    """State of one cell. `fraction` of its steps is done; `seconds` is its time in this call, None if read."""

    status: str = WAITING
    fraction: float = 0.0
    started: float = 0.0
    seconds: float | None = None


@dataclass
class Matrix:
    """All cells, in the order in which they are trained."""

    cells: Sequence[Cell]
    clock: Callable[[], float] = time.monotonic
    states: dict[Cell, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = {cell: State() for cell in self.cells}

    def start(self, cell: Cell) -> None:
        """Record that work on a cell begins."""
        self.states[cell] = State(RUNNING, started=self.clock())

    def advance(self, cell: Cell, fraction: float, max_seconds: float | None = None) -> None:
        """Record which fraction of the cell's steps is done, or of its time if that ends first."""
        state = self.states[cell]
        of_time = 0.0 if max_seconds is None else min(1.0, (self.clock() - state.started) / max_seconds)
        state.fraction = max(fraction, of_time)

    def finish(self, cell: Cell, *, failed: bool = False, read: bool = False) -> None:
        """Record that the cell has its result; `read` if it is from an earlier call."""
        state = self.states[cell]
        state.seconds = None if read else self.clock() - state.started
        state.status, state.fraction = FAILED if failed else DONE, 1.0

    @property
    def position(self) -> tuple[int, int]:
        """Number of cells that finished or failed, and of all."""
        over = sum(state.status in (DONE, FAILED) for state in self.states.values())
        return over, len(self.states)

    def seconds_left(self) -> float | None:
        """Estimate from the mean time of the method's finished cells, of all, or the running cell; None at first."""
        took: dict[str, list[float]] = {}
        for cell, state in self.states.items():
            if state.status == DONE and state.seconds is not None:
                took.setdefault(cell.method, []).append(state.seconds)
        running = {c: self._projected(s) for c, s in self.states.items() if s.status == RUNNING}
        for cell, whole in running.items():
            if whole is not None and cell.method not in took:
                took[cell.method] = [whole]
        everything = [seconds for values in took.values() for seconds in values]
        if not everything:
            return None
        left = 0.0
        for cell, state in self.states.items():
            whole = sum(values := took.get(cell.method, everything)) / len(values)
            if state.status == WAITING:
                left += whole
            elif state.status == RUNNING:
                left += max(0.0, (running[cell] or whole) - (self.clock() - state.started))
        return left

    def _projected(self, state: State) -> float | None:
        """Estimate a running cell's total seconds; None until a twentieth is done."""
        return (self.clock() - state.started) / state.fraction if state.fraction >= 0.05 else None

    def rows(self) -> list[tuple[str, list[tuple[Cell, State]]]]:
        """Return (method, its cells) for each row of a table."""
        methods = dict.fromkeys(cell.method for cell in self.cells)
        return [(m, [(c, s) for c, s in self.states.items() if c.method == m]) for m in methods]


class Board:
    """Observer of a comparison: a `Monitor` and a `Progress`, also told when the matrix changes. Shows nothing."""

    def matrix(self, matrix: Matrix) -> None:
        """Called when a cell's state changes."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A `Progress`."""

    def step(self, stage: str, step: int, total: int) -> None:
        """As in `Monitor`."""

    def tick(self, row: dict[str, Any]) -> None:
        """As in `Monitor`."""

    def note(self, text: str) -> None:
        """As in `Monitor`."""
