"""SGBGAN: a pre-trained gated variational autoencoder with self-attention for balancing GANs.

Wan, Guo, Wang: "SGBGAN: minority class image generation for class-imbalanced datasets", Machine Vision and
Applications 35 (2024), doi 10.1007/s00138-023-01506-y. It builds on BAGAN-GP (Huang & Jafari 2021).

Implemented: self-attention (Eqs. 1–3), GLU convolution (Eq. 4), re-parameterisation (Eq. 6), label embedding (Eq. 7),
adversarial loss (Eq. 8), gradient penalty (Eq. 9), pre-training objective (Eq. 10), weight transfer (§3.2).

Where the paper is ambiguous, and what is done here:
- Eq. 6 calls α both normally distributed and U(0, 1). Normal by default: KL to N(0, 1) presupposes it and sampling
  starts from N(0, 1). `latent_noise=uniform` gives U(0, 1), which never falls below the mean.
- Eq. 7 writes e(z, y); the text describes an embedding of the label alone, multiplied to z. That is what we do.
- Eq. 8 is the minimax form; the text (three discriminator losses, one generator loss) and BAGAN-GP use the
  non-saturating one, and so do we.
- Eq. 9's text names α ~ U(0, 1) and also calls it normal: uniform. The label under which the interpolate is judged is
  the real image's. λ = 5 (Table 2; BAGAN-GP's script has 10).
- Eq. 10's cross-entropy and MSE need images in [0, 1]; both are taken between (x + 1)/2 and its reconstruction, summed
  over pixels; KL is summed over latents; all are averaged over the batch. With means over pixels KL outweighs
  the reconstruction and the posterior collapses. The three weights are configuration (`w_kl`, `w_ce`, `w_mse`).
- Table 2 lists four values per learning rate without saying which was used for what. `paper` takes 2e-4, β1 0.5 for
  the SA-GVAE, 2e-4 for the generator (BAGAN-GP's value) and 1e-4 for the discriminator (the smallest listed:
  it makes five updates for each of the generator's). β2 is 0.9, from BAGAN-GP; the paper gives none.
- Epochs: 30 of the listed 15/30/100 for pre-training; the adversarial ones are not given, BAGAN-GP's script has 100.
  Counted in steps of batch 128 on the 6,540 images of Fashion-MNIST at imbalance rate 100: 1,530 and 5,110.
- Where the attention layer sits is not said: at side 16 in both networks (side 8 for 16 px images).
- Wrong labels are drawn from the other classes only (BAGAN-GP's script may draw the true one). The labels of generated
  images are uniform over the classes, for the discriminator's as for the generator's update.
- "The first few layers" of the encoder are all layers before its heads. There is no batch norm in them.

Deviations in the presets `default` and `tiny`, each for a reason: classes are drawn by the square root of their size
(a rare class is seen more often, without repeating its few images as often as balanced drawing would), the
generator's weights are averaged, the discriminator makes one update per generator update (five times as many
generator updates in the same time), and the generator doubles its side by bilinear resizing and a convolution: with
transposed convolutions the images keep a pixel noise (`upsampling`; measured in benchmarks/upsampling.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor, nn

from balancegan import losses
from balancegan.config import MethodConfig
from balancegan.errors import UsageError
from balancegan.methods.base import Batches, DataSpec, Method, Terms
from balancegan.nets.vae import UPSAMPLING, Discriminator, Encoder, Generator


@dataclass(frozen=True, kw_only=True)
class SGBGANConfig(MethodConfig):
    """SGBGAN's own fields."""

    latent_dim: int = 128
    width: int = 256  # channels at 4x4
    upsampling: str = "transposed"  # or resize
    latent_noise: str = "normal"
    w_kl: float = 1.0
    w_ce: float = 1.0
    w_mse: float = 1.0
    lambda_gp: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("latent_noise", ("normal", "uniform")), ("upsampling", tuple(UPSAMPLING))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} = {getattr(self, name)!r} cannot work", f"give {' or '.join(allowed)}")
        for name in ("w_kl", "w_ce", "w_mse", "lambda_gp"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} = {getattr(self, name)!r} cannot work", f"give {name} 0 or more")
        if self.width < 8 or self.width % 8 or self.latent_dim < 1:
            raise UsageError(
                f"width = {self.width}, latent_dim = {self.latent_dim} cannot work", "give width a multiple of 8"
            )


