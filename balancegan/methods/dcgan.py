"""DCGAN with labels: the plain baseline.

Radford, Metz, Chintala: "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", 2015, arXiv 1511.06434. Batch norm in both networks (not in the generator's last and the discriminator's
first layer), ReLU in the generator, LeakyReLU(0.2) in the discriminator, weights from N(0, 0.02²), Adam 2e-4 with β1
0.5, the non-saturating loss, real and generated images in separate batches.

Deviations:
- It is conditional, because every method here must produce a class on request: a label embedding is multiplied into the
  latent and into the discriminator's features. Generated images take the labels of the real batch, so both batches have
  the same class frequencies and the label alone does not tell them apart.
- `paper` is the SGBGAN paper's setting for its baselines (five discriminator updates per generator update). DCGAN's
  own paper makes one (`--set n_critic=1`) and has 100 latent dimensions (`--set latent_dim=100`).
- Two dense layers replace the discriminator's single output layer, as in the other methods.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from balancegan.methods.base import DataSpec
from balancegan.methods.conditional import ConditionalConfig, ConditionalGAN, presets
from balancegan.methods.stages import Terms
from balancegan.nets import losses
from balancegan.nets.dcgan import Decoder, conv_trunk, init_normal
from balancegan.nets.layers import BatchNorm2d

_ADAM = {"lr_g": 2e-4, "lr_d": 2e-4, "beta2": 0.999}


class DCGAN(ConditionalGAN):
    """The method; see the module's docstring."""

    Config = ConditionalConfig
    title = "DCGAN"
    paper = "Radford, Metz, Chintala 2015, arXiv 1511.06434"
    presets: ClassVar = presets(autoencoder=False, paper=_ADAM, default=_ADAM, tiny=_ADAM)

    def build(self, data: DataSpec) -> None:
        """Create `G` and `D` with DCGAN's initialisation."""
        super().build(data)
        init_normal(self.G)
        init_normal(self.D)

    def decoder(self, data: DataSpec, **options: Any) -> Decoder:
        """Build the decoder with ReLU."""
        return super().decoder(data, slope=0.0, **options)

    def trunk(self, data: DataSpec) -> nn.Module:
        """Build the trunk with batch norm."""
        return conv_trunk(data.channels, data.image_size, self.cfg.width, norm=BatchNorm2d)

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the losses of real images and of fakes with the same labels."""
        x_fake, _ = self.fakes_for_d(lambda: c, x)
        return {"real": losses.bce_as_real(self.D(x, c)), "fake": losses.bce_as_fake(self.D(x_fake, c))}

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the non-saturating generator loss."""
        return {"fake": losses.bce_as_real(self.D(*self.fakes_for_g(lambda: c)))}
