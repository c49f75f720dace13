"""The base class of all methods: the networks and losses of one paper, without optimisers, devices, files or CLI."""

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
from balancegan.core.options import SamplingOptions, Start
from balancegan.methods.stages import Batches, Schedule, Stage

PRESETS = ("default", "paper", "tiny")


@dataclass(frozen=True)
class DataSpec:
    """What the networks need to know about the data."""

    num_classes: int
    channels: int
    image_size: int
    class_counts: tuple[int, ...]  # training images per class, without held-out images
    class_names: tuple[str, ...] = ()


class Method(nn.Module):
    """Base class. Subclasses set the class variables, create their networks in `build` and define training in `stages`.

    Life cycle: `setup` is called once; the loop then runs the stages, calls `on_epoch` after each epoch's worth of
    images, and calls `on_resume` when training continues from a checkpoint.

    Losses are means over the images of the batch. They draw random numbers from `compute.batch_random`: the loop seeds
    torch's generators from (seed, step). If memory runs short, the loop splits a batch into parts of at least
    `least_part` images, and `batch_random` gives each image the numbers that it would get in the whole batch.
    """

    Config: ClassVar[type[MethodConfig]]
    title: ClassVar[str]
    paper: ClassVar[str]
    image_sizes: ClassVar[tuple[int, ...]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    conditional: ClassVar[bool] = True  # whether the generator takes a class label
    samplers: ClassVar[tuple[str, ...]] = ("direct",)  # names in `sampling.choice`; each is a fallback for the previous
    encoder_kind: ClassVar[str] = ""  # "plain" or "variational" if the method has `encode`
    least_part: ClassVar[int] = 1  # fewest images that the losses can work on
    starts: ClassVar[tuple[Start, ...]] = ("noise",)  # what a user may choose that images start from
    guided: ClassVar[bool] = False  # whether `sampling.guidance` has an effect

    G: nn.Module
    G_ema: nn.Module | None
    latent_dim: int
    support: tuple[float, float] = (-float("inf"), float("inf"))  # of the prior, per coordinate
    sampling = SamplingOptions()  # set by `sample_with`

    def __init__(self, cfg: MethodConfig) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.image_size not in self.image_sizes:
            sizes = ", ".join(map(str, self.image_sizes))
            raise UsageError(f"{self.title} does not support image_size = {cfg.image_size}", f"choose one of {sizes}")
        if cfg.pretrain_steps and len(self.stages()) == 1:
            raise UsageError(
                f"pretrain_steps = {cfg.pretrain_steps}, but {self.title} has no pre-training", "leave it out"
            )

    @classmethod
    def pretrains(cls) -> bool:
        """Whether the method has a stage before the last one."""
        return len(cls(cls.Config(image_size=cls.image_sizes[0])).stages()) > 1

    def setup(self, data: DataSpec) -> None:
        """Build the networks and, if the configuration enables it, the generator's moving average `G_ema`."""
        self.data = data
        self.build(data)
        self.G_ema = copy.deepcopy(self.G).requires_grad_(False).eval() if self.cfg.ema_halflife > 0 else None

    def build(self, data: DataSpec) -> None:
        """Create the generator `G` and all other networks, and set `latent_dim` unless `latent_shape` is overridden."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the schedule, which refers to this object's own methods; a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "schedule"}

    def stages(self) -> tuple[Stage, ...]:
        """Return the training stages in order. Also called before `setup`.

        The last stage has `cfg.steps` steps. If there are several, the first has `cfg.pretrain_steps`; any other stage
        takes its length from a configuration field of its own.
        """
        raise NotImplementedError

    @cached_property
    def schedule(self) -> Schedule:
        """The stages with at least one step, and the last one."""
        return Schedule.of(self.stages())

    # Sampling --------------------------------------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return (self.latent_dim,)

    def latent(self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        """Draw z (n, *latent_shape) from the prior, by default a standard normal.

        Without `generator`, within a part of a batch, the result is that part's rows of the whole batch's draw.
        """

        def draw(count: int) -> Tensor:
            return self.prior(count, device, generator)

        return draw(n) if generator else batch_random.rows(draw, n)

    def prior(self, n: int, device: torch.device | str, generator: torch.Generator | None) -> Tensor:
        """Draw n latents from the prior (n, *latent_shape)."""
        return torch.randn(n, *self.latent_shape, device=device, generator=generator)

    def sample_with(self, options: SamplingOptions) -> None:
        """Use these options from now on. Raises `UsageError` if the method does not offer one."""
        if options.from_ not in self.starts:
            raise UsageError(f"--from {options.from_} does not apply to {self.title}", "leave it out, or use edm")
        if options.guidance is not None and not self.guided:
            raise UsageError(f"{self.title} has no guidance", "leave out --guidance, or use edm")
        self.sampling = options

    def notes(self) -> list[str]:
        """Return what readers of a report must know: that images start from real ones, or nothing."""
        return self.sampling.notes()

    def source_classes(self, label: int) -> tuple[int, ...]:
        """Classes whose training images serve as `source` when sampling class `label`; by default as the user chose."""
        if self.sampling.from_ == "own":
            return (label,)
        return tuple(k for k in range(self.data.num_classes) if k != label and self.sampling.from_ == "other")

    def starting_points(self, source: Tensor, z: Tensor) -> Tensor:
        """Return the source images (n, C, S, S) as images start from them, given the latents z."""
        return source

    @property
    def uses_sources(self) -> bool:
        """Whether sampling any class needs source images."""
        return any(self.source_classes(label) for label in range(self.data.num_classes))

    @torch.no_grad()
    def sample(self, z: Tensor, c: Tensor, source: Tensor | None = None) -> Tensor:
        """Generate images (n, C, S, S) in [-1, 1].

        Args:
            z: latents (n, *latent_shape).
            c: classes (n,).
            source: real images (n, C, S, S) of `source_classes`, for methods that use them.

        Uses the averaged generator if it exists, in evaluation mode, so an image does not depend on the rest of its
        batch.
        """
        with self.sampling_network() as network:
            return network(z, c)

    @contextmanager
    def sampling_network(self) -> Iterator[nn.Module]:
        """Yield `G_ema` if it exists, otherwise `G`, in evaluation mode; restores the mode afterwards."""
        network = self.G if self.G_ema is None else self.G_ema
        was_training = network.training
        network.eval()
        try:
            yield network
        finally:
            network.train(was_training)

    @property
    def ready(self) -> bool:
        """Whether the method can sample images of a given class."""
        return True

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest class of each image (N,), and whether its probability is high enough (N,) bool.

        Only unconditional methods implement this and `energy`.
        """
        raise NotImplementedError

    def energy(self, z: Tensor, c: Tensor, weight: float) -> Tensor:
        """Return an energy that is low if G(z) looks real and like class c: (N, latent_dim), (N,) -> (N,).

        Differentiable in z. `weight` is the weight of the class term relative to the realism term.
        """
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Encode images to latents (N, latent_dim); a variational encoder returns means. Requires an `encoder_kind`."""
        raise NotImplementedError

    # Conditions ------------------------------------------------------------------------------------------------------

    def condition_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return the conditions that the generator accepts: the classes, or one name for all of them."""
        return tuple(class_names)

    @property
    def num_conditions(self) -> int:
        """Number of `condition_names`."""
        return len(self.condition_names([str(label) for label in range(self.data.num_classes)]))

    def references(self, batches: Batches, most: int) -> Iterator[np.ndarray]:
        """Yield real images for each of `condition_names`, to compare diversity with: uint8 (n, C, S, S)."""
        return (batches.of_class(label, most) for label in range(self.data.num_classes))

    # Training --------------------------------------------------------------------------------------------------------

    def on_epoch(self) -> None:
        """Called, in any stage, each time training has drawn as many images as the training set holds."""

    def on_resume(self) -> None:
        """Called when training continues from a checkpoint, which may have been saved after a stage's `end`."""

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
