"""What the training loop runs: stages, each of so many steps, each step a sequence of optimiser updates.

An autoencoder before a GAN is two stages, a GAN's step is two updates, a diffusion model is one stage of one update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol

import numpy as np
from torch import Tensor, nn

Terms = dict[str, Tensor]
"""Name -> weighted scalar. The training loop sums, back-propagates and logs them."""


class Batches(Protocol):
    """Real training images: batches of x (N, C, S, S) in [-1, 1] and labels c (N,) int64."""

    def draw(self) -> tuple[Tensor, Tensor]:
        """A random batch, as training draws them."""

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every training image once, class by class."""

    def of_class(self, label: int, most: int) -> np.ndarray:
        """Up to `most` images of a class: uint8 (n, C, S, S)."""


@dataclass(frozen=True)
class Update:
    """One optimiser update (Adam) of some parameters.

    While it runs, parameters of the step's earlier updates take no gradient: they were just updated, and what they
    would get is thrown away.
    """

    name: str  # in the log, as loss/<name>/<term>
    loss: Callable[[Tensor, Tensor], Terms]  # of real images x (N, C, S, S) and labels c (N,)
    parameters: Callable[[], Iterable[nn.Parameter]]  # known once the method is set up
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    repeats: int = 1  # in every step
    warmup_steps: int = 0  # of the stage, over which the learning rate rises linearly from 0


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    The first update of a step draws a batch, and so does every repetition of an update; the update that follows sees
    the batch that was drawn last.
    """

    name: str  # in the log and in checkpoints
    steps: int
    updates: tuple[Update, ...]
    begin: Callable[[Batches], None] | None = None
    """Called before the first step: transfer weights, fit priors."""
    end: Callable[[Batches], None] | None = None
    """Called after the last step, and whenever the training is cut short within the stage."""

    @property
    def batches(self) -> int:
        """Batches that a step draws."""
        return 1 + sum(update.repeats - 1 for update in self.updates)


@dataclass(frozen=True)
class Schedule:
    """A method's stages one after the other, with steps counted through all of them.

    The last stage makes the generator that samples: its weights are averaged, its length is `steps`.
    """

    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, stages: Iterable[Stage]) -> Schedule:
        """Without stages of no steps, but always with the last one."""
        *before, last = stages
        return cls((*(stage for stage in before if stage.steps), last))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Steps made before each stage."""
        return tuple(accumulate((stage.steps for stage in self.stages[:-1]), initial=0))

    @property
    def last(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @property
    def before_last(self) -> int:
        """Steps of all stages but the last."""
        return self.starts[-1]

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return self.before_last + self.last.steps

    def index(self, step: int) -> int:
        """Which stage a training is in after so many steps; at the end of one it is in the next."""
        return max(i for i, start in enumerate(self.starts) if start <= step)

    def within(self, step: int) -> tuple[int, int]:
        """Steps made and to be made, in the stage that made the latest step."""
        i = max(i for i, start in enumerate(self.starts) if start < step or i == 0)
        return step - self.starts[i], self.stages[i].steps

    def images(self, batch_size: int) -> int:
        """Images that all steps draw."""
        return batch_size * sum(stage.steps * stage.batches for stage in self.stages)
