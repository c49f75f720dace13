"""From seeds to labelled images: the same seed, class and checkpoint give the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from balancegan.device import memory_errors
from balancegan.errors import CheckpointError
from balancegan.methods.base import Method
from balancegan.metrics.memorisation import copy_threshold, crowded_threshold, nearest, pixel_features
from balancegan.pixels import to_uint8

CHUNK = 64
RECENT_CHUNKS = 100  # acceptance is watched over this many chunks
LOWEST_ACCEPTANCE = 0.005  # below it a class is given up
TRIES_PER_IMAGE = 100  # and never more than this
GRID_COLUMNS = 8


def latents(method: Method, seeds: Sequence[int]) -> Tensor:
    """One latent per seed (n, latent_dim), each from a generator of its own."""
    return torch.cat([method.latent(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Sampler:
    """Generates in chunks of fixed size and fixed membership: seed s is always image s mod `CHUNK` of its chunk.

    Floating-point results can depend on a batch's size and on the position in it; so both depend on the seed alone.
    A method that is not conditional makes the same image of a seed whatever the class; then the class of an image is
    what the method assigns to it.
    """

    def __init__(self, method: Method, device: torch.device) -> None:
        if not method.ready:
            raise CheckpointError(
                f"the training of {method.title} never came to an end", "continue it to its end first"
            )
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.shape = (method.data.channels, method.data.image_size, method.data.image_size)
        self._assigned: dict[int, np.ndarray] = {}  # chunk -> the classes of its images, -1 for none

    def chunk(self, label: int, index: int) -> np.ndarray:
        """Images of seeds index·CHUNK … (index+1)·CHUNK - 1 of one class: uint8 (CHUNK, C, S, S)."""
        return to_uint8(self._generate(label, index)).contiguous().cpu().numpy()

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A chunk, and which of its images are of the class: uint8 (CHUNK, C, S, S) and bool (CHUNK,)."""
        if self.method.conditional:
            return self.chunk(label, index), np.ones(CHUNK, bool)
        if index in self._assigned and not (self._assigned[index] == label).any():
            return np.empty((CHUNK, *self.shape), np.uint8), np.zeros(CHUNK, bool)
        x = self._generate(label, index)
        self._assigned[index] = self.method.assign(x).cpu().numpy()
        return to_uint8(x).contiguous().cpu().numpy(), self._assigned[index] == label

    @property
    def looked(self) -> int:
        """Samples whose class was assigned so far."""
        return CHUNK * len(self._assigned)

    def shares(self) -> list[float]:
        """Of those, the share assigned to each class."""
        labels = np.concatenate([np.empty(0, np.int64), *self._assigned.values()])
        counts = np.bincount(labels[labels >= 0], minlength=self.method.data.num_classes)
        return (counts / max(1, len(labels))).tolist()

    def images(self, label: int, seeds: Sequence[int]) -> np.ndarray:
        """Images of the given seeds of one class, in their order: uint8 (n, C, S, S)."""
        chunks = {index: self.chunk(label, index) for index in sorted({seed // CHUNK for seed in seeds})}
        return np.stack([chunks[seed // CHUNK][seed % CHUNK] for seed in seeds])

    def of_seeds(self, label: int, seeds: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """Those of the seeds whose images are of a class, in their order, and the images: uint8 (m, C, S, S)."""
        chunks = {index: self.of_class(label, index) for index in sorted({seed // CHUNK for seed in seeds})}
        mine = [seed for seed in seeds if chunks[seed // CHUNK][1][seed % CHUNK]]
        images = [chunks[seed // CHUNK][0][seed % CHUNK][None] for seed in mine]
        return mine, np.concatenate([np.empty((0, *self.shape), np.uint8), *images])

    def first(self, label: int, n: int) -> tuple[list[int], np.ndarray]:
        """Seeds and images uint8 (m, C, S, S) of a class's first n images; m < n where it hardly ever comes."""
        seeds, images = [], [np.empty((0, *self.shape), np.uint8)]
        for seed, image in accepted_images(self, label, n, None):
            seeds.append(seed)
            images.append(image[None])
        return seeds, np.concatenate(images)

    def _generate(self, label: int, index: int) -> Tensor:
        """The same as floats in [-1, 1] on the device."""
        z = latents(self.method, range(index * CHUNK, (index + 1) * CHUNK)).to(self.device)
        c = torch.full((CHUNK,), label, device=self.device)
        # Benchmarked kernels and TF32 could differ from one process to the next; here equal bytes count.
        with (
            memory_errors(self.device, "use --device cpu"),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            return self.method.sample(z, c)


def grid_images(method: Method, device: torch.device, columns: int = GRID_COLUMNS) -> list[np.ndarray]:
    """As many rows as classes, each uint8 (columns, C, S, S).

    Of a conditional method one row per class from seeds 0 … columns-1 (a column shares its latent); of another method
    as many different seeds, whatever comes.
    """
    rows = []
    for label in range(method.data.num_classes):
        first = 0 if method.conditional else label * columns
        z = latents(method, range(first, first + columns)).to(device)
        rows.append(to_uint8(method.sample(z, torch.full((columns,), label, device=device))).cpu().numpy())
    return rows


@dataclass
class CopyFilter:
    """Refuses images that are nearly a training image of the class, or nearly an image accepted before.

    "Nearly" is closer than a low percentile of the class's own real-to-real nearest distances; between synthetic
    images that distance is corrected for how many there will be (`metrics.memorisation`). `reference`: the class's
    training images, uint8 (M, C, S, S); `total`: images the class will have in the end.
    """

    reference: np.ndarray
    total: int = 0
    rejected: int = 0  # counted by `accepted_images`, which knows how many samples were looked at
    _accepted: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real = pixel_features(self.reference)
        self.threshold = copy_threshold(self._real)
        self.spacing = crowded_threshold(self.threshold, self._real, self.total)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Which of the images (n, C, S, S) to keep, as a boolean mask (n,)."""
        features = pixel_features(images)
        keep = nearest(features, self._real)[0] >= self.threshold
        if self._accepted:
            keep &= nearest(features, np.concatenate(self._accepted))[0] >= self.spacing
        within = np.sqrt(np.square(features[:, None] - features[None]).sum(-1))  # (n, n)
        for i in np.flatnonzero(keep):
            keep[i] = not (within[i, :i][keep[:i]] < self.spacing).any()
        self._accepted.append(features[keep])
        return keep


def accepted_images(
    sampler: Sampler, label: int, need: int, keep: CopyFilter | None, first_seed: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield up to `need` pairs of seed and image uint8 (C, S, S), in the order of seeds from `first_seed` on.

    Images that the method assigns to other classes are passed over. Ends early when fewer than `LOWEST_ACCEPTANCE` of
    the latest samples were taken, or after `TRIES_PER_IMAGE` samples per image: such a class is delivered short rather
    than with copies or with images of other classes.
    """
    found, first = 0, first_seed // CHUNK
    recent: deque[int] = deque(maxlen=RECENT_CHUNKS)  # accepted per chunk
    index = first
    while found < need and (index - first) * CHUNK < TRIES_PER_IMAGE * need + RECENT_CHUNKS * CHUNK:
        if len(recent) == RECENT_CHUNKS and sum(recent) < LOWEST_ACCEPTANCE * RECENT_CHUNKS * CHUNK:
            break
        images, belongs = sampler.of_class(label, index)
        mask = belongs.copy()
        if keep and belongs.any():
            mask[belongs] = keep(images[belongs])
        chosen = np.flatnonzero(mask)[: need - found]
        if keep:  # what comes after the last image that was needed counts neither way
            end = chosen[-1] if found + len(chosen) == need else len(mask)
            keep.rejected += int((belongs & ~mask)[:end].sum())
        for i in chosen:
            yield index * CHUNK + int(i), images[i]
            found += 1
        recent.append(len(chosen))
        index += 1
