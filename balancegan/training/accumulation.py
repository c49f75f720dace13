"""Gradients of a loss over a batch, accumulated over parts if the batch does not fit in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from balancegan.compute import ranks
from balancegan.compute.device import random_state, set_random_state
from balancegan.compute.memory import Fitting, memory_errors
from balancegan.compute.microbatch import Part, cut, inside, part
from balancegan.methods.base import Method
from balancegan.methods.stages import Terms

HINT = "lower --batch-size or --image-size, or use --preset tiny"


class Accumulator:
    """Back-propagates a method's losses; when memory runs out, halves the part size, down to `least_part`.

    Gradients are summed over parts, each weighted by its share of the batch, so an update still uses the whole batch.
    Losses that are means over images are the same except for rounding, with the same random numbers. Batch norm
    normalises each part separately and updates its running statistics once per part, spectral norm makes one power
    iteration per part, and a contrastive loss sees only the images of its part, i.e. fewer negatives. If several ranks
    train together, x and c are this rank's rows, all ranks work on corresponding parts, and the part size is fixed.

    Args:
        method: the method whose losses are computed.
        device: the method's device.
        size: initial part size in images.
        autocast: whether to compute losses in bf16 where that is safe.
        note: called with a message when a loss continues in smaller parts.
    """

    def __init__(
        self,
        method: Method,
        device: torch.device,
        size: int,
        *,
        autocast: bool = False,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.method, self.device, self.size, self.autocast, self.note = method, device, size, autocast, note
        self._fitting: dict[str, Fitting] = {}
        # Buffers that a forward pass changes; restored after a failed attempt.
        changing = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) or _iterates(m)]
        averaged = {id(b) for b in method.G_ema.buffers()} if method.G_ema is not None else set()
        self._buffers = [b for m in changing for b in m.buffers(recurse=False) if id(b) not in averaged]
        self._before = [b.clone() for b in self._buffers]

    def __call__(
        self, name: str, loss: Callable[[Tensor, Tensor], Terms], x: Tensor, c: Tensor, clear: Callable[[], None]
    ) -> Terms:
        """Compute the gradients of `loss` on (x, c) and return its detached terms; `clear` must zero old gradients.

        `name` identifies the loss: each has its own part size. Raises `OutOfMemoryError` if the smallest part does not
        fit.
        """
        before = random_state(self.device)
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        attempts = 0

        def work(size: int) -> Terms:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                clear()  # gradients of the failed attempt
                if self._buffers:
                    torch._foreach_copy_(self._buffers, self._before)
            values: Terms = {}
            for this in cut(len(x), size, self.method.least_part):
                if attempts > 1 or this.start:
                    set_random_state(before, self.device)
                weighted = self._loss(loss, x, c, this)
                if not this.start:
                    clear()  # after the forward pass, so the new gradients reuse the old ones' memory
                torch.stack(list(weighted.values())).sum().backward()
                for term, value in weighted.items():
                    values[term] = values[term] + value.detach() if term in values else value.detach()
            return values

        if ranks.several():  # a single rank cannot retry on its own
            with memory_errors(self.device, f"give all processes less at once: --set micro_batch={len(x) // 2}"):
                return work(min(self.fitting(name).size, len(x)))
        return self.fitting(name).run(work)

    def fitting(self, name: str) -> Fitting:
        """Return the part size of a loss."""
        if name not in self._fitting:
            self._fitting[name] = Fitting(
                self.size,
                self.device,
                hint=HINT,
                least=self.method.least_part,
                note=lambda text: self.note(f"{text} ({name}); an update still uses its whole batch"),
            )
        return self._fitting[name]

    def sizes(self) -> dict[str, int]:
        """Return the part sizes that had to be reduced, for a checkpoint."""
        return {name: fitting.size for name, fitting in self._fitting.items() if fitting.size < self.size}

    def begin_with(self, sizes: dict[str, int]) -> None:
        """Start from the part sizes that an earlier process found."""
        for name, size in sizes.items():
            fitting = self.fitting(name)
            fitting.size = min(size, fitting.size)

    def _loss(self, loss: Callable[[Tensor, Tensor], Terms], x: Tensor, c: Tensor, this: Part) -> Terms:
        """Return the terms of one part, weighted by its share of the whole batch."""
        among = inside(this)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast), part(among):
            terms = loss(x[this.start : this.stop], c[this.start : this.stop])
        weight = among.size / among.total if among else 1.0
        return {name: weight * value.float() for name, value in terms.items()}


def _iterates(module: nn.Module) -> bool:
    """Whether a module is a spectral norm, which makes one power iteration per training pass."""
    return isinstance(module, nn.utils.parametrizations._SpectralNorm)
