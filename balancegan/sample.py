"""From seeds to labelled images: the same seed, class and checkpoint give the same bytes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from balancegan import langevin
from balancegan.device import memory_errors
from balancegan.errors import CheckpointError, UsageError
from balancegan.methods.base import Method
from balancegan.metrics.memorisation import copy_threshold, crowded_threshold, nearest, pixel_features
from balancegan.parts import Fitting
from balancegan.pixels import to_uint8

CHUNK = 64
SEED_STRIDE = 10_000_000  # `augment --seed s` draws its images' seeds from s times this number on
GRID_COLUMNS = 8


@dataclass(frozen=True)
class Patience:
    """How long a class is waited for: given up when the share of samples taken, over the latest chunks, is too low."""

    chunks: int  # over which the share is watched
    lowest: float  # share
    tries: int  # per image, and never more samples than this


def latents(method: Method, seeds: Sequence[int]) -> Tensor:
    """One latent per seed (n, latent_dim), each from a generator of its own."""
    return torch.cat([method.latent(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Sampler:
    """Generates in chunks of fixed size and fixed membership: seed s is always image s mod `CHUNK` of its chunk.

    Floating-point results can depend on a batch's size and on the position in it; so both depend on the seed alone,
    unless memory does not hold a chunk: then it is made in parts, and a pixel may differ by a level.
    A method that is not conditional makes the same image of a seed whatever the class; then the class of an image is
    what the method assigns to it, and the images of a class are found among all (rejection sampling).
    """

    name = "rejection"
    first_seed = 0  # in `augment`
    patience = Patience(chunks=100, lowest=0.005, tries=100)

    def __init__(self, method: Method, device: torch.device) -> None:
        if not method.ready:
            raise CheckpointError(
                f"the training of {method.title} never came to an end", "continue it to its end first"
            )
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.shape = (method.data.channels, method.data.image_size, method.data.image_size)
        self._fitting = Fitting(CHUNK, device, hint="use --device cpu")
        self._assigned: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # chunk -> likeliest classes, sure ones

    def chunk(self, label: int, index: int) -> np.ndarray:
        """Images of seeds index·CHUNK … (index+1)·CHUNK - 1 of one class: uint8 (CHUNK, C, S, S)."""
        return to_uint8(self._generate(label, index)).contiguous().cpu().numpy()

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A chunk, and which of its images are of the class: uint8 (CHUNK, C, S, S) and bool (CHUNK,)."""
        if self.method.conditional:
            return self.chunk(label, index), np.ones(CHUNK, bool)
        if index in self._assigned and not self._members(label, index).any():
            return np.empty((CHUNK, *self.shape), np.uint8), np.zeros(CHUNK, bool)
        x = self._look(label, index)
        return to_uint8(x).contiguous().cpu().numpy(), self._members(label, index)

    def likeliest(self, index: int) -> np.ndarray:
        """The class that is likeliest for each image of a chunk (CHUNK,), for a method that assigns classes."""
        if index not in self._assigned:
            self._look(0, index)
        return self._assigned[index][0]

    def _look(self, label: int, index: int) -> Tensor:
        """Generate a chunk and remember the classes of its images."""
        x = self._generate(label, index)
        with self._equal_bytes():
            found = self._fitting.rows(lambda some: torch.stack(self.method.assign(x[some]), dim=1), CHUNK)
        self._assigned[index] = found[:, 0].cpu().numpy(), found[:, 1].bool().cpu().numpy()
        return x

    def _members(self, label: int, index: int) -> np.ndarray:
        likeliest, sure = self._assigned[index]
        return (likeliest == label) & sure

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

    def _generate(self, label: int, index: int) -> Tensor:
        """The same as floats in [-1, 1] on the device."""
        c = torch.full((CHUNK,), label, device=self.device)
        with self._equal_bytes():
            z = self._latents(c, range(index * CHUNK, (index + 1) * CHUNK))
            return self._fitting.rows(lambda some: self.method.sample(z[some], c[some]), CHUNK)

    @contextmanager
    def _equal_bytes(self) -> Iterator[None]:
        """Without benchmarked kernels and TF32, which could differ from one process to the next."""
        with (
            memory_errors(self.device, "use --device cpu"),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield

    def _latents(self, c: Tensor, seeds: Sequence[int]) -> Tensor:
        """Where the images of a chunk come from (CHUNK, latent_dim)."""
        return latents(self.method, seeds).to(self.device)


class LangevinSampler(Sampler):
    """Walks from every latent towards the class before it is looked at; then as rejection sampling.

    For the classes that hardly ever come by themselves: a sample costs some 80 times as much (Damage GAN, `tiny`, CPU).
    With every second walk taken that is what an image costs by rejection where one sample in 200 is, which is where
    `Sampler` gives up.
    """

    name = "langevin"
    first_seed = SEED_STRIDE // 2  # so that a seed names one image of a class
    patience = Patience(chunks=8, lowest=0.05, tries=20)

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """As before; what a chunk's images are depends on the class here, so nothing is remembered."""
        x = self._look(label, index)
        return to_uint8(x).contiguous().cpu().numpy(), self._members(label, index)

    def _latents(self, c: Tensor, seeds: Sequence[int]) -> Tensor:
        """After the walk. A seed gives the latent that it gives without, and then the noise of the walk."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        z = torch.cat([self.method.latent(1, generator=g) for g in generators])
        noise = torch.stack([torch.randn(langevin.STEPS, z.shape[1], generator=g) for g in generators], dim=1)
        z, noise = z.to(self.device), noise.to(self.device)  # (CHUNK, latent_dim), (steps, CHUNK, latent_dim)

        def walked(some: slice) -> Tensor:
            energy = partial(self.method.energy, c=c[some], weight=langevin.CLASS_WEIGHT)
            return langevin.walk(z[some], energy, noise[:, some], support=self.method.support)

        with parametrize.cached():  # weights are normalised once, not at every step
            return self._fitting.rows(walked, CHUNK)


SAMPLERS: dict[str, tuple[type[Sampler], ...]] = {
    "auto": (Sampler, LangevinSampler),
    "rejection": (Sampler,),
    "langevin": (LangevinSampler,),
}


def make_samplers(method: Method, device: torch.device, choice: str = "auto") -> tuple[Sampler, ...]:
    """What images of a class are taken from, each where those before gave it up.

    A method that makes the class that it is asked for needs one alone. Raises `UsageError` for another choice than
    `auto` there, or one that does not exist.
    """
    if choice not in SAMPLERS:
        raise UsageError(f"--sampler {choice} is not known", f"choose one of {', '.join(SAMPLERS)}")
    if method.conditional and choice != "auto":
        raise UsageError(f"{method.title} makes the class that it is asked for: --sampler has no use", "leave it out")
    from balancegan.spread import spread

    kinds = SAMPLERS[choice] if not method.conditional else (Sampler,)
    return tuple(spread(kind(method, device)) for kind in kinds)


def grid_images(method: Method, device: torch.device, columns: int = GRID_COLUMNS) -> list[np.ndarray]:
    """As many rows as classes, each uint8 (columns, C, S, S).

    Of a conditional method one row per class from seeds 0 … columns-1 (a column shares its latent); of another method
    as many different seeds, whatever comes.
    """
    fitting = Fitting(columns, device)

    def row(label: int) -> Tensor:
        first = 0 if method.conditional else label * columns
        z = latents(method, range(first, first + columns)).to(device)
        c = torch.full((columns,), label, device=device)
        return fitting.rows(lambda some: method.sample(z[some], c[some]), columns)

    return [to_uint8(row(label)).cpu().numpy() for label in range(method.data.num_classes)]


@dataclass
class CopyFilter:
    """Refuses images that are nearly a training image of the class, or nearly an image accepted before.

    "Nearly" is closer than a low percentile of the class's own real-to-real nearest distances; between synthetic
    images that distance is corrected for how many there will be (`metrics.memorisation`). `reference`: the class's
    training images, uint8 (M, C, S, S); `total`: images the class will have in the end.
    """

    reference: np.ndarray
    total: int = 0
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


@dataclass
class Tally:
    """What became of the samples of one class."""

    samples: int = 0  # looked at
    assigned: int = 0  # of them, those of the class
    accepted: int = 0  # of those, the ones that were taken

    @property
    def rejected(self) -> int:
        """Samples of the class that the filter refused."""
        return self.assigned - self.accepted


def accepted_images(
    sampler: Sampler,
    label: int,
    need: int,
    keep: Callable[[np.ndarray], np.ndarray] | None,
    first_seed: int = 0,
    tally: Tally | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield up to `need` pairs of seed and image uint8 (C, S, S), in the order of seeds from `first_seed` on.

    `keep` (a `CopyFilter`) says which of some images uint8 (n, C, S, S) to take, as a boolean mask (n,). Images that
    the method assigns to other classes are passed over. Ends early when the sampler's patience does: such
    a class is delivered short rather than with copies or with images of other classes. What comes after the last image
    that was needed does not count in the `tally`.
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
            mask[belongs] = keep(images[belongs])
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


def first_images(samplers: Sequence[Sampler], label: int, n: int) -> tuple[list[int], np.ndarray]:
    """Seeds and images uint8 (m, C, S, S) of a class's first n images, by the samplers in turn.

    m < n where even the last one gives up.
    """
    seeds: list[int] = []
    images = [np.empty((0, *samplers[0].shape), np.uint8)]
    for sampler in samplers:
        for seed, image in accepted_images(sampler, label, n - len(seeds), None, sampler.first_seed):
            seeds.append(seed)
            images.append(image[None])
    return seeds, np.concatenate(images)
