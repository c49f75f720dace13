"""BAGAN-GP: a supervised autoencoder before a conditional GAN with gradient penalty.

Huang, Jafari: "Enhanced balancing GAN: minority-class image generation", Neural Computing and Applications 35 (2023),
doi 10.1007/s00521-021-06163-8. The autoencoder multiplies its latent with a label embedding before decoding and is
trained on the mean absolute error; its decoder and embedding initialise the generator. The discriminator judges real,
generated and wrongly labelled images, with a gradient penalty.

Where paper and released script leave a choice, and what is done here:
- The released script trains the discriminator from scratch. Here its trunk starts as the encoder's, as in BAGAN and
  SGBGAN, so that the three compare; `--set trunk_from_encoder=false` is the script's way.
- The losses are SGBGAN's (Eq. 8 in its non-saturating form): cross-entropy on one logit.
- `paper` is the SGBGAN paper's setting for its baselines (λ 5). The script has `--set lambda_gp=10`, draws the
  interpolation's factor from a normal distribution instead of U(0, 1), may take the true label for a wrong one, and has
  no other learning rate than 2e-4.
- The labels of generated images are uniform over the classes, for the discriminator's as for the generator's update.

`default` and `tiny` deviate where images of rare classes became better for it in the same time (docs/quality.md,
measured with SGBGAN): the label enters the generator by the gains of its batch norms, which leaves all classes the same
latents and the same weights to learn together, and the discriminator by a projection; the penalty looks at every fourth
image; and classes are drawn as often as they are, since drawn by the root of its size the rarest was learned by heart
sooner and became no better.
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

    w_wrong: float = 1.0  # weight of the real images under wrong labels

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_weight("w_wrong")


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
        """Mean absolute error of the reconstruction G(E(x), c)."""
        return {"mae": losses.mean_absolute_error(self.G(self.E(x), c), x)}

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Real, generated and wrongly labelled images, and the gradient penalty.

        One trunk pass serves real and generated images, and the real features are judged again under the wrong label;
        without batch norm in `D` this equals three separate passes.
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
        """Non-saturating: generated images should be taken for real ones of their class."""
        x_fake, c_fake = self.fakes_for_g(lambda: self.random_labels(len(x), x.device))
        return {"fake": losses.bce_as_real(self.D(x_fake, c_fake))}
