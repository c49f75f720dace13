"""Damage GAN with a conditional generator, which produces the requested class. Our own variant, not the paper's.

The contrastive losses are Damage GAN's. The generator's batch norms have a gain and bias per label, and the generator
is trained on uniformly drawn labels, so a rare class gets as many updates as a frequent one. The logit head has a
projection term; in `paper` it gets detached features, like the rest of the logit head, so the trunk learns nothing
about labels. `default` and `tiny` draw classes in proportion to the square root of their size, because the generator
produces all classes equally often anyway.

Real batches follow the class frequencies (`sampling`), whereas generated batches are uniform, so the label alone would
tell the two apart. If q_c is the frequency of class c in the real batches and K the number of classes, this part of the
logit is log(K·q_c) for every image. The discriminator's loss adds it to the logit (logit adjustment, Menon et al., ICLR
2021, arXiv 2007.07314), so the head learns only what distinguishes real from generated images of a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from balancegan.methods.base import DataSpec, Method
from balancegan.methods.damage_gan import DamageGAN
from balancegan.methods.stages import Batches
from balancegan.nets.layers import ConditionalBatchNorm2d
from balancegan.nets.sndcgan import ProjectionDiscriminator


class DamageGANC(DamageGAN):
    """The method; see the module's docstring."""

    title = "Damage GAN, conditional"
    paper = "own variant of Anaissi et al. 2023, arXiv 2312.04862"
    presets: ClassVar = {
        name: {**preset, **({"sampling": "sqrt"} if name != "paper" else {})}
        for name, preset in DamageGAN.presets.items()
    }
    conditional = True
    samplers = ("direct",)
    condition_names = Method.condition_names
    references = Method.references

    def end_adversarial(self, batches: Batches) -> None:
        """Do nothing: this variant has no evaluator to fit."""

    @property
    def ready(self) -> bool:
        """Always True."""
        return True

    def norm(self, data: DataSpec) -> Callable[[int], nn.Module]:
        """Return a constructor of conditional batch norm."""
        return partial(ConditionalBatchNorm2d, data.num_classes)

    def discriminator(self, trunk: nn.Module) -> ProjectionDiscriminator:
        """Build a discriminator with a projection term."""
        return ProjectionDiscriminator(trunk, self.data.num_classes, self.cfg.head_width)

    def fake_labels(self, c: Tensor) -> Tensor:
        """Draw labels (N,) uniformly over the classes."""
        return self.random_labels(len(c), c.device)

    def judged(self, features: Tensor, c: Tensor) -> Tensor:
        """Return the logits (N,) with log(K·q_c) added; see the module's docstring."""
        return super().judged(features, c) + self.log_frequency[c] + math.log(self.data.num_classes)
