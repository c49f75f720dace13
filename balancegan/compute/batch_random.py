"""Random numbers for the images of a batch, identical whether it is processed whole or in parts.

Losses draw from here, so that they need not know whether memory is short or other processes share the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from balancegan.compute import microbatch
from balancegan.compute.microbatch import in_parts, rows

__all__ = ["companions", "every_nth", "in_parts", "rand", "randint", "randn", "rows"]


def randn(n: int, *shape: int, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return standard normal numbers for n images, (n, *shape)."""
    return rows(lambda count: torch.randn(count, *shape, device=device, dtype=dtype), n)


def rand(n: int, *shape: int, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers uniform over [0, 1) for n images, (n, *shape)."""
    return rows(lambda count: torch.rand(count, *shape, device=device, dtype=dtype), n)


def randint(low: int, high: int, n: int, device: torch.device) -> Tensor:
    """Return integers from `low` to `high` - 1 for n images, (n,) int64."""
    return rows(lambda count: torch.randint(low, high, (count,), device=device), n)


def every_nth(n: int, every: int) -> tuple[slice, float]:
    """Return which of the current n images belong to every `every`-th of the whole batch, and a weight for their mean.

    Means over the chosen images of each part, times these weights, combine like means over all images of each part.
    """
    first, total = int(rows(torch.arange, n)[0]), microbatch.whole(n)
    chosen = slice(-first % every, None, every)
    return chosen, len(range(n)[chosen]) / n * total / math.ceil(total / every)


@contextmanager
def companions(n: int, per: int) -> Iterator[tuple[int, float]]:
    """Share out companions, one for every `per` images of a whole batch of which n images are in the current part.

    Yields this part's number of companions, which may be 0, and a weight: a sum over these n images and their
    companions, times the weight, is their contribution to the mean over the whole batch and all companions. Random
    numbers drawn inside are those of the companions.
    """
    total = microbatch.whole(n)
    everyone = math.ceil(total / per)
    with microbatch.along(everyone) as count:
        yield count, total / n / (total + everyone)
