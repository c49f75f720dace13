"""AC-GAN as CovidGAN: the discriminator also classifies, and the generator makes images that it classifies rightly.

Odena, Olah, Shlens: "Conditional Image Synthesis With Auxiliary Classifier GANs", 2017, arXiv 1610.09585. With L_S the
log-likelihood of the right source (real or generated) and L_C that of the right class, of real and generated images
alike, the discriminator maximises L_S + L_C and the generator L_C - L_S; the latter here in the non-saturating form.
Networks and settings are those of Waheed et al.: "CovidGAN: Data Augmentation Using Auxiliary Classifier GAN for
Improved Covid-19 Detection", IEEE Access 8 (2020), doi 10.1109/ACCESS.2020.2994762: a label map beside the latent's,
5x5 transposed convolutions, five 3x3 blocks with dropout 0.5, real images' target 0.9 in L_S, weights from N(0, 0.02²),
Adam 2e-4 with β1 0.5, batch 64, 2,000 epochs (about 29,000 steps on its 932 training images).

Deviations of `paper`:
- Feature maps start at 4x4 instead of 7x7, since sizes here are powers of two: 64 px instead of 112.
- The paper does not say where its discriminator halves the maps: here in the first blocks, down to 4x4.
- Labels of generated images are uniform over the classes.

The class head learns what common classes look like first; images of rare classes can then become alike, or look like a
common class. `class_loss = "balanced"` adds the logarithm of each class's frequency in training to its logit for real
images (balanced softmax, Ren et al. 2020, arXiv 2007.10740), so that rare classes are not under-predicted.
`default` and `tiny` use it, and otherwise deviate as `methods/conditional.py` describes: square-root sampling, averaged
weights, shared fakes, bilinear upsampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from balancegan.core.config import class_weights, require
from balancegan.methods.base import DataSpec
from balancegan.methods.gan import GAN, GANConfig
from balancegan.methods.stages import Terms
from balancegan.nets import losses
from balancegan.nets.acgan import AuxiliaryClassifier, LabelMapGenerator
from balancegan.nets.dcgan import init_normal
from balancegan.nets.upsampling import UPSAMPLING

CLASS_LOSSES = ("plain", "balanced")

_OURS: dict[str, Any] = {
    "upsampling": "resize",
    "class_loss": "balanced",
    "sampling": "sqrt",
    "shared_fakes": True,
    "batch_size": 64,
}


@dataclass(frozen=True, kw_only=True)
class ACGANConfig(GANConfig):
    """AC-GAN's fields."""

    latent_dim: int = 100
    width: int = 1024  # channels at 4x4, in both networks
    upsampling: str = "transposed-5"  # of the generator
    dropout: float = 0.5  # share of activations dropped in the discriminator
    real_target: float = 0.9  # of real images in the validity loss; 1: no smoothing
    class_loss: str = "plain"  # or balanced

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("upsampling", UPSAMPLING)
        self.require_choice("class_loss", CLASS_LOSSES)
        self.require_least(1, "latent_dim")
        require(self.width >= 8 and self.width % 8 == 0, "width", self.width, "a multiple of 8")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        require(0.5 < self.real_target <= 1, "real_target", self.real_target, "above 0.5 and at most 1")


class ACGAN(GAN):
    """The method; see the module's docstring."""

    Config = ACGANConfig
    title = "AC-GAN"
    paper = "Odena et al. 2017, arXiv 1610.09585; Waheed et al. 2020, doi 10.1109/ACCESS.2020.2994762"
    image_sizes = (16, 32, 64, 128, 256)
    presets: ClassVar = {
        "paper": {"image_size": 64, "batch_size": 64, "steps": 29_000},
        "default": {**_OURS, "image_size": 64, "width": 512, "ema_halflife": 20.0, "steps": 20_000},
        "tiny": {**_OURS, "image_size": 32, "width": 64, "ema_halflife": 10.0, "steps": 10_000},
    }
    cfg: ACGANConfig
    log_frequencies: Tensor

    def build(self, data: DataSpec) -> None:
        """Create generator `G` and discriminator `D`."""
        cfg = self.cfg
        self.latent_dim = cfg.latent_dim
        sizes = (data.num_classes, data.channels, data.image_size, cfg.width)
        self.G = LabelMapGenerator(*sizes, cfg.latent_dim, cfg.upsampling)
        self.D = AuxiliaryClassifier(*sizes, cfg.dropout)
        init_normal(self.G)
        init_normal(self.D)
        weights = torch.tensor(class_weights(data.class_counts, cfg.sampling)).clamp(min=1e-6)
        self.register_buffer("log_frequencies", (weights / weights.sum()).log(), persistent=False)

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the validity and class losses of real images and of fakes."""
        x_fake, c_fake = self.fakes_for_d(lambda: self.random_labels(len(x), x.device), x)
        (valid_real, class_real), (valid_fake, class_fake) = self.D(x), self.D(x_fake)
        target = self.cfg.real_target
        prior = self.log_frequencies if self.cfg.class_loss == "balanced" else 0.0
        return {
            "real": target * losses.bce_as_real(valid_real) + (1 - target) * losses.bce_as_fake(valid_real),
            "fake": losses.bce_as_fake(valid_fake),
            "class_real": losses.cross_entropies(class_real + prior, c).mean(),
            "class_fake": losses.cross_entropies(class_fake, c_fake).mean(),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the validity loss of fakes taken for real ones, and their class loss."""
        x_fake, c_fake = self.fakes_for_g(lambda: self.random_labels(len(x), x.device))
        valid, classes = self.D(x_fake)
        return {"fake": losses.bce_as_real(valid), "class": losses.cross_entropies(classes, c_fake).mean()}
