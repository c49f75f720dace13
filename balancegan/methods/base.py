"""What a method is: the networks and losses of one paper. No optimiser, device, file or command-line code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from balancegan.compute import microbatch as parts
from balancegan.core.config import MethodConfig
from balancegan.core.errors import UsageError

Terms = dict[str, Tensor]
"""Name -> weighted scalar. The training loop sums, back-propagates and logs them."""


class Batches(Protocol):
    """Real training images: batches of x (N, C, S, S) in [-1, 1] and labels c (N,) int64."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless random batches, as training draws them."""

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every training image once, class by class."""


PRESETS = ("default", "paper", "tiny")


@dataclass(frozen=True)
class DataSpec:
    """What networks must know of the data."""

    num_classes: int
    channels: int
    image_size: int
    class_counts: tuple[int, ...]  # training images per class, the held-out part not counted


class Method(nn.Module):
    """Base class. Sub-classes set the class variables, `build` their networks and define the losses.

    Life of an instance: `build` once; while `pretrain_steps` last, `pretrain_loss`, then `end_pretrain`; then for each
    step `n_critic` times `d_loss` and once `g_loss`; `on_epoch` after every pass over the data's size; `end_training`
    whenever it ends, and `on_resume` when it goes on. Random numbers are drawn from torch's global generators, which
    the loop seeds from (seed, step), and through `parts.rows`: where memory is short, losses get a batch in parts of
    at least `least_part` images.
    """

    Config: ClassVar[type[MethodConfig]]
    title: ClassVar[str]
    paper: ClassVar[str]
    conditional: ClassVar[bool]
    image_sizes: ClassVar[tuple[int, ...]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    G: nn.Module
    D: nn.Module
    latent_dim: int
    least_part: ClassVar[int] = 1  # images that the losses need at once
    support: tuple[float, float] = (-float("inf"), float("inf"))  # of the prior, in every coordinate

    def __init__(self, cfg: MethodConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.keep_fakes = False  # whether the generator's update follows, on the same batch in one piece
        self._kept: tuple[Tensor, Tensor] | None = None
        if cfg.image_size not in self.image_sizes:
            sizes = ", ".join(map(str, self.image_sizes))
            raise UsageError(f"image_size = {cfg.image_size} is not a size of {self.title}", f"choose one of {sizes}")
        if cfg.pretrain_steps and not self.pretrains():
            raise UsageError(
                f"pretrain_steps = {cfg.pretrain_steps}, but {self.title} has no pre-training", "leave it out"
            )

    @classmethod
    def pretrains(cls) -> bool:
        """Whether the method has a stage before adversarial training."""
        return cls.pretrain_loss is not Method.pretrain_loss

    def setup(self, data: DataSpec) -> None:
        """Build the networks and, where the configuration asks for it, the generator's moving average `G_ema`."""
        self.data = data
        self.build(data)
        self.G_ema = copy.deepcopy(self.G).requires_grad_(False).eval() if self.cfg.ema_halflife > 0 else None

    def build(self, data: DataSpec) -> None:
        """Create `G`, `D` (and `E` where there is pre-training), and set `latent_dim`."""
        raise NotImplementedError

    def pretrain_parameters(self) -> Iterator[nn.Parameter]:
        """What the pre-training stage optimises."""
        return iter(())

    def d_parameters(self) -> Iterator[nn.Parameter]:
        """What `d_loss` optimises."""
        return self.D.parameters()

    def g_parameters(self) -> Iterator[nn.Parameter]:
        """What `g_loss` optimises."""
        return self.G.parameters()

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Loss of the optional stage before adversarial training."""
        raise NotImplementedError

    def end_pretrain(self, batches: Batches) -> None:
        """Called once between the stages (also when `pretrain_steps` is 0): transfer weights, fit priors."""

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Discriminator loss on a batch of real images."""
        raise NotImplementedError

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Generator loss; real images are passed for methods that need them."""
        raise NotImplementedError

    def judged_fakes(self, labels: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Generated images for the discriminator, as many as labels and of x's type, without gradients; and the labels.

        While `keep_fakes`, they are kept for `improved_fakes`, with what their gradients need.
        """
        self._kept = None  # before others are made: their memory
        with torch.set_grad_enabled(self.keep_fakes):
            c = labels()
            made = self.generate(c)
        self._kept = (made, c) if self.keep_fakes else None
        return made.detach().to(x.dtype), c

    def improved_fakes(self, labels: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Generated images for the generator's loss, and their labels: those kept, once, or new ones."""
        kept, self._kept = self._kept, None
        if kept is not None:
            return kept
        c = labels()
        return self.generate(c), c

    def forget_fakes(self) -> None:
        """Let `improved_fakes` make new ones."""
        self.keep_fakes, self._kept = False, None

    def generate(self, c: Tensor) -> Tensor:
        """As many images as labels (N,), from fresh latents; a generator that knows classes makes theirs."""
        return self.G(self.latent(len(c), device=c.device), c)

    def on_epoch(self) -> None:
        """Called whenever as many images were drawn as the training set has."""

    def end_training(self, batches: Batches) -> None:
        """Called after the last step, and whenever a training is cut short in its adversarial stage."""

    def on_resume(self) -> None:
        """Called when training goes on from a checkpoint, which may have been saved after `end_training`."""

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

    def latent(self, n: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        """Draw z (n, latent_dim) from the generator's prior, by default a standard normal.

        Without a `generator`, in a part of a batch, the part's rows (`parts.rows`).
        """

        def draw(count: int) -> Tensor:
            return self.prior(count, device, generator)

        return draw(n) if generator else parts.rows(draw, n)

    def prior(self, n: int, device: torch.device | str, generator: torch.Generator | None) -> Tensor:
        """n draws from the prior (n, latent_dim)."""
        return torch.randn(n, self.latent_dim, device=device, generator=generator)

    @torch.no_grad()
    def sample(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1] of classes c from latents z, by the averaged generator where there is one.

        In evaluation mode, so that an image does not depend on its neighbours in the batch.
        """
        network = self.G if self.G_ema is None else self.G_ema
        was_training = network.training
        network.eval()
        try:
            return network(z, c)
        finally:
            network.train(was_training)

    def random_labels(self, n: int, device: torch.device) -> Tensor:
        """Labels drawn uniformly over the classes, (n,) int64."""
        return parts.rows(lambda count: torch.randint(self.data.num_classes, (count,), device=device), n)

    def wrong_labels(self, c: Tensor) -> Tensor:
        """For every label another one, uniform over the other classes."""
        shift = parts.rows(lambda n: torch.randint(1, self.data.num_classes, (n,), device=c.device), len(c))
        return (c + shift) % self.data.num_classes

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
