"""Networks, settings and the autoencoder stage shared by the methods that the SGBGAN paper compares.

Each of them turns a latent and a label into an image with the networks of `nets/dcgan.py`; they differ in the
discriminator, the losses and what precedes adversarial training. This module defines no method of its own.

Presets. SGBGAN's §4.4 says that its Table 2 was used for the baselines too, so `paper` is that table for all methods:
batch 128, latent 128, ratio 5 (discriminator updates per generator update), penalty weight 5. The table lists four
learning rates per network without saying which was used where. `paper` uses 2e-4 for the autoencoder, 2e-4 for the
generator (BAGAN-GP's value) and 1e-4 for the discriminator (the smallest, because it gets five updates per generator
update); β1 is 0.5 and β2 0.9, from BAGAN-GP. The paper trains the autoencoder for 30 epochs and does not give the
number of adversarial epochs; BAGAN-GP's released script uses 100. In steps of batch 128 on the 6,540 images of
Fashion-MNIST at imbalance rate 100, these are 1,530 and 5,110.

`default` and `tiny` deviate in the same way for all methods:
- Classes are drawn in proportion to the square root of their size: a rare class is seen more often, but its few images
  repeat less often than with balanced sampling.
- The generator's weights are averaged.
- The discriminator makes one update per generator update, which allows five times as many generator updates in the same
  time.
- The generator update reuses the discriminator's fakes (`shared_fakes`), which saves a pass; measured in
  benchmarks/training_step.md.
- The generator upsamples by bilinear resizing and a convolution: transposed convolutions leave pixel noise
  (`upsampling`; measured in benchmarks/upsampling.md).
BAGAN-GP and SGBGAN deviate further; docs/quality.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor, nn

from balancegan.core.config import SAMPLING, require
from balancegan.methods.base import DataSpec
from balancegan.methods.gan import GAN, GANConfig
from balancegan.methods.stages import Batches, Stage, Terms, Update
from balancegan.nets.dcgan import Decoder, Discriminator, Encoder, Generator, ProjectedDiscriminator, conv_trunk
from balancegan.nets.layers import BatchNorm2d, ConditionalBatchNorm2d
from balancegan.nets.upsampling import UPSAMPLING, Norm

Preset = dict[str, Any]

_ADVERSARIAL: dict[str, Preset] = {
    "paper": {"image_size": 64, "n_critic": 5, "lr_g": 2e-4, "lr_d": 1e-4, "beta2": 0.9, "steps": 5110},
    "default": {
        "image_size": 64,
        "upsampling": "resize",
        "sampling": "sqrt",
        "lr_g": 2e-4,
        "lr_d": 2e-4,
        "beta2": 0.9,
        "ema_halflife": 20.0,
        "shared_fakes": True,
        "steps": 20_000,
    },
    "tiny": {
        "image_size": 32,
        "width": 64,
        "upsampling": "resize",
        "batch_size": 64,
        "sampling": "sqrt",
        "lr_g": 8e-4,
        "lr_d": 8e-4,
        "beta2": 0.9,
        "ema_halflife": 10.0,
        "shared_fakes": True,
        "steps": 10_000,
    },
}
_AUTOENCODER: dict[str, Preset] = {
    "paper": {"lr_pretrain": 2e-4, "pretrain_steps": 1530},
    "default": {"lr_pretrain": 5e-4, "pretrain_steps": 2000},
    "tiny": {"lr_pretrain": 8e-4, "pretrain_steps": 500},
}


def presets(*, autoencoder: bool, **changes: Preset) -> dict[str, Preset]:
    """Return the three presets, with or without the autoencoder stage; `changes` (by preset) override them."""
    return {
        name: {**common, **(_AUTOENCODER[name] if autoencoder else {}), **changes.get(name, {})}
        for name, common in _ADVERSARIAL.items()
    }


CONDITIONINGS = ("product", "norms")
HEADS = {"product": Discriminator, "projection": ProjectedDiscriminator}


@dataclass(frozen=True, kw_only=True)
class ConditionalConfig(GANConfig):
    """Fields of the networks."""

    latent_dim: int = 128
    width: int = 256  # channels at 4x4
    upsampling: str = "transposed"  # or resize
    conditioning: str = "product"  # how the label enters the generator: multiplied into the latent, or in the norms
    head: str = "product"  # how it enters the discriminator: multiplied into the features, or by projection

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("upsampling", UPSAMPLING)
        self.require_choice("conditioning", CONDITIONINGS)
        self.require_choice("head", HEADS)
        self.require_least(1, "latent_dim")
        require(self.width >= 8 and self.width % 8 == 0, "width", self.width, "a multiple of 8")


class ConditionalGAN(GAN):
    """A generator G(z, c) and a discriminator D(x, c) on a trunk; subclasses choose the networks and the losses."""

    image_sizes = (16, 32, 64, 128, 256)
    cfg: ConditionalConfig

    def build(self, data: DataSpec) -> None:
        """Create generator `G` and discriminator `D`."""
        self.latent_dim = self.cfg.latent_dim
        self.G = self.generator(data)
        self.D = self.discriminator(data)

    def generator(self, data: DataSpec) -> nn.Module:
        """Build G(z, c) = decoder(z ⊙ e(c)), or the decoder alone if its norms are conditional."""
        decoder = self.decoder(data)
        return decoder if self._by_norms else Generator(data.num_classes, self.cfg.latent_dim, decoder)

    def discriminator(self, data: DataSpec) -> nn.Module:
        """Build D(x, c): a trunk and a label-conditional head with one logit."""
        return HEADS[self.cfg.head](data.num_classes, self.trunk(data), self.cfg.width)

    def decoder(self, data: DataSpec, **options: Any) -> Decoder:
        """Build the network that maps latents to images; subclasses add `options` of `Decoder`."""
        cfg = self.cfg
        norm: Norm = partial(ConditionalBatchNorm2d, data.num_classes) if self._by_norms else BatchNorm2d
        sizes = (data.channels, data.image_size, cfg.width, cfg.latent_dim)
        return Decoder(*sizes, cfg.upsampling, norm=norm, **options)

    @property
    def _by_norms(self) -> bool:
        return self.cfg.conditioning == "norms"

    def trunk(self, data: DataSpec) -> nn.Module:
        """Build the feature extractor of the discriminator and, if there is one, of the encoder."""
        return conv_trunk(data.channels, data.image_size, self.cfg.width)


@dataclass(frozen=True, kw_only=True)
class AutoencodedConfig(ConditionalConfig):
    """Fields of methods with an autoencoder stage."""

    trunk_from_encoder: bool = True  # initialise the discriminator's trunk from the encoder's
    pretrain_sampling: str = "same"  # how classes are drawn for the autoencoder, if not as for the GAN

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("pretrain_sampling", ("same", *SAMPLING))


class Autoencoded(ConditionalGAN):
    """Trains an autoencoder first; its decoder becomes the generator's, its encoder's trunk initialises `D`."""

    encoder_kind = "plain"
    cfg: AutoencodedConfig
    E: nn.Module

    def stages(self) -> tuple[Stage, ...]:
        """Return the autoencoder stage and the adversarial stage."""
        cfg = self.cfg
        betas = (cfg.pretrain_beta1, cfg.beta2)
        update = Update("pretrain", self.pretrain_loss, self.pretrain_parameters, cfg.lr_pretrain, betas)
        sampling = None if cfg.pretrain_sampling == "same" else cfg.pretrain_sampling
        return (Stage("pretrain", cfg.pretrain_steps, (update,), sampling), *super().stages())

    def build(self, data: DataSpec) -> None:
        """Create encoder `E`, generator `G` (its decoder is also the autoencoder's) and discriminator `D`."""
        self.E = self.encoder(data)
        super().build(data)

    def encoder(self, data: DataSpec) -> nn.Module:
        """Build E(x), which returns latents."""
        return Encoder(self.trunk(data), self.cfg.width, self.cfg.latent_dim)

    def pretrain_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the encoder and of the generator, including its label embedding if there is one."""
        return chain(self.E.parameters(), self.G.parameters())

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Compute the autoencoder's loss on a batch of real images."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Return E(x), (N, latent_dim)."""
        return self.E(x)

    def begin_adversarial(self, batches: Batches) -> None:
        """Copy the encoder's trunk into the discriminator; the generator already holds the trained decoder."""
        if self.cfg.trunk_from_encoder:
            self.D.get_submodule("trunk").load_state_dict(self.E.get_submodule("trunk").state_dict())
