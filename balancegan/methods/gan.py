"""Base class and configuration of all GANs: a step is `n_critic` discriminator updates and one generator update.

This module defines no method of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.core.config import MethodConfig, require
from balancegan.methods.base import Method
from balancegan.methods.stages import Batches, Stage, Terms, Update


@dataclass(frozen=True, kw_only=True)
class GANConfig(MethodConfig):
    """Fields of all GANs. `images_seen` counts what the discriminator (or, before it, the autoencoder) sees."""

    n_critic: int = 1  # discriminator updates per generator update
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    lr_pretrain: float = 2e-4
    warmup_steps: int = 0  # adversarial steps over which the learning rates rise linearly from 0
    beta1: float = 0.5
    beta2: float = 0.999
    pretrain_beta1: float = 0.5
    shared_fakes: bool = False  # the generator update reuses the discriminator's last fakes

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_least(1, "n_critic")
        self.require_least(0, "warmup_steps")
        for name in ("lr_g", "lr_d", "lr_pretrain"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "between 0 and 1")
        for name in ("beta1", "beta2", "pretrain_beta1"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")


class GAN(Method):
    """Subclasses build `G` and `D` and define the two losses."""

    cfg: GANConfig
    D: nn.Module

    def __init__(self, cfg: GANConfig) -> None:
        super().__init__(cfg)
        self._kept: tuple[Tensor, Tensor] | None = None  # fakes and their labels, for the next g_loss

    def stages(self) -> tuple[Stage, ...]:
        """Return the adversarial stage."""
        cfg, betas = self.cfg, (self.cfg.beta1, self.cfg.beta2)
        d = Update("d", self.d_loss, self.d_parameters, cfg.lr_d, betas, cfg.n_critic, cfg.warmup_steps)
        g = Update("g", self.g_loss, self.g_parameters, cfg.lr_g, betas, 1, cfg.warmup_steps)
        return (Stage("adversarial", cfg.steps, (d, g), begin=self.begin_adversarial, end=self.end_adversarial),)

    def d_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that `d_loss` trains."""
        return self.D.parameters()

    def g_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that `g_loss` trains."""
        return self.G.parameters()

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Compute the discriminator loss on a batch of real images."""
        raise NotImplementedError

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Compute the generator loss; x and c are a real batch, for methods that need one."""
        raise NotImplementedError

    def begin_adversarial(self, batches: Batches) -> None:
        """Called before the first adversarial step, with or without pre-training, e.g. to transfer weights."""

    def end_adversarial(self, batches: Batches) -> None:
        """Called after the last adversarial step, and whenever adversarial training is interrupted."""

    def fakes_for_d(self, labels: Callable[[], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return detached fakes for the discriminator, in x's dtype, and their labels, which `labels` draws.

        With `shared_fakes`, they are kept for `fakes_for_g` with their graph, unless batches are split for memory.
        """
        self._kept = None  # free the previous fakes first
        keep = self.cfg.shared_fakes and not batch_random.in_parts()
        with torch.set_grad_enabled(keep):
            c = labels()
            x_fake = self.generate(c)
        self._kept = (x_fake, c) if keep else None
        return x_fake.detach().to(x.dtype), c

    def fakes_for_g(self, labels: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Return fakes for the generator's loss and their labels: the kept ones, once, or new ones."""
        kept, self._kept = self._kept, None
        if kept is not None and not batch_random.in_parts():  # memory may have run out just now
            return kept
        c = labels()
        return self.generate(c), c

    def generate(self, c: Tensor) -> Tensor:
        """Generate one image per label (N,) from fresh latents; an unconditional generator ignores the labels."""
        return self.G(self.latent(len(c), device=c.device), c)

    def random_labels(self, n: int, device: torch.device) -> Tensor:
        """Draw n labels uniformly over the classes: (n,) int64."""
        return batch_random.randint(0, self.data.num_classes, n, device)

    def wrong_labels(self, c: Tensor) -> Tensor:
        """Draw a different label for each of c, uniformly over the other classes."""
        return (c + batch_random.randint(1, self.data.num_classes, len(c), c.device)) % self.data.num_classes
