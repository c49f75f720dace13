"""Damage GAN: ContraD with self-damaging contrastive learning in the discriminator.

Anaissi, Jia, Braytee, Naji, Alyassine: "Damage GAN: A Generative Model for Imbalanced Data", 2023, arXiv 2312.04862;
self-damaging contrast: Jiang et al.: "Self-Damaging Contrastive Learning", ICML 2021, arXiv 2106.02990. The first
view of the real images passes, for SimCLR's contrast, through the self-competitor: the same trunk with its smallest
weights masked out. Images that a network remembers only with its small weights, those of rare classes, come out
differently, and the contrast pays more for them. Both branches share the weights and both send gradients to them, a
masked weight getting its own from the dense branch only. Everything else is ContraD's: the second view, the contrast
of generated images and the adversarial loss see the dense trunk.

`prune_frac` of all convolution weights of the trunk, 0.9 as SDCLR on CIFAR, are masked by one threshold over all
layers, anew at the start and after every pass over as many images as the training set has. Weights are ranked as the
network uses them, after spectral normalisation, since before it a layer's scale has no meaning; a mask multiplies the
normalised weight, by the dense weight's singular value, so that what stays is not rescaled. (SDCLR has no spectral
norm; the Damage GAN paper does not say.)

Entries of a normalised matrix are the smaller the larger it is, so one threshold takes the widest layers first: at the
start, 0.9 masks one whole layer of SNDCGAN's trunk and three of the SN-ResNet-18's, where the shortcuts still carry the
image. Without them, in 150 steps on the cells (32 px), the contrast stayed at chance. `tiny` has SNDCGAN's trunk, with
which a narrow network learns in fewer and cheaper steps, and prunes 0.3 of it.

`default` and `tiny` deviate from the paper where images of rare classes became better for it in the same time
(docs/quality.md): the adversarial loss trains the trunk too (`detached` off: before the contrast has made features, a
head on them tells the generator little), the generator resizes and convolves (`upsampling`), and classes are drawn
equally often, since this generator makes a class as often as it saw it.

The first view needs a pruned pass and a dense one. The augmentation, the normalised weights and the second view's dense
pass are shared, in one backward pass, which gives the gradients of SDCLR's two (tested).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from balancegan.core.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.methods.contrad import ContraD, ContraDConfig
from balancegan.methods.stages import Batches
from balancegan.nets.sndcgan import Convolution, PrunableConv2d, pruned, set_masks

# Not in `paper`.
_TUNED = {"upsampling": "resize", "detached": False, "sampling": "balanced"}


@dataclass(frozen=True, kw_only=True)
class DamageGANConfig(ContraDConfig):
    """Damage GAN's fields."""

    prune_frac: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.prune_frac < 1:
            raise UsageError(f"prune_frac = {self.prune_frac} cannot work", "give a share below 1")


class DamageGAN(ContraD):
    """The method; see the module's docstring."""

    Config = DamageGANConfig
    title = "Damage GAN"
    paper = "Anaissi et al. 2023, arXiv 2312.04862"
    presets: ClassVar = {
        "paper": ContraD.presets["paper"],
        "default": {**ContraD.presets["default"], **_TUNED},
        "tiny": {**ContraD.presets["tiny"], **_TUNED, "prune_frac": 0.3},
    }
    cfg: DamageGANConfig

    def trunk(self, data: DataSpec, convolution: Convolution = PrunableConv2d) -> nn.Module:
        """With convolutions that can be masked."""
        return super().trunk(data, convolution)

    def begin_adversarial(self, batches: Batches) -> None:
        """The first masks."""
        self.on_epoch()

    def on_epoch(self) -> None:
        """New masks, from the weights as they are now."""
        set_masks(self.D.trunk, self.cfg.prune_frac)

    def contrasted_view(self, view: Tensor, features: Tensor) -> Tensor:
        """The features that the self-competitor gives of the view."""
        with pruned(self.D.trunk):
            return self.D.features(view)
