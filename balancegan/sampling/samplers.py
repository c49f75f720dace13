"""Sample labelled images from seeds: the same seed, class and checkpoint give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from balancegan.compute.memory import Fitting, memory_errors
from balancegan.compute.pixels import to_float, to_uint8
from balancegan.core.errors import CheckpointError, UsageError
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling import langevin

CHUNK = 64
SEED_STRIDE = 10_000_000  # the image seeds of `augment --seed s` begin at s times this number


@dataclass(frozen=True)
class Patience:
    """When to give up on a class: when the share of accepted samples in the latest chunks is too low."""

    chunks: int  # over which the share is measured
    lowest: float  # share below which to give up
    tries: int  # maximum number of samples per image


def latents(method: Method, seeds: Sequence[int]) -> Tensor:
    """Return one latent per seed (n, *latent_shape), each from its own generator."""
    return torch.cat([method.latent(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sampled(
    method: Method,
    z: Tensor,
    label: int,
    seeds: Sequence[int],
    sources: SourceImages | None,
    fitting: Fitting,
) -> Tensor:
    """Return images (n, C, S, S) of a class, in [-1, 1], from latents z (n, …), as many at once as memory holds.

    For a method that starts from real images, each of the `seeds` (n) draws one of `sources`; raises `UsageError` if
    there are none.
    """
    c, source = torch.full((len(z),), label, device=z.device), None
    if classes := method.source_classes(label):
        if sources is None:
            raise UsageError(f"{method.title} starts from real images", "name its data with --data")
        source = to_float(torch.from_numpy(sources.draw(classes, seeds)).to(z.device))
    return fitting.rows(lambda some: method.sample(z[some], c[some], None if source is None else source[some]), len(z))


class Sampler:
    """Samples the images of a class from a conditional method, in chunks of fixed size and fixed membership.

    Seed s is always image s mod `CHUNK` of its chunk, because floating-point results can depend on a batch's size and
    on the position in it. If memory does not hold a chunk, it is made in parts, and a pixel may differ by a level.
    """

    name = "direct"
    first_seed = 0  # offset in `augment`
    patience = Patience(chunks=100, lowest=0.005, tries=100)

    def __init__(self, method: Method, device: torch.device, sources: SourceImages | None = None) -> None:
        if not method.ready:
            raise CheckpointError(f"the training of {method.title} is unfinished", "finish it first")
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.device, self.sources = device, sources
        self.shape = (method.data.channels, method.data.image_size, method.data.image_size)
        self._fitting = Fitting(CHUNK, device, hint="use --device cpu")

    def chunk(self, label: int, index: int) -> np.ndarray:
        """Return the images of seeds index·CHUNK … (index+1)·CHUNK - 1 of one class: uint8 (CHUNK, C, S, S)."""
        return to_uint8(self._generate(label, index)).contiguous().cpu().numpy()

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a chunk, and which of its images are of the class: uint8 (CHUNK, C, S, S) and bool (CHUNK,)."""
        return self.chunk(label, index), np.ones(CHUNK, bool)

    def source_rows(self, label: int, seeds: Sequence[int]) -> np.ndarray | None:
        """Return the rows of the training images that the images of the seeds start from (n,); None for noise."""
        classes = self.method.source_classes(label)
        return self.sources.rows(classes, seeds) if classes and self.sources else None

    def origins(self, label: int) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return the images of other classes that images start from, as a function of seeds (n,); None for none.

        They look as the method starts from them.

        A copy filter needs them; it compares with images of the class itself anyway.
        """
        classes = self.method.source_classes(label)
        sources, method = self.sources, self.method
        if sources is None or not set(classes) - {label}:
            return None

        def origins(seeds: np.ndarray) -> np.ndarray:
            drawn = torch.from_numpy(sources.draw(classes, seeds))
            return method.starting_points(drawn, latents(method, seeds.tolist())).numpy()

        return origins

    def images(self, label: int, seeds: Sequence[int]) -> np.ndarray:
        """Return the images of the given seeds of one class, in their order: uint8 (n, C, S, S)."""
        chunks = {index: self.chunk(label, index) for index in sorted({seed // CHUNK for seed in seeds})}
        return np.stack([chunks[seed // CHUNK][seed % CHUNK] for seed in seeds])

    def of_seeds(self, label: int, seeds: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """Return the seeds whose images are of a class, in their order, and the images: uint8 (m, C, S, S)."""
        chunks = {index: self.of_class(label, index) for index in sorted({seed // CHUNK for seed in seeds})}
        mine = [seed for seed in seeds if chunks[seed // CHUNK][1][seed % CHUNK]]
        images = [chunks[seed // CHUNK][0][seed % CHUNK][None] for seed in mine]
        return mine, np.concatenate([np.empty((0, *self.shape), np.uint8), *images])

    def _generate(self, label: int, index: int) -> Tensor:
        """Generate a chunk as floats in [-1, 1] on the device."""
        c = torch.full((CHUNK,), label, device=self.device)
        with self._equal_bytes():
            seeds = range(index * CHUNK, (index + 1) * CHUNK)
            return sampled(self.method, self._latents(c, seeds), label, seeds, self.sources, self._fitting)

    @contextmanager
    def _equal_bytes(self) -> Iterator[None]:
        """Disable benchmarked kernels and TF32, which could give different results in another process."""
        with (
            memory_errors(self.device, "use --device cpu"),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield

    def _latents(self, c: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the latents of a chunk (CHUNK, *latent_shape)."""
        return latents(self.method, seeds).to(self.device)


