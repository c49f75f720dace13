"""Yield sampled images that pass a filter, and count the samples."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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


def accepted_images(
    sampler: Sampler,
    label: int,
    need: int,
    keep: Keep | None,
    first_seed: int = 0,
    tally: Tally | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield up to `need` pairs of seed and image uint8 (C, S, S), in the order of seeds from `first_seed` on.

    `keep` (e.g. a `CopyFilter`) says which samples to accept. Images that the method assigns to other classes are
    skipped. Ends early when the sampler's patience runs out: the class then gets too few images rather than copies or
    images of other classes. Samples after the last needed image do not count in the `tally`.
    """
    tally = tally or Tally()
    patience, first = sampler.patience, first_seed // CHUNK
    recent: deque[int] = deque(maxlen=patience.chunks)  # accepted per chunk
    for index in range(first, first + math.ceil(patience.tries * need / CHUNK) + patience.chunks if need else first):
        if len(recent) == patience.chunks and sum(recent) < patience.lowest * patience.chunks * CHUNK:
            return
        images, belongs = sampler.of_class(label, index)
        mask = belongs.copy()
        if keep and belongs.any():
            mask[belongs] = keep(images[belongs], index * CHUNK + np.flatnonzero(belongs))
        chosen = np.flatnonzero(mask)[: need - tally.accepted]
        done = tally.accepted + len(chosen) == need
        end = int(chosen[-1]) + 1 if done else CHUNK
        tally.samples += end
        tally.assigned += int(belongs[:end].sum())
        tally.accepted += len(chosen)
        for i in chosen:
            yield index * CHUNK + int(i), images[i]
        if done:
            return
        recent.append(len(chosen))


def first_images(
    samplers: Sequence[Sampler],
    label: int,
    n: int,
    made: Callable[[int], None] = lambda count: None,
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
