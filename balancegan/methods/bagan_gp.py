"""BAGAN-GP: a supervised autoencoder before a conditional GAN with gradient penalty.

Huang, Jafari: "Enhanced balancing GAN: minority-class image generation", Neural Computing and Applications 35 (2023),
doi 10.1007/s00521-021-06163-8. The autoencoder multiplies its latent with a label embedding before decoding and is
trained on the mean absolute error; its decoder and embedding initialise the generator. The discriminator sees real,
generated and wrongly labelled images and has a gradient penalty.

Choices that the paper and the released script leave open, and deviations from them:
- The released script trains the discriminator from scratch. Here its trunk starts from the encoder's, as in BAGAN and
  SGBGAN, so that the three methods are comparable; `--set trunk_from_encoder=false` restores the script's behaviour.
- The losses are SGBGAN's (Eq. 8 in its non-saturating form): cross-entropy on one logit.
- `paper` is the SGBGAN paper's setting for its baselines (λ 5). The script uses λ 10 (`--set lambda_gp=10`), draws the
  interpolation factor from a normal distribution instead of U(0, 1), may draw the true label as a "wrong" one, and uses
  a learning rate of 2e-4 throughout.
- The labels of generated images are uniform over the classes in both the discriminator's and the generator's update.

`default` and `tiny` deviate where that improved images of rare classes in the same time (docs/quality.md, measured with
SGBGAN). The label enters the generator through the gains of its batch norms, so all classes share latents and weights,
and enters the discriminator through a projection. The penalty applies to every fourth image. Classes are drawn at their
natural frequency: drawn in proportion to the square root of its size, the rarest class was memorised sooner and did not
get better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balancegan.methods.conditional import Autoencoded, AutoencodedConfig, presets
from balancegan.methods.gradient_penalty import PenaltyConfig, gradient_penalty
from balancegan.methods.stages import Terms
from balancegan.nets import losses
from balancegan.nets.dcgan import Decoder, Discriminator, Generator

# Not in `paper`.
_TUNED = {"sampling": "natural", "conditioning": "norms", "head": "projection", "penalty_every": 4}


@dataclass(frozen=True, kw_only=True)
class BAGANGPConfig(AutoencodedConfig, PenaltyConfig):
    """BAGAN-GP's fields."""

    w_wrong: float = 1.0  # weight of real images with wrong labels

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_least(0, "w_wrong")


class BAGANGP(Autoencoded):
    """The method; see the module's docstring."""

    Config = BAGANGPConfig
    title = "BAGAN-GP"
    paper = "Huang, Jafari 2021, doi 10.1007/s00521-021-06163-8"
    presets: ClassVar = presets(autoencoder=True, default=_TUNED, tiny=_TUNED)
    cfg: BAGANGPConfig
    G: Generator | Decoder
    D: Discriminator

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the mean absolute error of the reconstruction G(E(x), c)."""
        return {"mae": losses.mean_absolute_error(self.G(self.E(x), c), x)}

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the losses of real, generated and wrongly labelled images, and the gradient penalty.

        One trunk pass covers real and generated images, and the head reuses the real features with the wrong labels.
        Because `D` has no batch norm, this equals three separate passes.
        """
        c_fake, c_wrong = self.random_labels(len(x), x.device), self.wrong_labels(c)
        x_fake, _ = self.fakes_for_d(lambda: c_fake, x)
        feats_real, feats_fake = self.D.features(torch.cat([x, x_fake])).split(len(x))
        logits_real, logits_fake, logits_wrong = self.D.head(
            torch.cat([feats_real, feats_fake, feats_real]), torch.cat([c, c_fake, c_wrong])
        ).split(len(x))
        return {
            "real": losses.bce_as_real(logits_real),
            "fake": losses.bce_as_fake(logits_fake),
            "wrong": self.cfg.w_wrong * losses.bce_as_fake(logits_wrong),
            "gp": gradient_penalty(self.D, self.cfg, x, x_fake, c),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the non-saturating generator loss."""
        x_fake, c_fake = self.fakes_for_g(lambda: self.random_labels(len(x), x.device))
        return {"fake": losses.bce_as_real(self.D(x_fake, c_fake))}
