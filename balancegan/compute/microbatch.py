"""Process batches in parts if memory does not hold them at once.

For a loss that is a mean over images, the gradients of its parts, each weighted by its share of the images, add up to
the gradient of the whole batch, provided that every image gets the same random numbers as in the whole batch. So losses
draw their numbers through `rows`, which inside `part` draws for the whole batch and returns this part's rows.
Operations across images (batch statistics, contrasts) see only the images of their part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of a batch of `total`."""

    start: int
    stop: int
    total: int
    piece: bool = False  # not all of this process's share of the batch

    @property
    def size(self) -> int:
        """Number of rows in this part."""
        return self.stop - self.start


_current: ContextVar[Part | None] = ContextVar("part", default=None)
_short: ContextVar[bool] = ContextVar("short", default=False)


@contextmanager
def part(this: Part | None) -> Iterator[None]:
    """Inside, `rows` returns the rows of this part."""
    token = _current.set(this)
    try:
        yield
    finally:
        _current.reset(token)


def inside(this: Part) -> Part | None:
    """Express a part of the current batch, itself possibly a part, as a part of the whole batch; None if whole."""
    outer = _current.get()
    piece = this.size != this.total
    if outer is None:
        return replace(this, piece=True) if piece else None
    return Part(outer.start + this.start, outer.start + this.stop, outer.total, piece or outer.piece)


@contextmanager
def step_in_parts(short: bool) -> Iterator[None]:
    """While inside, `in_parts` is true if `short`: some update of the step has to split its batch."""
    token = _short.set(short)
    try:
        yield
    finally:
        _short.reset(token)


def in_parts() -> bool:
    """Whether memory is too short for this process's whole batch, here or in another update of the step."""
    this = _current.get()
    return _short.get() or (this is not None and this.piece)


def rows(draw: Callable[[int], Tensor], n: int) -> Tensor:
    """Return random numbers for n images, `draw(n)`; inside a part, its rows of what the whole batch draws.

    n may be a multiple of the part's size: several views of every image, one view after the other. `draw` returns a
    tensor with as many rows as requested.
    """
    this = _current.get()
    if this is None or not n:
        return draw(n)
    views = n // max(this.size, 1)
    if views * this.size != n:
        raise ValueError(f"{n} rows are not a multiple of the part's {this.size}")
    whole = draw(views * this.total)
    chosen = whole.unflatten(0, (views, this.total))[:, this.start : this.stop]
    return chosen.flatten(0, 1)


def whole(n: int) -> int:
    """Return the size of the whole batch, of which n images are in the current part."""
    this = _current.get()
    return n if this is None else this.total


def at_hand(total: int) -> int:
    """Return how many images of a whole batch of `total` are in the current part."""
    this = _current.get()
    return total if this is None else this.size


@contextmanager
def along(count: int) -> Iterator[int]:
    """Yield how many of `count` items that go with the whole batch go with this part, possibly 0.

    Inside, `rows` returns their rows.
    """
    this = _current.get()
    if this is None:
        yield count
        return
    share = Part(count * this.start // this.total, count * this.stop // this.total, count)
    with part(share):
        yield share.size


def cut(n: int, size: int, least: int = 1) -> list[Part]:
    """Cut a batch of n into as few parts of at most `size` as possible, equal to within one image.

    No part is smaller than `least`, even if parts are then larger than `size`.
    """
    count = max(1, min(-(-n // max(size, 1)), n // least))
    edges = [n * i // count for i in range(count + 1)]
    return [Part(start, stop, n) for start, stop in itertools.pairwise(edges)]
