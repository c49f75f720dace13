"""The steps of a stage: its updates in order, on batches of real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from balancegan.compute.microbatch import step_in_parts
from balancegan.compute.ranks import here
from balancegan.data.batches import Batches
from balancegan.methods.base import Method
from balancegan.methods.stages import Stage, Update
from balancegan.training.accumulation import Accumulator


class Steps:
    """Makes a method's steps; holds the optimisers of the current stage and the losses since the last tick.

    Args:
        method: already set up, on `device`.
        batches: the training images.
        device: device of `method` and `batches`.
        note: called with a message when a loss continues in smaller parts.
    """

    def __init__(
        self, method: Method, batches: Batches, device: torch.device, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.method, self.batches, self.device = method, batches, device
        cfg, self.ranks = method.cfg, here()
        self.rows = self.ranks.require_equal_parts(cfg.batch_size, method.least_part)  # of each batch, at this rank
        size = min(cfg.micro_batch or self.rows, self.rows)
        autocast = cfg.amp and device.type == "cuda"
        self.gradients = Accumulator(method, device, size, autocast=autocast, note=note)
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.sums: dict[str, Tensor] = {}
        self.broken = torch.zeros((), dtype=torch.bool, device=device)  # whether a loss was not finite

    def enter(self, stage: Stage, rate: float = 1.0) -> None:
        """Create the stage's optimisers, with its learning rates multiplied by `rate`."""
        self.stage, self.rate = stage, rate
        self._updated_before: list[list[nn.Parameter]] = []  # for each update, what only earlier updates train
        earlier: list[nn.Parameter] = []
        for update in stage.updates:
            own = {id(p) for p in update.parameters()}
            self._updated_before.append([p for p in earlier if id(p) not in own])
            earlier += update.parameters()
        self.optimisers = {
            update.name: torch.optim.Adam(
                list(update.parameters()),
                lr=rate * update.lr,
                betas=update.betas,
                fused=self.device.type in ("cpu", "cuda"),
            )
            for update in stage.updates
        }

    def load(self, states: dict[str, dict[str, object]]) -> None:
        """Load the optimisers' states from a checkpoint, except their learning rates."""
        for update in self.stage.updates:
            self.optimisers[update.name].load_state_dict(states[update.name])
            self._set_rate(update, self.rate * update.lr)

    def step(self, done: int) -> int:
        """Make one step after `done` steps of the stage; return the number of batches drawn."""
        drawn = 0
        short = any(self.gradients.fitting(update.name).size < self.rows for update in self.stage.updates)
        for update, before in zip(self.stage.updates, self._updated_before, strict=True):
            with frozen(before), step_in_parts(short):
                for repeat in range(update.repeats):
                    if not drawn or repeat:
                        x, c = self.batches.draw(self.stage.sampling)
                        drawn += 1
                    self._update(update, x, c, done)
        return drawn

    def mean_losses(self, steps: int) -> dict[str, float]:
        """Return the mean losses; `steps` must be the number of steps since `forget_losses`."""
        return {key: float(value) / steps for key, value in self.sums.items()}

    def forget_losses(self) -> None:
        """Reset the sums of the losses."""
        self.sums = {}
        self.broken.zero_()

    def weights_finite(self) -> bool:
        """Whether the method's state and the optimisers' moments are all finite."""
        moments = [v for o in self.optimisers.values() for state in o.state.values() for v in state.values()]
        tensors = [t for t in (*self.method.state_dict().values(), *moments) if isinstance(t, Tensor)]
        floats = [t for t in tensors if t.is_floating_point() and t.device.type == self.device.type]
        return bool(torch.stack([t.isfinite().all() for t in floats]).all())

    def _update(self, update: Update, x: Tensor, c: Tensor, done: int) -> None:
        """Make one optimiser update; sum the terms for the log and record non-finite losses, all on the device."""
        optimiser = self.optimisers[update.name]
        terms = self.gradients(update.name, update.loss, x, c, optimiser.zero_grad)
        terms = self.ranks.summed((p for group in optimiser.param_groups for p in group["params"]), terms)
        if done < update.warmup_steps:
            self._set_rate(update, self.rate * update.lr * (done + 1) / update.warmup_steps)
        optimiser.step()
        self.broken |= ~torch.isfinite(torch.stack(list(terms.values())).sum())
        for term, value in terms.items():
            key, value = f"loss/{update.name}/{term}", 1 / update.repeats * value
            self.sums[key] = self.sums[key] + value if key in self.sums else value

    def _set_rate(self, update: Update, lr: float) -> None:
        for group in self.optimisers[update.name].param_groups:
            group["lr"] = lr


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Disable gradients of `parameters` inside the context."""
    trainable = [p for p in parameters if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)
