"""ContraD: a discriminator that learns its features by contrastive losses alone.

Jeong, Shin: "Training GANs with Stronger Augmentations via Contrastive Discriminator", ICLR 2021, arXiv 2103.09742.
Two losses train the trunk and two projection heads: SimCLR's contrastive loss on two augmented views of the real images
(`nt_xent`), and a supervised contrastive loss on generated images against both views (`supcon_fake`). The logit head
gets detached features: the adversarial loss trains that head and nothing below it. The generator is trained through
augmentation, trunk and head, with the non-saturating loss. Batch 512, Adam 2e-4 with betas (0.5, 0.999), learning rate
warm-up over 3,000 steps, 200,000 steps; the published CIFAR-10 runs use the SN-ResNet-18 trunk.

Choices that the paper leaves open: the adversarial loss uses the first view of the real images; both networks' learning
rates are warmed up; every layer of the discriminator, heads included, has spectral norm, and the heads have 1,024
hidden units in `paper`; the last two follow the released script. Unlike the script, weights have torch's default
initialisation, and the generator's first batch norm is per channel, not per unit. `tiny` is narrow, uses SNDCGAN's
trunk, which learns sooner, and a batch of 64, which is small for a contrastive loss. In `default` and `tiny` the
generator update reuses the discriminator's fakes, which saves a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from balancegan.core.config import require
from balancegan.methods.stages import Terms
from balancegan.methods.unconditional import UnconditionalConfig, UnconditionalGAN
from balancegan.nets import losses
from balancegan.nets.augmentation import SimCLRAugment
from balancegan.nets.sndcgan import ContrastiveDiscriminator


@dataclass(frozen=True, kw_only=True)
class ContraDConfig(UnconditionalConfig):
    """ContraD's fields."""

    temperature: float = 0.1
    lambda_con: float = 1.0  # weight of `supcon_fake`
    detached: bool = True  # the adversarial loss trains the logit head only, not the trunk

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, "temperature", self.temperature, "a number above 0")
        self.require_least(0, "lambda_con")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "2 or more: a contrastive loss compares images")


class ContraD(UnconditionalGAN):
    """The method; see the module's docstring."""

    Config = ContraDConfig
    title = "ContraD"
    paper = "Jeong, Shin 2021, arXiv 2103.09742"
    presets: ClassVar = {
        "paper": {
            "image_size": 32,
            "trunk": "snresnet18",
            "head_width": 1024,
            "batch_size": 512,
            "warmup_steps": 3000,
            "steps": 200_000,
        },
        "default": {
            "image_size": 32,
            "trunk": "snresnet18",
            "batch_size": 256,
            "warmup_steps": 1500,
            "sampling": "sqrt",
            "ema_halflife": 20.0,
            "shared_fakes": True,
            "steps": 50_000,
        },
        "tiny": {
            "image_size": 32,
            "trunk": "sndcgan",
            "width": 32,
            "d_width": 16,
            "batch_size": 64,
            "warmup_steps": 100,
            "sampling": "sqrt",
            "lr_g": 4e-4,
            "lr_d": 1e-3,
            "ema_halflife": 10.0,
            "shared_fakes": True,
            "steps": 10_000,
        },
    }
    least_part = 2  # a contrastive loss needs a negative
    cfg: ContraDConfig
    D: ContrastiveDiscriminator
    augment = SimCLRAugment()

    def discriminator(self, trunk: nn.Module) -> ContrastiveDiscriminator:
        """Build a discriminator with two projection heads."""
        return ContrastiveDiscriminator(trunk, self.cfg.head_width)

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return both contrastive losses, and the adversarial loss, which trains the logit head only if `detached`.

        One trunk pass covers two views of the real images and one of the fakes; each head gets the views that it needs.
        `parametrize.cached` normalises each weight once.
        """
        n = len(x)
        x_fake, c_fake = self.fakes_for_d(lambda: self.fake_labels(c), x)
        views = self.augment(torch.cat([x, x, x_fake]))
        with parametrize.cached():
            features = self.D.features(views)
            real1, real2, fake = features.split(n)
            first = self.contrasted_view(views[:n], real1)
            view1, view2 = self.D.project_real(torch.cat([first, real2])).split(n)
            other1, other2, others = self.D.project_fake(features).split(n)
            features, labels = torch.cat([real1, fake]), torch.cat([c, c_fake])
            features = features.detach() if self.cfg.detached else features
            logits_real, logits_fake = self.judged(features, labels).split(n)
        temperature = self.cfg.temperature
        return {
            "nt_xent": losses.nt_xent(view1, view2, temperature),
            "supcon": self.cfg.lambda_con * losses.supcon_fake(other1, other2, others, temperature),
            "real": losses.bce_as_real(logits_real),
            "fake": losses.bce_as_fake(logits_fake),
        }

    def fake_labels(self, c: Tensor) -> Tensor:
        """Return labels (N,) for fakes, given the real labels c; this unconditional generator ignores them."""
        return c

    def judged(self, features: Tensor, c: Tensor) -> Tensor:
        """Return the logits (N,) for the discriminator's adversarial loss."""
        return self.D.logit(features, c)

    def contrasted_view(self, view: Tensor, features: Tensor) -> Tensor:
        """Return the first view's features for SimCLR's loss; here the trunk's features unchanged."""
        return features

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the non-saturating loss of augmented fakes."""
        x_fake, c_fake = self.fakes_for_g(lambda: self.fake_labels(c))
        return {"fake": losses.bce_as_real(self.D(self.augment(x_fake), c_fake))}