class RejectionSampler(Sampler):
    """Finds the images of a class by rejection, for a method whose images do not depend on the requested class.

    The class of an image is the one that the method assigns to it.
    """

    name = "rejection"

    def __init__(self, method: Method, device: torch.device, sources: SourceImages | None = None) -> None:
        super().__init__(method, device, sources)
        self._assigned: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # chunk -> likeliest classes, whether sure

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a chunk, and which of its images are of the class; an empty buffer if none is known to be."""
        if index in self._assigned and not self._members(label, index).any():
            return np.empty((CHUNK, *self.shape), np.uint8), np.zeros(CHUNK, bool)
        x = self._look(label, index)
        return to_uint8(x).contiguous().cpu().numpy(), self._members(label, index)

    def likeliest(self, index: int) -> np.ndarray:
        """Return the likeliest class of each image of a chunk (CHUNK,), for a method that assigns classes."""
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


class LangevinSampler(RejectionSampler):
    """Walks from every latent towards the class, then rejects like `RejectionSampler`.

    For classes that plain sampling rarely produces: a sample costs about 80 times as much (Damage GAN, `tiny`, CPU). If
    half of the walks are accepted, an image then costs what it costs by rejection with one accepted sample in 200, the
    rate at which `RejectionSampler` gives up.
    """

    name = "langevin"
    first_seed = SEED_STRIDE // 2  # so that a seed stands for only one image of a class
    patience = Patience(chunks=8, lowest=0.05, tries=20)

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Like `RejectionSampler.of_class`, but remember nothing: here a chunk's images depend on the class."""
        x = self._look(label, index)
        return to_uint8(x).contiguous().cpu().numpy(), self._members(label, index)

    def _latents(self, c: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the latents after the walk. A seed gives the same latent as without, then the noise of the walk."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        z = torch.cat([self.method.latent(1, generator=g) for g in generators])
        noise = torch.stack([torch.randn(langevin.STEPS, z.shape[1], generator=g) for g in generators], dim=1)
        z, noise = z.to(self.device), noise.to(self.device)  # (CHUNK, latent_dim), (steps, CHUNK, latent_dim)

        def walked(some: slice) -> Tensor:
            energy = partial(self.method.energy, c=c[some], weight=langevin.CLASS_WEIGHT)
            return langevin.walk(z[some], energy, noise[:, some], support=self.method.support)

        with parametrize.cached():  # weights are normalised once, not at every step
            return self._fitting.rows(walked, CHUNK)