class SGBGAN(Method):
    """The paper's method; see the module's docstring."""

    Config = SGBGANConfig
    title = "SGBGAN"
    paper = "Wan, Guo, Wang 2024, doi 10.1007/s00138-023-01506-y"
    conditional = True
    image_sizes = (16, 32, 64, 128, 256)
    presets: ClassVar = {
        "paper": {
            "image_size": 64,
            "batch_size": 128,
            "n_critic": 5,
            "lambda_gp": 5.0,
            "lr_pretrain": 2e-4,
            "lr_g": 2e-4,
            "lr_d": 1e-4,
            "beta2": 0.9,
            "pretrain_steps": 1530,
            "steps": 5110,
        },
        "default": {
            "image_size": 64,
            "upsampling": "resize",
            "sampling": "sqrt",
            "lr_pretrain": 5e-4,
            "lr_g": 2e-4,
            "lr_d": 2e-4,
            "beta2": 0.9,
            "ema_halflife": 20.0,
            "pretrain_steps": 2000,
            "steps": 20_000,
        },
        "tiny": {
            "image_size": 32,
            "width": 64,
            "upsampling": "resize",
            "batch_size": 64,
            "sampling": "sqrt",
            "lr_pretrain": 8e-4,
            "lr_g": 8e-4,
            "lr_d": 8e-4,
            "beta2": 0.9,
            "ema_halflife": 10.0,
            "pretrain_steps": 500,
            "steps": 10_000,
        },
    }
    cfg: SGBGANConfig
    G: Generator
    D: Discriminator

    def build(self, data: DataSpec) -> None:
        """SA-GVAE encoder `E`, generator `G` (also the SA-GVAE's embedding and decoder), discriminator `D`."""
        cfg = self.cfg
        self.latent_dim = cfg.latent_dim
        self.E = Encoder(data.channels, data.image_size, cfg.width, cfg.latent_dim)
        self.G = Generator(data.num_classes, data.channels, data.image_size, cfg.width, cfg.latent_dim, cfg.upsampling)
        self.D = Discriminator(data.num_classes, data.channels, data.image_size, cfg.width)

    def pretrain_parameters(self) -> Iterator[nn.Parameter]:
        """Encoder, label embedding and decoder."""
        return chain(self.E.parameters(), self.G.parameters())

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Eq. 10: KL + cross-entropy + MSE."""
        mu, logvar = self.E(x)
        logits = self.G.logits(self.reparameterise(mu, logvar), c)
        return {
            "kl": self.cfg.w_kl * losses.kl_to_standard_normal(mu, logvar),
            "ce": self.cfg.w_ce * losses.image_cross_entropy(logits, x),
            "mse": self.cfg.w_mse * losses.image_squared_error(logits, x),
        }

    def reparameterise(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Eq. 6: z = μ + exp(0.5·log σ²)·α; shapes (N, latent_dim)."""
        alpha = torch.randn_like(mu) if self.cfg.latent_noise == "normal" else torch.rand_like(mu)
        return mu + torch.exp(0.5 * logvar) * alpha

    def end_pretrain(self, batches: Batches) -> None:
        """§3.2: the discriminator's trunk starts as the pre-trained encoder's; `G` is the decoder already."""
        self.D.trunk.load_state_dict(self.E.trunk.state_dict())

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Real, generated and wrongly labelled images, and the gradient penalty.

        One trunk pass serves real and generated images, and the real features are judged again under the wrong label;
        without batch norm in `D` this equals three separate passes.
        """
        n = x.shape[0]
        c_fake, c_wrong = self.random_labels(n, x.device), self.wrong_labels(c)
        with torch.no_grad():
            x_fake = self.G(self.latent(n, device=x.device), c_fake)
        alpha = torch.rand(n, device=x.device)
        feats_real, feats_fake = self.D.features(torch.cat([x, x_fake.to(x.dtype)])).split(n)
        logits_real, logits_fake, logits_wrong = self.D.head(
            torch.cat([feats_real, feats_fake, feats_real]), torch.cat([c, c_fake, c_wrong])
        ).split(n)
        return {
            "real": losses.bce_as_real(logits_real),
            "fake": losses.bce_as_fake(logits_fake),
            "wrong": losses.bce_as_fake(logits_wrong),
            "gp": self.cfg.lambda_gp * losses.gradient_penalty(lambda x_hat: self.D(x_hat, c), x, x_fake, alpha),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Non-saturating: generated images should be taken for real ones of their class."""
        c_fake = self.random_labels(x.shape[0], x.device)
        return {"fake": losses.bce_as_real(self.D(self.G(self.latent(x.shape[0], device=x.device), c_fake), c_fake))}
