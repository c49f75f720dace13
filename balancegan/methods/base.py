"""What a method is: the networks and losses of one paper. No optimiser, device, file or command-line code."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.core.config import MethodConfig
from balancegan.core.errors import UsageError
from balancegan.methods.stages import Batches, Schedule, Stage

PRESETS = ("default", "paper", "tiny")


@dataclass(frozen=True)
class DataSpec:
    """What networks must know of the data."""

    num_classes: int
    channels: int
    image_size: int
    class_counts: tuple[int, ...]  # training images per class, the held-out part not counted


class Method(nn.Module):
    """Base class. Sub-classes set the class variables, `build` their networks and say in `stages` how they are trained.

    Life of an instance: `setup` once; then the loop runs the stages; `on_epoch` after every pass over the data's size;
    `on_resume` when a training goes on. Losses draw their random numbers from `compute.batch_random`: the loop seeds
    torch's generators from (seed, step), and where memory is short, losses get a batch in parts of at least
    `least_part` images and draw for a part what the whole batch would draw.
    """

    Config: ClassVar[type[MethodConfig]]
    title: ClassVar[str]
    paper: ClassVar[str]
    image_sizes: ClassVar[tuple[int, ...]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    conditional: ClassVar[bool] = True  # whether the generator makes the class that it is asked for
    samplers: ClassVar[tuple[str, ...]] = ("direct",)  # names in `sampling.choice`, each where those before give up
    encoder_kind: ClassVar[str] = ""  # "plain" or "variational" where `encode` gives latents
    least_part: ClassVar[int] = 1  # images that the losses need at once

    G: nn.Module
    G_ema: nn.Module | None
    latent_dim: int
    support: tuple[float, float] = (-float("inf"), float("inf"))  # of the prior, in every coordinate

    def __init__(self, cfg: MethodConfig) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.image_size not in self.image_sizes:
            sizes = ", ".join(map(str, self.image_sizes))
            raise UsageError(f"image_size = {cfg.image_size} is not a size of {self.title}", f"choose one of {sizes}")
        if cfg.pretrain_steps and len(self.stages()) == 1:
            raise UsageError(
                f"pretrain_steps = {cfg.pretrain_steps}, but {self.title} has no pre-training", "leave it out"
            )

    @classmethod
    def pretrains(cls) -> bool:
        """Whether there is a stage before the last one."""
        return len(cls(cls.Config(image_size=cls.image_sizes[0])).stages()) > 1

    def setup(self, data: DataSpec) -> None:
        """Build the networks and, where the configuration asks for it, the generator's moving average `G_ema`."""
        self.data = data
        self.build(data)
        self.G_ema = copy.deepcopy(self.G).requires_grad_(False).eval() if self.cfg.ema_halflife > 0 else None

    def build(self, data: DataSpec) -> None:
        """Create `G`, which makes images, and every other network, and set `latent_dim`."""
        raise NotImplementedError

    def stages(self) -> tuple[Stage, ...]:
        """What the loop runs, in order; also called before `setup`.

        The last stage has `cfg.steps` steps, the first of several `cfg.pretrain_steps`, any other as many as a field
        of its own says.
        """
        raise NotImplementedError

    @cached_property
    def schedule(self) -> Schedule:
        """The stages that have steps."""
        return Schedule.of(self.stages())

    # Sampling --------------------------------------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return (self.latent_dim,)

    def latent(self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        """Draw z (n, *latent_shape) from the generator's prior, by default a standard normal.

        Without a `generator`, in a part of a batch, the part's rows.
        """

        def draw(count: int) -> Tensor:
            return self.prior(count, device, generator)

        return draw(n) if generator else batch_random.rows(draw, n)

    def prior(self, n: int, device: torch.device | str, generator: torch.Generator | None) -> Tensor:
        """n draws from the prior (n, *latent_shape)."""
        return torch.randn(n, *self.latent_shape, device=device, generator=generator)

    def source_classes(self, label: int) -> tuple[int, ...]:
        """Classes whose training images `sample` starts from to make images of a class; none by default."""
        return ()

    @property
    def uses_sources(self) -> bool:
        """Whether images of any class start from real ones."""
        return any(self.source_classes(label) for label in range(self.data.num_classes))

    @torch.no_grad()
    def sample(self, z: Tensor, c: Tensor, source: Tensor | None = None) -> Tensor:
        """Images (n, C, S, S) in [-1, 1].

        Args:
            z: latents (n, *latent_shape).
            c: classes (n,).
            source: real images (n, C, S, S) of `source_classes`, for methods that start from them.

        By the averaged generator where there is one, in evaluation mode, so that an image does not depend on its
        neighbours in the batch.
        """
        with self.sampling_network() as network:
            return network(z, c)

    @contextmanager
    def sampling_network(self) -> Iterator[nn.Module]:
        """The network that samples: averaged where there is an average, in evaluation mode while inside."""
        network = self.G if self.G_ema is None else self.G_ema
        was_training = network.training
        network.eval()
        try:
            yield network
        finally:
            network.train(was_training)

    @property
    def ready(self) -> bool:
        """Whether images of a class can be sampled."""
        return True

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class of each image (N,) and whether it is likely enough to count as one of it (N,) bool.

        For methods that cannot be asked for a class, as is `energy`.
        """
        raise NotImplementedError

    def energy(self, z: Tensor, c: Tensor, weight: float) -> Tensor:
        """Low where a latent's image is real and of class c, differentiable in z: (N, latent_dim), (N,) -> (N,).

        `weight` is that of the class against that of realism.
        """
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, latent_dim) of images, for methods with an `encoder_kind`; means where it is variational."""
        raise NotImplementedError

    # What can be asked for -------------------------------------------------------------------------------------------

    def condition_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """What the generator can be asked for: the classes, or one name that stands for all of them."""
        return tuple(class_names)

    def references(self, batches: Batches, most: int) -> Iterator[np.ndarray]:
        """Real images that generated ones should vary like: uint8 (n, C, S, S) for each of `condition_names`."""
        return (batches.of_class(label, most) for label in range(self.data.num_classes))

    # Training --------------------------------------------------------------------------------------------------------

    def on_epoch(self) -> None:
        """Called whenever as many images were drawn as the training set has."""

    def on_resume(self) -> None:
        """Called when training goes on from a checkpoint, which may have been saved after the last stage's `end`."""

    @torch.no_grad()
    def update_ema(self, beta: float) -> None:
        """Move `G_ema` (weights and batch statistics) towards `G`: ema = β·ema + (1-β)·G; β = 0 copies."""
        if self.G_ema is None:
            return
        pairs = list(zip(self.G_ema.state_dict().values(), self.G.state_dict().values(), strict=True))
        floats = [(e, g) for e, g in pairs if e.is_floating_point()]
        torch._foreach_lerp_([e for e, _ in floats], [g for _, g in floats], 1 - beta)
        for e, g in pairs:
            if not e.is_floating_point():
                e.copy_(g)
