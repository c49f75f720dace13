"""What the training loop runs: a sequence of stages. Every step of a stage is a sequence of optimiser updates.

An autoencoder followed by a GAN is two stages, a GAN's step is two updates, and a diffusion model is one stage with one
update.
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
"""Name -> weighted scalar. The training loop sums the scalars, back-propagates the sum and logs each one."""


class Batches(Protocol):
    """Real training images: batches of x (N, C, S, S) in [-1, 1] and labels c (N,) int64."""

    def draw(self, sampling: str | None = None) -> tuple[Tensor, Tensor]:
        """Draw a random batch, by the class frequencies of training or of `sampling`."""

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every training image once, class by class."""

    def of_class(self, label: int, most: int) -> np.ndarray:
        """Return up to `most` images of a class: uint8 (n, C, S, S)."""


@dataclass(frozen=True)
class Update:
    """One optimiser update (Adam) of some of a method's parameters.

    While it runs, the loop freezes the parameters that only earlier updates of the step train: their gradients would be
    discarded.
    """

    name: str  # unique within the stage; logged as loss/<name>/<term>
    loss: Callable[[Tensor, Tensor], Terms]  # called with real images x (N, C, S, S) and labels c (N,)
    parameters: Callable[[], Iterable[nn.Parameter]]  # called after `setup`, more than once
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    repeats: int = 1  # per step
    warmup_steps: int = 0  # first steps of the stage, over which the learning rate rises linearly from 0


@dataclass(frozen=True)
class Stage:
    """A phase of training.

    The first update of a step draws a batch, and so does every repetition of an update. The first run of any later
    update reuses the last batch drawn.
    """

    name: str  # unique within the method; used in the log and in checkpoints
    steps: int
    updates: tuple[Update, ...]
    sampling: str | None = None  # how classes are drawn, if not as the configuration says
    begin: Callable[[Batches], str | None] | None = None
    """Called before the first step, e.g. to transfer weights or fit priors; may return a message for the log.

    It runs once, on rank 0, and not again when training resumes: what it finds must go into parameters or persistent
    buffers. The cost estimate calls the losses without it.
    """
    end: Callable[[Batches], None] | None = None
    """Called after the last step, and whenever training is interrupted during the stage, as `begin` is.

    Since interruptions must not change a training, it must leave alone whatever later steps use.
    """

    def __post_init__(self) -> None:
        names = {update.name for update in self.updates}
        if not names or len(names) < len(self.updates) or any(update.repeats < 1 for update in self.updates):
            raise ValueError(f"stage {self.name}: updates must have names of their own and run at least once")

    @property
    def batches(self) -> int:
        """Number of batches drawn per step."""
        return 1 + sum(update.repeats - 1 for update in self.updates)


@dataclass(frozen=True)
class Schedule:
    """A method's stages in order, with steps counted across all of them.

    The last stage trains the generator used for sampling: its weights are averaged, and its length is `steps`.
    """

    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, stages: Iterable[Stage]) -> Schedule:
        """Build a schedule that drops stages without steps (and their hooks) but always keeps the last stage."""
        *before, last = all_stages = tuple(stages)
        if len({stage.name for stage in all_stages}) < len(all_stages):
            raise ValueError("stages must have names of their own")
        return cls((*(stage for stage in before if stage.steps), last))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of steps before each stage."""
        return tuple(accumulate((stage.steps for stage in self.stages[:-1]), initial=0))

    @property
    def last(self) -> Stage:
        """The last stage."""
        return self.stages[-1]

    @property
    def before_last(self) -> int:
        """Number of steps in all stages except the last."""
        return self.starts[-1]

    @property
    def total(self) -> int:
        """Number of steps in all stages."""
        return self.before_last + self.last.steps

    def index(self, step: int) -> int:
        """Return the index of the stage that the next step belongs to, after `step` steps."""
        return max(i for i, start in enumerate(self.starts) if start <= step)

    def within(self, step: int) -> tuple[int, int]:
        """Return the steps done and the total steps of the stage that made the latest step."""
        i = max(i for i, start in enumerate(self.starts) if start < step or i == 0)
        return step - self.starts[i], self.stages[i].steps

    def images(self, batch_size: int) -> int:
        """Number of images drawn in all steps."""
        return batch_size * sum(stage.steps * stage.batches for stage in self.stages)
