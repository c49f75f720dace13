"""The output of training while it runs: losses, sample grids and mode-collapse warnings."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from balancegan.compute.ranks import here
from balancegan.core.grid import save_grid
from balancegan.data.batches import Batches
from balancegan.methods.base import Method
from balancegan.methods.stages import Stage
from balancegan.runs.directory import RunDir
from balancegan.sampling.preview import grid_images
from balancegan.training.collapse import REAL_IMAGES, DiversityWatch, by_name
from balancegan.training.monitor import Monitor
from balancegan.training.state import State
from balancegan.training.steps import Steps


class Records:
    """Writes the log, metrics.jsonl and samples/ of a run; only rank 0 writes.

    Args:
        method: the method in training, already set up.
        batches: its training images.
        run: the run directory to write to.
        state: the training progress; this class updates its `seconds`.
        device: the method's device.
        monitor: gets every row of metrics and every message.
        class_names: labels of the grids' rows; None for class numbers.
    """

    def __init__(
        self,
        method: Method,
        batches: Batches,
        run: RunDir,
        state: State,
        device: torch.device,
        monitor: Monitor,
        class_names: Sequence[str] | None,
    ) -> None:
        self.method, self.batches, self.run, self.state = method, batches, run, state
        self.device, self.monitor, self.named = device, monitor, class_names is not None
        self.names = method.condition_names(class_names or [str(k) for k in range(method.data.num_classes)])
        self.diversity: DiversityWatch | None = None  # None until the first look
        self.best_diversity: dict[str, float] = {}  # of earlier calls
        self.collapsed: list[str] = []  # at the last look
        self._rows: list[np.ndarray] = []  # of the last look
        self.start_clock()

    def start_clock(self) -> None:
        """Restart the counts of time, steps and images."""
        self._clock = time.monotonic()
        self.forget()

    def forget(self) -> None:
        """Restart the counts of steps and images."""
        self._ticked_step, self._ticked_images = self.state.step, self.state.images_seen

    def tick(self, stage: Stage, steps: Steps, *, looking: bool) -> None:
        """Write and show the metrics since the last tick; if `looking`, also check a few generated images."""
        here().from_main(lambda: self._report(stage, steps, looking))
        steps.forget_losses()
        self.forget()

    def _report(self, stage: Stage, steps: Steps, looking: bool) -> None:
        state, self._rows = self.state, []
        if looking:
            self.look()
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        state.seconds += elapsed
        n = max(state.step - self._ticked_step, 1)
        row = {
            "step": state.step,
            "stage": stage.name,
            "images_seen": state.images_seen,
            "seconds": round(state.seconds, 3),
            "steps_per_second": round(n / max(elapsed, 1e-9), 3),
            "images_per_second": round((state.images_seen - self._ticked_images) / max(elapsed, 1e-9), 2),
            **steps.mean_losses(n),
        }
        if looking and self.diversity and self.diversity.lowest is not None:
            row["diversity"] = round(self.diversity.lowest, 4)
        self.run.append_metrics(row)
        done, length = self.method.schedule.within(state.step)
        self.monitor.tick({**row, "stage_step": done, "stage_total": length})

    def look(self) -> None:
        """Generate a few images of every class and warn about newly collapsed classes."""
        self._rows = grid_images(self.method, self.device, sources=self.batches.sources)
        if self.diversity is None:
            self.state.seed("diversity")
            references = zip(self.names, self.method.references(self.batches, REAL_IMAGES), strict=True)
            self.diversity = DiversityWatch(references, self.best_diversity, self.collapsed)
        watch = self.diversity
        for name in watch.look(by_name(self.names, self._rows)):
            now, best, healthy = watch.shares[name], watch.best[name], self.run.healthy_step()
            kept = f"The checkpoint of step {healthy} is kept."
            if healthy is None:
                kept = "No checkpoint from before the collapse is left."
            self.say(
                f"Step {self.state.step}: the images of {name} have become alike (mode collapse): their diversity "
                f"fell from {best:.0%} to {now:.0%} of that of real images. {kept}"
            )
        self.collapsed = watch.collapsed

    def save_samples(self) -> None:
        """Write a grid of generated images, with class labels if its rows are classes."""
        rows = self._rows or grid_images(self.method, self.device, sources=self.batches.sources)
        names = self.names if self.named and len(self.names) == len(rows) else None
        save_grid(rows, self.run.samples / f"step-{self.state.step:06d}.png", names)

    def say(self, text: str) -> None:
        """Write a line to the log and send it to the monitor."""
        self.log(text)
        self.monitor.note(text)

    def log(self, text: str) -> None:
        """Write a line to the log, on rank 0 only."""
        if here().is_main:
            self.run.log(text)
