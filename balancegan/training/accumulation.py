"""Gradients of a loss over a batch, in parts where memory does not hold the whole."""

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
    """Back-propagates losses of a method; when memory runs out, in parts of half the size, and so on to `least_part`.

    The parts' gradients are added up, each weighted by its share of the batch, so an update still sees the whole one.
    Losses that are means over images come out the same but for rounding, with the same random numbers. Batch norm
    normalises each part by itself and moves its running statistics once a part, spectral norm makes a power iteration
    a part, and a contrast sees the images of its part alone: fewer to tell apart. Where ranks train together, x and c
    are the rank's rows, and its parts go with the other ranks' parts; the size stays what it is then.

    Args:
        method: whose losses these are.
        device: it is on.
        size: images at once, to begin with.
        autocast: whether losses are computed in bf16 where that is safe.
        note: told when a loss goes on in smaller parts.
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
        # What a forward pass changes: a failed one must leave no trace.
        changing = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) or _iterates(m)]
        averaged = {id(b) for b in method.G_ema.buffers()} if method.G_ema is not None else set()
        self._buffers = [b for m in changing for b in m.buffers(recurse=False) if id(b) not in averaged]
        self._before = [b.clone() for b in self._buffers]

    def __call__(
        self, name: str, loss: Callable[[Tensor, Tensor], Terms], x: Tensor, c: Tensor, clear: Callable[[], None]
    ) -> Terms:
        """Compute the gradients of `loss` on (x, c), after `clear` took the old ones away; returns its terms, detached.

        `name` is the loss's: each has a size of its own. Raises `OutOfMemoryError` where the least part does not fit.
        """
        before = random_state(self.device)
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        attempts = 0

        def work(size: int) -> Terms:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                clear()  # whatever the failed attempt got to
                if self._buffers:
                    torch._foreach_copy_(self._buffers, self._before)
            values: Terms = {}
            for this in cut(len(x), size, self.method.least_part):
                if attempts > 1 or this.start:
                    set_random_state(before, self.device)
                weighted = self._loss(loss, x, c, this)
                if not this.start:
                    clear()  # not before the forward pass: freed so, the gradients' memory is used for them again
                torch.stack(list(weighted.values())).sum().backward()
                for term, value in weighted.items():
                    values[term] = values[term] + value.detach() if term in values else value.detach()
            return values

        if ranks.several():  # one rank alone cannot begin again
            with memory_errors(self.device, f"give all processes less at once: --set micro_batch={len(x) // 2}"):
                return work(min(self.fitting(name).size, len(x)))
        return self.fitting(name).run(work)

    def fitting(self, name: str) -> Fitting:
        """The size of the parts of a loss."""
        if name not in self._fitting:
            self._fitting[name] = Fitting(
                self.size,
                self.device,
                hint=HINT,
                least=self.method.least_part,
                note=lambda text: self.note(f"{text} ({name}); an update still sees all of its batch"),
            )
        return self._fitting[name]

    def sizes(self) -> dict[str, int]:
        """The sizes that had to be found, for a checkpoint."""
        return {name: fitting.size for name, fitting in self._fitting.items() if fitting.size < self.size}

    def begin_with(self, sizes: dict[str, int]) -> None:
        """Take the sizes that an earlier process found."""
        for name, size in sizes.items():
            fitting = self.fitting(name)
            fitting.size = min(size, fitting.size)

    def _loss(self, loss: Callable[[Tensor, Tensor], Terms], x: Tensor, c: Tensor, this: Part) -> Terms:
        """The terms of one part, weighted by its share of the whole batch."""
        among = inside(this)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast), part(among):
            terms = loss(x[this.start : this.stop], c[this.start : this.stop])
        weight = among.size / among.total if among else 1.0
        return {name: weight * value.float() for name, value in terms.items()}


def _iterates(module: nn.Module) -> bool:
    """Whether a module is a spectral norm, which makes a step of its power iteration in every pass."""
    return isinstance(module, nn.utils.parametrizations._SpectralNorm)
