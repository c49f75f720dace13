"""CAPGAN: a conditional variational autoencoder, pre-trained on balanced data, before BAGAN-GP's GAN.

Yao et al.: "Conditional Variational Autoencoder with Balanced Pre-training for Generative Adversarial Networks", DSAA
2022; reference 34 of SGBGAN, which adds gates and self-attention to it. For the autoencoder, every class is drawn
equally often (the paper repeats images until all classes are equally large). Its objective, the transfer of weights and
the GAN's losses are those of `methods/sgbgan.py`. Layer norm follows every convolution of the trunk but the first.

`paper` has the published settings: autoencoder Adam 1e-3, GAN 2e-4, β1 0.5 and β2 0.9, twelve discriminator updates per
generator update, penalty weight 10; 100 epochs of pre-training, here on 60,000 images, as many as Fashion-MNIST at
imbalance rate 100 has after repetition. The number of adversarial steps is that of the other methods.

Deviations: latents have 128 dimensions instead of 64, and maps the widths of `nets/dcgan.py`; the autoencoder's batch
is the GAN's (128 instead of 32). As released, the script trains on all images of CIFAR-10 after it has built the
oversampled set, so its figures are not figures on imbalanced data.
`default` and `tiny` deviate like those of SGBGAN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from balancegan.core.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.methods.sgbgan import SGBGAN, SGBGANConfig
from balancegan.nets.dcgan import conv_trunk
from balancegan.nets.layers import ChannelNorm2d

_CAPGAN = {"attention": 0}  # SGBGAN's presets have some
_PUBLISHED = {
    "lr_pretrain": 1e-3,
    "pretrain_steps": 46_900,
    "lr_g": 2e-4,
    "lr_d": 2e-4,
    "n_critic": 12,
    "lambda_gp": 10.0,
}


@dataclass(frozen=True, kw_only=True)
class CAPGANConfig(SGBGANConfig):
    """CAPGAN's fields."""

    gated: bool = False
    attention: int = 0
    pretrain_sampling: str = "balanced"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gated or self.attention:
            raise UsageError(
                f"gated = {self.gated}, attention = {self.attention}, but CAPGAN has neither",
                "leave them out, or use sgbgan",
            )


class CAPGAN(SGBGAN):
    """The method; see the module's docstring."""

    Config = CAPGANConfig
    title = "CAPGAN"
    paper = "Yao et al. 2022, DSAA"
    presets: ClassVar = {
        name: {**preset, **_CAPGAN, **(_PUBLISHED if name == "paper" else {})}
        for name, preset in SGBGAN.presets.items()
    }

    def trunk(self, data: DataSpec) -> nn.Module:
        """Build plain convolutions with layer norm."""
        return conv_trunk(data.channels, data.image_size, self.cfg.width, norm=ChannelNorm2d)
