"""The observer of a training run, and the run's result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Monitor(Protocol):
    """Observes a run. The loop calls `step` after each step, `tick` for each row of metrics and `note` for messages."""

    def step(self, stage: str, step: int, total: int) -> None: ...  # noqa: D102
    def tick(self, row: dict[str, Any]) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


class SilentMonitor:
    """Ignores everything."""

    def step(self, stage: str, step: int, total: int) -> None: ...  # noqa: D102
    def tick(self, row: dict[str, Any]) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class TrainResult:
    """The result of a call of `train`; `finished` is false if time ran out before the last step."""

    steps: int  # of the last stage, earlier calls included
    images_seen: int
    seconds: float  # training time, earlier calls included
    images_per_second: float  # of this call, or of the whole run if this call had nothing to do
    resumed_from: str | None
    finished: bool
    collapsed: tuple[str, ...] = ()  # classes that had collapsed at the last check
    signum: int | None = None  # a signal that arrived in the last step, too late to stop training
