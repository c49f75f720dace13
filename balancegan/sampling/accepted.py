"""Yield sampled images that pass a filter, and count the samples."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from balancegan.sampling.samplers import CHUNK, Sampler

Keep = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Images uint8 (n, C, S, S) and their seeds (n,) to a boolean mask (n,)."""


@dataclass
class Tally:
    """Counts of the samples for one class."""

    samples: int = 0  # drawn
    assigned: int = 0  # those of the class
    accepted: int = 0  # those of the class that were kept

    @property
    def rejected(self) -> int:
        """Samples of the class that the filter rejected."""
        return self.assigned - self.accepted


@dataclass(frozen=True)
class Chunk:
    """The accepted images of a chunk of samples."""

    images: list[tuple[int, np.ndarray]]  # seeds and images uint8 (C, S, S)
    belongs: np.ndarray  # (CHUNK,) which samples are of the class


def accepted_chunks(sampler: Sampler, label: int, keep: Keep | None, first_seed: int, tally: Tally) -> Iterator[Chunk]:
    """Yield the accepted images of one chunk of samples after another, from that of `first_seed` on.

    `keep` (e.g. a `CopyFilter`) says which samples to accept. Images that the method assigns to other classes are
    skipped. Ends when the sampler's patience runs out.
    """
    patience = sampler.patience
    recent: deque[int] = deque(maxlen=patience.chunks)  # accepted per chunk
    for index in count(first_seed // CHUNK):
        if len(recent) == patience.chunks and sum(recent) < patience.lowest * patience.chunks * CHUNK:
            return
        images, belongs = sampler.of_class(label, index)
        mask = belongs.copy()
        if keep and belongs.any():
            mask[belongs] = keep(images[belongs], index * CHUNK + np.flatnonzero(belongs))
        chosen = np.flatnonzero(mask)
        tally.samples += CHUNK
        tally.assigned += int(belongs.sum())
        tally.accepted += len(chosen)
        yield Chunk([(index * CHUNK + int(i), images[i]) for i in chosen], belongs)
        recent.append(len(chosen))


def accepted_images(
    sampler: Sampler,
    label: int,
    need: int,
    keep: Keep | None,
    first_seed: int = 0,
    tally: Tally | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield up to `need` pairs of seed and image uint8 (C, S, S), in the order of seeds from `first_seed` on.

    Ends early when the sampler's patience runs out: the class then gets too few images rather than copies or images of
    other classes. Samples after the last needed image do not count in the `tally`. See `accepted_chunks`.
    """
    tally = tally or Tally()
    most = math.ceil(sampler.patience.tries * need / CHUNK) + sampler.patience.chunks if need else 0
    left = need
    for chunk in islice(accepted_chunks(sampler, label, keep, first_seed, tally), most):
        if left <= len(chunk.images):
            end = chunk.images[left - 1][0] % CHUNK + 1
            tally.samples -= CHUNK - end
            tally.assigned -= int(chunk.belongs[end:].sum())
            tally.accepted -= len(chunk.images) - left
            yield from chunk.images[:left]
            return
        left -= len(chunk.images)
        yield from chunk.images


def first_images(
    samplers: Sequence[Sampler],
    label: int,
    n: int,
    made: Callable[[int], None] = lambda number: None,
    first_seed: int = 0,
) -> tuple[list[int], np.ndarray]:
    """Return seeds and images uint8 (m, C, S, S) of a class's first n images, using the samplers in turn.

    Seeds begin at `first_seed`. m < n if even the last sampler gives up. `made` is called with the images so far.
    """
    seeds: list[int] = []
    images = [np.empty((0, *samplers[0].shape), np.uint8)]
    for sampler in samplers:
        for seed, image in accepted_images(sampler, label, n - len(seeds), None, first_seed + sampler.first_seed):
            seeds.append(seed)
            images.append(image[None])
            made(len(seeds))
    return seeds, np.concatenate(images)
