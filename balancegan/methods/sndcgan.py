"""SNDCGAN: the spectrally normalised GAN that the Damage GAN paper's tables call "DCGAN".

Miyato et al.: "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, arXiv 1802.05957. Non-saturating
loss, batch 64, Adam 2e-4 with betas (0.5, 0.999), as the Damage GAN paper's authors ran it. The generator is
unconditional; `methods/unconditional.py` explains how its images get a class.

Deviation: the logit comes from ContraD's two-layer MLP instead of one dense layer, so that the three methods differ
only in their losses. The paper does not give its number of steps; `paper` uses ContraD's 200,000.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from balancegan.methods.stages import Terms
from balancegan.methods.unconditional import UnconditionalConfig, UnconditionalGAN
from balancegan.nets import losses

_SMALL = {"image_size": 32, "batch_size": 64, "width": 32, "d_width": 16, "ema_halflife": 10.0, "sampling": "sqrt"}


class SNDCGAN(UnconditionalGAN):
    """The method; see the module's docstring."""

    Config = UnconditionalConfig
    title = "SNDCGAN"
    paper = "Miyato et al. 2018, arXiv 1802.05957"
    presets: ClassVar = {
        "paper": {"image_size": 32, "batch_size": 64, "steps": 200_000},
        "default": {
            "image_size": 32,
            "batch_size": 64,
            "steps": 50_000,
            "ema_halflife": 20.0,
            "sampling": "sqrt",
            "shared_fakes": True,
        },
        "tiny": {**_SMALL, "shared_fakes": True, "steps": 10_000, "lr_g": 4e-4, "lr_d": 4e-4},
    }

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the losses of real and generated images."""
        x_fake, _ = self.fakes_for_d(lambda: c, x)
        logits_real, logits_fake = self.D(torch.cat([x, x_fake])).split(len(x))
        return {"real": losses.bce_as_real(logits_real), "fake": losses.bce_as_fake(logits_fake)}

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the non-saturating generator loss."""
        x_fake, _ = self.fakes_for_g(lambda: c)
        return {"fake": losses.bce_as_real(self.D(x_fake))}
