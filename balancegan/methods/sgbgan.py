"""SGBGAN: a pre-trained gated variational autoencoder with self-attention for balancing GANs.

Wan, Guo, Wang: "SGBGAN: minority class image generation for class-imbalanced datasets", Machine Vision and
Applications 35 (2024), doi 10.1007/s00138-023-01506-y. It builds on BAGAN-GP (Huang & Jafari 2021).

Implemented: self-attention (Eqs. 1–3), GLU convolution (Eq. 4), re-parameterisation (Eq. 6), label embedding (Eq. 7),
adversarial loss (Eq. 8), gradient penalty (Eq. 9), pre-training objective (Eq. 10), weight transfer (§3.2).

Ambiguities in the paper, and how this implementation resolves them:
- Eq. 6 calls α both normally distributed and U(0, 1). The default is normal, because the KL to N(0, 1) presupposes it
  and sampling starts from N(0, 1). `latent_noise=uniform` gives U(0, 1), which never falls below the mean.
- Eq. 7 writes e(z, y), but the text describes an embedding of the label alone, multiplied with z. We follow the text.
- Eq. 8 is the minimax form, but the text (three discriminator losses, one generator loss) and BAGAN-GP use the
  non-saturating form. We use the non-saturating form.
- Eq. 9's text gives α ~ U(0, 1) and also calls it normal. We use the uniform distribution. The interpolate is judged
  under the real image's label. λ = 5 (Table 2; BAGAN-GP's script has 10).
- Eq. 10's cross-entropy and MSE need images in [0, 1]. Both compare (x + 1)/2 with its reconstruction and are summed
  over pixels; KL is summed over latents; all are averaged over the batch. With means over pixels, KL outweighs the
  reconstruction and the posterior collapses. The three weights are configurable (`w_kl`, `w_ce`, `w_mse`).
- The paper does not say where the attention layer sits. We put it at side 16 in both networks (side 8 for 16 px
  images).
- Wrong labels are drawn from the other classes only (BAGAN-GP's script may draw the true one). The labels of generated
  images are uniform over the classes in both the discriminator's and the generator's update.
- We take "the first few layers" of the encoder to be all layers before its heads. They have no batch norm.

`methods/conditional.py` and `methods/bagan_gp.py` explain what `paper` takes from Table 2 and why `default` and `tiny`
deviate. The latter two also move the attention to side 8: together with the penalty on every fourth image, this doubles
the number of steps in the same time at 32 px (docs/quality.md). Each of the paper's ideas can be switched off: `gated`,
`attention`, the weights of the three terms, `w_wrong`, `lambda_gp`, `trunk_from_encoder`, `pretrain_steps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.methods.bagan_gp import BAGANGP, BAGANGPConfig
from balancegan.methods.base import DataSpec
from balancegan.methods.stages import Terms
from balancegan.nets import losses
from balancegan.nets.dcgan import Decoder, attention_side
from balancegan.nets.vae import VariationalEncoder, gated_trunk

ATTENTION = (0, 8, 16, 32)
NOISES = {"normal": batch_random.randn, "uniform": batch_random.rand}


@dataclass(frozen=True, kw_only=True)
class SGBGANConfig(BAGANGPConfig):
    """SGBGAN's own fields."""

    latent_noise: str = "normal"
    w_kl: float = 1.0
    w_ce: float = 1.0
    w_mse: float = 1.0
    gated: bool = True  # whether the trunks' convolutions are gated (GLU)
    attention: int = 16  # side of the maps with self-attention, at most half of the image's; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("latent_noise", NOISES)
        self.require_choice("attention", ATTENTION)
        self.require_least(0, "w_kl", "w_ce", "w_mse")


class SGBGAN(BAGANGP):
    """BAGAN-GP with the SA-GVAE in place of its autoencoder; see the module's docstring."""

    Config = SGBGANConfig
    title = "SGBGAN"
    paper = "Wan, Guo, Wang 2024, doi 10.1007/s00138-023-01506-y"
    presets: ClassVar = {
        name: {**preset, **({"attention": 8} if name != "paper" else {})} for name, preset in BAGANGP.presets.items()
    }
    encoder_kind = "variational"
    cfg: SGBGANConfig

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of E(x), (N, latent_dim)."""
        return self.E(x)[0]

    def trunk(self, data: DataSpec) -> nn.Module:
        """Build gated convolutions with self-attention."""
        cfg = self.cfg
        return gated_trunk(data.channels, data.image_size, cfg.width, gated=cfg.gated, attention=cfg.attention)

    def encoder(self, data: DataSpec) -> nn.Module:
        """Build E(x), which returns mean and log-variance."""
        return VariationalEncoder(self.trunk(data), self.cfg.width, self.cfg.latent_dim)

    def decoder(self, data: DataSpec, **options: Any) -> Decoder:
        """Build the decoder with self-attention."""
        return super().decoder(data, attention=attention_side(data.image_size, self.cfg.attention), **options)

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the three terms of Eq. 10: KL, cross-entropy and MSE."""
        mu, logvar = self.E(x)
        logits = self.G.logits(self.reparameterise(mu, logvar), c)
        return {
            "kl": self.cfg.w_kl * losses.kl_to_standard_normal(mu, logvar),
            "ce": self.cfg.w_ce * losses.image_cross_entropy(logits, x),
            "mse": self.cfg.w_mse * losses.image_squared_error(logits, x),
        }

    def reparameterise(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return z = μ + exp(0.5·log σ²)·α (Eq. 6); shapes (N, latent_dim)."""
        draw = NOISES[self.cfg.latent_noise]
        alpha = draw(*mu.shape, device=mu.device, dtype=mu.dtype)
        return mu + torch.exp(0.5 * logvar) * alpha
