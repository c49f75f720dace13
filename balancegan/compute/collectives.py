"""Differentiable sums and gathered rows across ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from balancegan.compute.ranks import here, reduce_in_place, several


def all_sum(x: Tensor) -> Tensor:
    """Return the sum of the ranks' tensors, which must have the same shape; twice differentiable."""
    return _AllSum.apply(x) if several() else x


def gathered(x: Tensor) -> Tensor:
    """Concatenate the ranks' rows in rank order, (N, …) -> (N·ranks, …), with gradients to all of them."""
    if not several():
        return x
    n = len(x)
    everyone = x.new_zeros(n * here().size, *x.shape[1:])
    everyone[here().rank * n : (here().rank + 1) * n] = x
    return all_sum(everyone)


def first_row(n: int) -> int:
    """Return where this rank's n rows begin in the result of `gathered`."""
    return here().rank * n if several() else 0


class _AllSum(torch.autograd.Function):
    """Sum over ranks. All ranks' losses see the sum, so its gradient is the sum of the gradients on all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        reduce_in_place(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _AllSum.apply(gradient)
