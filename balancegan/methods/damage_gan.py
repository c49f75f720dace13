"""Damage GAN: ContraD with self-damaging contrastive learning in the discriminator.

Anaissi, Jia, Braytee, Naji, Alyassine: "Damage GAN: A Generative Model for Imbalanced Data", 2023, arXiv 2312.04862;
self-damaging contrast: Jiang et al.: "Self-Damaging Contrastive Learning", ICML 2021, arXiv 2106.02990. For SimCLR's
loss, the first view of the real images passes through the self-competitor: the same trunk with its smallest weights
masked out. Images of rare classes, which a network remembers only with its small weights, get different features there,
so the contrastive loss weighs them more. Both branches share the weights and send gradients to them; a masked weight
gets gradients from the dense branch only. Everything else is ContraD's: the second view, the contrastive loss on
generated images and the adversarial loss use the dense trunk.

The mask removes the fraction `prune_frac` of all convolution weights of the trunk (0.9, as SDCLR on CIFAR), with one
threshold over all layers. It is recomputed at the start and after every epoch. Weights are ranked as the network uses
them, after spectral normalisation, since before it a layer's scale has no meaning. The mask multiplies the weight
normalised by the dense weight's singular value, so the remaining weights are not rescaled. (SDCLR has no spectral norm;
the Damage GAN paper does not say.)

The larger a normalised matrix, the smaller its entries, so a single threshold prunes the widest layers first: at the
start, 0.9 masks one whole layer of SNDCGAN's trunk and three of the SN-ResNet-18's, where the shortcuts still carry the
image. Without shortcuts, the contrastive loss stayed at chance in 150 steps on the cells (32 px). `tiny` therefore
prunes 0.3 of SNDCGAN's trunk, with which a narrow network learns in fewer and cheaper steps.

`default` and `tiny` deviate from the paper where that improved images of rare classes in the same time
(docs/quality.md): the adversarial loss trains the trunk too (`detached` off: until the contrastive losses have formed
features, a head on them tells the generator little), the generator upsamples by resizing (`upsampling`), and classes
are drawn equally often, since this generator produces a class as often as it saw it.

The first view needs a pruned pass and a dense pass. Both share the augmentation, the normalised weights and the second
view's dense pass, with one backward pass, which gives the gradients of SDCLR's two (tested).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from balancegan.core.config import require
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
        require(0 <= self.prune_frac < 1, "prune_frac", self.prune_frac, "at least 0 and below 1")


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
        """Build the trunk with convolutions that can be masked."""
        return super().trunk(data, convolution)

    def begin_adversarial(self, batches: Batches) -> None:
        """Set the first masks."""
        self.on_epoch()

    def on_epoch(self) -> None:
        """Recompute the masks from the current weights."""
        set_masks(self.D.trunk, self.cfg.prune_frac)

    def contrasted_view(self, view: Tensor, features: Tensor) -> Tensor:
        """Return the self-competitor's features of the view."""
        with pruned(self.D.trunk):
            return self.D.features(view)
