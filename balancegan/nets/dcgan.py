"""The convolutional networks that the SGBGAN paper's methods share, sizes 16 to 256 px by depth.

Strided convolutions down and transposed ones up (Radford et al. 2015, arXiv 1511.06434), with the conditioning of
BAGAN-GP (Huang & Jafari 2021): a label embedding multiplied into the latent and into the discriminator's trunk.

One rule sets every width, counted from the image: the largest feature map (half the image's side) has `width / 4`
channels, the next smaller one `width / 2`, all further ones `width`; the 4x4 map has `width` always. With width 256:
256-64 at 16 px, 256-128-64 at 32 px, 256-256-128-64 at 64 px.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan import parts
from balancegan.nets.layers import BatchNorm2d, ConditionalBatchNorm2d, DenseLabelEmbedding, SelfAttention2d

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels: `BatchNorm2d`, or one that also gets the labels."""

SIDE = 4  # of the smallest feature map


def stage_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps of side 4, 8, … image_size / 2."""
    stages = int(math.log2(image_size // SIDE))
    return [width if k == 0 else max(width // 4, min(width, width // 4 << (stages - 1 - k))) for k in range(stages)]


def attention_side(image_size: int) -> int:
    """Side of the feature map that carries the one self-attention layer: 16, or half of a 16 px image."""
    return min(16, image_size // 2)


def trunk_features(width: int) -> int:
    """Numbers per image that a trunk gives: `width` channels at 4x4."""
    return width * SIDE * SIDE


def conv_trunk(channels: int, image_size: int, width: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Stride-2 4x4 convolutions with LeakyReLU(0.2) down to (N, width, 4, 4).

    `batch_norm` normalises every layer but the first, as DCGAN does. Not for a critic with a gradient penalty, which
    must treat images one by one.
    """
    layers: list[nn.Module] = []
    for i, out_channels in enumerate(reversed(stage_channels(image_size, width))):
        normalised = batch_norm and i > 0
        layers.append(nn.Conv2d(channels, out_channels, 4, 2, 1, bias=not normalised))
        if normalised:
            layers.append(BatchNorm2d(out_channels))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        channels = out_channels
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """A trunk and a dense layer to the latent: (N, channels, S, S) -> (N, latent_dim)."""

    def __init__(self, trunk: nn.Module, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(trunk_features(width), latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Latents."""
        return self.out(self.trunk(x).flatten(1))


def transposed_stage(in_channels: int, out_channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """The paper's: transposed 4x4 convolution, which doubles the side."""
    return [nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False), *_normalised(out_channels, slope, norm)]


def transposed_output(in_channels: int, channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """The paper's last layer: a transposed convolution straight to the image."""
    return [nn.ConvTranspose2d(in_channels, channels, 4, 2, 1)]


def resize_stage(in_channels: int, out_channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """Bilinear doubling, then a 3x3 convolution (Odena et al. 2016): neighbouring pixels share their kernel.

    A transposed convolution makes the four pixels of every 2x2 block with four different kernels, and a stride-2
    critic teaches them apart: pixel noise. Borders are replicated, since zeros there show as a frame.
    """
    return [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        _conv3(in_channels, out_channels),
        *_normalised(out_channels, slope, norm),
    ]


def resize_output(in_channels: int, channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """A last doubling stage and a 3x3 convolution to the image."""
    return [*resize_stage(in_channels, in_channels, slope, norm), _conv3(in_channels, channels, bias=True)]


class ResidualUp(nn.Module):
    """Norm, LeakyReLU, doubling, 3x3 convolution, twice over, and a shortcut (BigGAN's block, arXiv 1809.11096)."""

    def __init__(self, in_channels: int, out_channels: int, slope: float, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.conv1, self.conv2 = _conv3(in_channels, out_channels), _conv3(out_channels, out_channels, bias=True)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.slope = slope

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(N, in, S, S), (N,) -> (N, out, 2S, 2S)."""
        h = F.leaky_relu(apply(self.norm1, x, c), self.slope)
        h = self.conv1(F.interpolate(h, scale_factor=2, mode="bilinear"))
        h = self.conv2(F.leaky_relu(apply(self.norm2, h, c), self.slope))
        return h + F.interpolate(self.shortcut(x), scale_factor=2, mode="bilinear")


def residual_stage(in_channels: int, out_channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """A residual block."""
    return [ResidualUp(in_channels, out_channels, slope, norm)]


def residual_output(in_channels: int, channels: int, slope: float, norm: Norm = BatchNorm2d) -> list[nn.Module]:
    """A residual block, norm, and a 3x3 convolution."""
    return [
        ResidualUp(in_channels, in_channels, slope, norm),
        *_normalised(in_channels, slope, norm),
        _conv3(in_channels, channels, bias=True),
    ]


def apply(layer: nn.Module, h: Tensor, c: Tensor) -> Tensor:
    """A layer's output; of one that looks at labels, for these."""
    return layer(h, c) if isinstance(layer, ConditionalBatchNorm2d | ResidualUp) else layer(h)


def _conv3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=bias)


def _normalised(channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    return [norm(channels), nn.LeakyReLU(slope, inplace=True)]


UPSAMPLING = {
    "transposed": (transposed_stage, transposed_output),
    "resize": (resize_stage, resize_output),
    "residual": (residual_stage, residual_output),
}


class Decoder(nn.Module):
    """Dense to 4x4, up-sampling stages, each with batch norm and LeakyReLU(`slope`), tanh.

    `upsampling` chooses the stages from `UPSAMPLING`; `attention` adds SGBGAN's self-attention layer. `logits` stops
    before the tanh: tanh(a) on [-1, 1] is sigmoid(2a) on [0, 1], which lets the cross-entropy be computed without
    saturating. Convolutions before a batch norm have no bias, it would cancel. Shapes: (N, latent_dim) ->
    (N, channels, S, S).
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        width: int,
        latent_dim: int,
        upsampling: str = "transposed",
        *,
        attention: int = 0,
        slope: float = 0.2,
        norm: Norm = BatchNorm2d,
    ) -> None:
        super().__init__()
        stage, output = UPSAMPLING[upsampling]
        widths = stage_channels(image_size, width)
        self.width, self.slope = width, slope
        self.dense = nn.Linear(latent_dim, width * SIDE * SIDE, bias=False)
        self.norm = norm(width)
        layers: list[nn.Module] = []
        side = SIDE
        for in_channels, out_channels in itertools.pairwise(widths):
            layers += stage(in_channels, out_channels, slope, norm)
            side *= 2
            if side == attention:
                layers.append(SelfAttention2d(out_channels))
        self.up = nn.Sequential(*layers, *output(widths[-1], channels, slope, norm))

    def logits(self, o: Tensor, c: Tensor) -> Tensor:
        """Pre-activation image `a` with image = tanh(a)."""
        h = self.dense(o).view(o.shape[0], self.width, SIDE, SIDE)  # (N, latent) -> (N, width, 4, 4)
        h = F.leaky_relu_(apply(self.norm, h, c), self.slope)
        for layer in self.up:
            h = apply(layer, h, c)
        return h

    def forward(self, o: Tensor, c: Tensor) -> Tensor:
        """Image in [-1, 1]."""
        return torch.tanh(self.logits(o, c))


class Generator(nn.Module):
    """Label embedding and decoder: G(z, c) = decoder(z ⊙ e(c)) (SGBGAN Eq. 7, BAGAN-GP).

    The very module that an autoencoder trains where there is pre-training, so its weights are the pre-trained ones
    by construction.
    """

    def __init__(self, num_classes: int, latent_dim: int, decoder: Decoder, product: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, latent_dim)
        self.decoder = decoder
        if not product:
            self.embedding.weight.data.fill_(1.0)
            self.embedding.weight.requires_grad_(False)
        self.noise, self.own = 0.0, 1.0

    def embedded(self, c: Tensor) -> Tensor:
        """Factors of the latents (N, latent_dim)."""
        e = blended(self.embedding.weight, c, self.own)
        if self.training and self.noise:
            e = e + self.noise * parts.rows(lambda n: torch.randn(n, e.shape[1], device=e.device), len(e))
        return e

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """The decoder's pre-activation for latents z (N, latent_dim) of classes c (N,)."""
        return self.decoder.logits(z * self.embedded(c), c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1] (N, channels, S, S)."""
        return torch.tanh(self.logits(z, c))


def blended(table: Tensor, c: Tensor, own: float) -> Tensor:
    """Rows of an embedding, `own` of the class's and the rest the mean over classes."""
    rows = table[c]
    return rows if own == 1.0 else torch.lerp(table.mean(0), rows, own)


class GaussianGenerator(nn.Module):
    """BAGAN's class-conditional latent generator and a decoder: G(z, c) = decoder(μ_c + L_c z).

    μ_c and L_c (Σ_c = L_c L_cᵀ) are buffers: fitted once, saved with the weights, not trained. Before `set_prior` they
    are those of a standard normal. Shapes: z (N, latent_dim), c (N,) -> images (N, channels, S, S).
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, num_classes: int, latent_dim: int, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("mean", torch.zeros(num_classes, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(num_classes, 1, 1))

    def set_prior(self, mean: Tensor, covariance: Tensor) -> None:
        """Take means (K, latent_dim) and positive definite covariances (K, latent_dim, latent_dim)."""
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def code(self, z: Tensor, c: Tensor) -> Tensor:
        """Standard normal z as draws from the Gaussians of their classes, (N, latent_dim)."""
        return self.mean[c] + torch.einsum("nij,nj->ni", self.factor[c], z)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.decoder(self.code(z, c), c)


class Discriminator(nn.Module):
    """A trunk times a dense label embedding, dense 512, dense 1.

    LeakyReLU(0.2) between the two dense layers (the papers name none, but without it they are one layer).
    Split in `features` and `head`, so that one trunk pass serves several labels.
    """

    def __init__(self, num_classes: int, trunk: nn.Module, width: int, hidden: int = 512) -> None:
        super().__init__()
        self.trunk = trunk
        features = trunk_features(width)
        self.label = DenseLabelEmbedding(num_classes, features)
        self.dense = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 1)

    def features(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) -> (N, width·16)."""
        return self.trunk(x).flatten(1)

    def head(self, features: Tensor, c: Tensor) -> Tensor:
        """Logit of 'real and of class c': (N, features), (N,) -> (N,)."""
        return self.out(F.leaky_relu(self.dense(features * self.label(c)), 0.2)).squeeze(1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Logits (N,)."""
        return self.head(self.features(x), c)


class ProjectionDiscriminator(Discriminator):
    """A trunk, its features summed over positions, a dense layer, and a projection (Miyato & Koyama 2018).

    Logit: w·h + V_c·h with h the dense layer's activations.
    """

    def __init__(self, num_classes: int, trunk: nn.Module, width: int, hidden: int = 512) -> None:
        super().__init__(num_classes, trunk, width, hidden)
        self.label = nn.Embedding(num_classes, hidden)  # type: ignore[assignment]
        nn.init.zeros_(self.label.weight)

    def head(self, features: Tensor, c: Tensor) -> Tensor:
        """Logit of 'real and of class c'."""
        h = F.leaky_relu(self.dense(features), 0.2)
        return self.out(h).squeeze(1) + (h * self.label(c)).sum(1)


class Classifier(nn.Module):
    """BAGAN's discriminator: a trunk and a dense layer to K + 1 logits, the last one for 'generated'."""

    def __init__(self, num_classes: int, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(trunk_features(width), num_classes + 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) -> logits (N, K + 1)."""
        return self.out(self.trunk(x).flatten(1))


@torch.no_grad()
def init_normal(network: nn.Module) -> None:
    """DCGAN's initialisation: weights from N(0, 0.02²), batch norm's scales from N(1, 0.02²), biases 0."""
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(weight, Tensor) and not isinstance(module, nn.Embedding):
            nn.init.normal_(weight, 1.0 if isinstance(module, BatchNorm2d) else 0.0, 0.02)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
