"""Batches in parts, for when memory does not hold them at once.

A loss that is a mean over images has the gradient of the whole batch when the gradients of its parts, each weighted by
its share of the images, are added up; for that every image must meet the same random numbers as within the whole
batch. So losses draw their numbers through `rows`, which inside `part` draws for the whole batch and gives this part's
rows. What looks at several images at once (batch statistics, contrasts) sees those of its part only.
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
    piece: bool = False  # of what this process has of the batch, and not all of it

    @property
    def size(self) -> int:
        """Rows of this part."""
        return self.stop - self.start


_current: ContextVar[Part | None] = ContextVar("part", default=None)
_short: ContextVar[bool] = ContextVar("short", default=False)


@contextmanager
def part(this: Part | None) -> Iterator[None]:
    """While inside, `rows` gives those of this part."""
    token = _current.set(this)
    try:
        yield
    finally:
        _current.reset(token)


def inside(this: Part) -> Part | None:
    """A part of the batch at hand, which may be a part itself, as a part of the whole; None where it is the whole."""
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
    """Random numbers for n images, `draw(n)`; of a part of a batch its rows of what the whole batch draws.

    n may be a multiple of the part's size: several views of every image, one view after the other. `draw` gives a
    tensor of as many rows as it is asked for.
    """
    this = _current.get()
    if this is None or not n:
        return draw(n)
    views = n // max(this.size, 1)
    if views * this.size != n:
        raise ValueError(f"{n} rows are no multiple of a part of {this.size}")
    whole = draw(views * this.total)
    chosen = whole.unflatten(0, (views, this.total))[:, this.start : this.stop]
    return chosen.flatten(0, 1)


def whole(n: int) -> int:
    """Images of the whole batch, of which n are at hand."""
    this = _current.get()
    return n if this is None else this.total


def at_hand(total: int) -> int:
    """Images of a whole batch of `total` that are at hand."""
    this = _current.get()
    return total if this is None else this.size


@contextmanager
def along(count: int) -> Iterator[int]:
    """For `count` things that go with the whole batch: how many of them go with this part, 0 among the answers.

    Inside, `rows` gives their rows.
    """
    this = _current.get()
    if this is None:
        yield count
        return
    share = Part(count * this.start // this.total, count * this.stop // this.total, count)
    with part(share):
        yield share.size


def cut(n: int, size: int, least: int = 1) -> list[Part]:
    """A batch of n in as few parts of at most `size` as can be, alike to one image, none below `least`.

    Where `least` does not allow for `size`, parts are larger.
    """
    count = max(1, min(-(-n // max(size, 1)), n // least))
    edges = [n * i // count for i in range(count + 1)]
    return [Part(start, stop, n) for start, stop in itertools.pairwise(edges)]
