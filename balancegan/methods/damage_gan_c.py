"""Damage GAN with a conditional generator: a practitioner wants the class that was asked for. Our own, not the paper's.

The contrasts are Damage GAN's. The generator's batch norms have their gain and bias by label, and it is trained on
labels drawn uniformly over the classes, so that a rare class gets as many updates as a frequent one. The logit head has
a projection term; with `paper`, like everything behind the logit, it sees the features detached, so the trunk learns no
labels. Classes are drawn by the root of their size here: the generator makes them equally often anyway.

Real batches hold the classes by their frequency (`sampling`), generated ones all alike: the label alone would tell the
two apart. With q_c the frequency of class c among K in the real batches, that part of the logit is log(K·q_c) whatever
the image; it is added in the discriminator's loss (logit adjustment, Menon et al., ICLR 2021, arXiv 2007.07314), so
that the head learns the rest, which is what tells real images of a class from generated ones of it.
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
        """Nothing: no class is assigned afterwards."""

    @property
    def ready(self) -> bool:
        """Always."""
        return True

    def norm(self, data: DataSpec) -> Callable[[int], nn.Module]:
        """By label."""
        return partial(ConditionalBatchNorm2d, data.num_classes)

    def discriminator(self, trunk: nn.Module) -> ProjectionDiscriminator:
        """With a projection term."""
        return ProjectionDiscriminator(trunk, self.data.num_classes, self.cfg.head_width)

    def fake_labels(self, c: Tensor) -> Tensor:
        """All classes alike."""
        return self.random_labels(len(c), c.device)

    def judged(self, features: Tensor, c: Tensor) -> Tensor:
        """With the labels' own part."""
        return super().judged(features, c) + self.log_frequency[c] + math.log(self.data.num_classes)
