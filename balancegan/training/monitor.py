"""Who watches a training, and how one ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Monitor(Protocol):
    """Who watches a run. Called once a step, once a tick, and when something is worth a line."""

    def step(self, stage: str, step: int, total: int) -> None: ...  # noqa: D102
    def tick(self, row: dict[str, Any]) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


class SilentMonitor:
    """Nobody watches."""

    def step(self, stage: str, step: int, total: int) -> None: ...  # noqa: D102
    def tick(self, row: dict[str, Any]) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended; `finished` is false when time ran out before the last step."""

    steps: int  # of the last stage, earlier calls counted
    images_seen: int
    seconds: float  # training time, earlier calls counted
    images_per_second: float  # of this call, or of the run when this call had nothing to do
    resumed_from: str | None
    finished: bool
    collapsed: tuple[str, ...] = ()  # classes whose images were alike at the last look
    signum: int | None = None  # a signal that came in the last step, too late to stop anything
