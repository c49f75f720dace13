"""The convolutional networks of the methods that the SGBGAN paper compares, for images of 16 to 256 px.

Strided convolutions down and transposed convolutions up (Radford et al. 2015, arXiv 1511.06434), with the conditioning
of BAGAN-GP (Huang & Jafari 2021): a label embedding multiplied into the latent and into the discriminator's features.

One rule sets all widths: the largest feature map (half the image's side) has `width / 4` channels, the next smaller one
`width / 2`, and all others `width`; the 4x4 map always has `width`. With width 256: 256-64 at 16 px, 256-128-64 at 32
px, 256-256-128-64 at 64 px.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.layers import BatchNorm2d, DenseLabelEmbedding, SelfAttention2d, through
from balancegan.nets.upsampling import UPSAMPLING, Norm

SIDE = 4  # of the smallest feature map


def stage_channels(image_size: int, width: int) -> list[int]:
    """Return the channels of the feature maps of side 4, 8, … image_size / 2."""
    stages = int(math.log2(image_size // SIDE))
    return [width if k == 0 else max(width // 4, min(width, width // 4 << (stages - 1 - k))) for k in range(stages)]


def attention_side(image_size: int, most: int = 16) -> int:
    """Return the side of the feature map with self-attention: `most`, or half of a small image's side; 0: none."""
    return min(most, image_size // 2)


def trunk_features(width: int) -> int:
    """Return a trunk's number of features per image: `width` channels at 4x4."""
    return width * SIDE * SIDE


def conv_trunk(channels: int, image_size: int, width: int, *, norm: Norm | None = None) -> nn.Sequential:
    """Build stride-2 4x4 convolutions with LeakyReLU(0.2) down to (N, width, 4, 4).

    `norm` normalises every layer except the first, as DCGAN does. Do not use batch norm in a critic with a gradient
    penalty, which must treat images independently.
    """
    layers: list[nn.Module] = []
    for i, out_channels in enumerate(reversed(stage_channels(image_size, width))):
        normalised = norm is not None and i > 0
        layers.append(nn.Conv2d(channels, out_channels, 4, 2, 1, bias=not normalised))
        if norm is not None and normalised:
            layers.append(norm(out_channels))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        channels = out_channels
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """A trunk and a dense layer that outputs the latent: (N, channels, S, S) -> (N, latent_dim)."""

    def __init__(self, trunk: nn.Module, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(trunk_features(width), latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return latents."""
        return self.out(self.trunk(x).flatten(1))


class Decoder(nn.Module):
    """A dense layer to 4x4, upsampling stages with normalisation and LeakyReLU(`slope`), and tanh.

    `upsampling` selects the stages from `UPSAMPLING`. `attention` is the side of the map with SGBGAN's self-attention
    layer, 0 for none. `norm` constructs a normalisation layer for a number of channels; if it is conditional, c is
    required. `logits` stops before the tanh: tanh(a) on [-1, 1] is sigmoid(2a) on [0, 1], which allows computing the
    cross-entropy without saturation. Convolutions before a batch norm have no bias, because it would cancel.
    Shapes: o (N, latent_dim), c (N,) or None -> (N, channels, S, S).
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

    def logits(self, o: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the pre-activation `a` of the image tanh(a)."""
        h = self.dense(o).view(o.shape[0], self.width, SIDE, SIDE)  # (N, latent) -> (N, width, 4, 4)
        return through(self.up, F.leaky_relu_(through([self.norm], h, c), self.slope), c)

    def forward(self, o: Tensor, c: Tensor | None = None) -> Tensor:
        """Return images in [-1, 1] (N, channels, S, S)."""
        return torch.tanh(self.logits(o, c))


class Generator(nn.Module):
    """Label embedding and decoder: G(z, c) = decoder(z ⊙ e(c)) (SGBGAN Eq. 7, BAGAN-GP).

    Pre-training, if any, trains this same module, so its weights need no transfer.
    """

    def __init__(self, num_classes: int, latent_dim: int, decoder: Decoder) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, latent_dim)
        self.decoder = decoder

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the decoder's pre-activation for latents z (N, latent_dim) and classes c (N,)."""
        return self.decoder.logits(z * self.embedding(c), c)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Return images in [-1, 1] (N, channels, S, S) for latents z and classes c."""
        return torch.tanh(self.logits(z, c))


class GaussianGenerator(nn.Module):
    """BAGAN's class-conditional latent generator and a decoder: G(z, c) = decoder(μ_c + L_c z).

    μ_c and L_c (Σ_c = L_c L_cᵀ) are buffers: fitted once, saved with the weights, not trained. Before `set_prior`, the
    prior is standard normal. Shapes: z (N, latent_dim), c (N,) -> images (N, channels, S, S).
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, num_classes: int, latent_dim: int, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("mean", torch.zeros(num_classes, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(num_classes, 1, 1))

    def set_prior(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the means (K, latent_dim) and positive definite covariances (K, latent_dim, latent_dim)."""
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def code(self, z: Tensor, c: Tensor) -> Tensor:
        """Transform standard normal z into draws from the class Gaussians, (N, latent_dim)."""
        return self.mean[c] + torch.einsum("nij,nj->ni", self.factor[c], z)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.decoder(self.code(z, c), c)


class Discriminator(nn.Module):
    """A trunk multiplied by a dense label embedding, then dense layers of 512 and 1 units.

    LeakyReLU(0.2) between the two dense layers (the papers name no activation, but without one they would be a single
    linear layer). Split into `features` and `head`, so one trunk pass serves several labels.
    """

    def __init__(self, num_classes: int, trunk: nn.Module, width: int, hidden: int = 512) -> None:
        super().__init__()
        self.trunk = trunk
        features = trunk_features(width)
        self.label: nn.Module = DenseLabelEmbedding(num_classes, features)
        self.dense = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 1)

    def features(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) -> (N, width·16)."""
        return self.trunk(x).flatten(1)

    def head(self, features: Tensor, c: Tensor) -> Tensor:
        """Logit of 'real and of class c': (N, features), (N,) -> (N,)."""
        return self.out(F.leaky_relu(self.dense(features * self.label(c)), 0.2)).squeeze(1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return logits (N,)."""
        return self.head(self.features(x), c)


class ProjectedDiscriminator(Discriminator):
    """`Discriminator` with the label in a projection instead of a product (Miyato & Koyama 2018).

    The logit is out(h) + e(c)·h, with h the hidden layer's activations: classes share all weights except their row of
    the embedding, which starts at 0.
    """

    def __init__(self, num_classes: int, trunk: nn.Module, width: int, hidden: int = 512) -> None:
        super().__init__(num_classes, trunk, width, hidden)
        self.label = nn.Embedding(num_classes, hidden)
        nn.init.zeros_(self.label.weight)

    def head(self, features: Tensor, c: Tensor) -> Tensor:
        """Logit of 'real and of class c': (N, features), (N,) -> (N,)."""
        h = F.leaky_relu(self.dense(features), 0.2)
        return self.out(h).squeeze(1) + (h * self.label(c)).sum(1)


class Classifier(nn.Module):
    """BAGAN's discriminator: a trunk and a dense layer with K + 1 logits, the last for 'generated'."""

    def __init__(self, num_classes: int, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(trunk_features(width), num_classes + 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) -> logits (N, K + 1)."""
        return self.out(self.trunk(x).flatten(1))


@torch.no_grad()
def init_normal(network: nn.Module) -> None:
    """Apply DCGAN's initialisation: weights from N(0, 0.02²), batch norm scales from N(1, 0.02²), biases 0."""
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(weight, Tensor) and not isinstance(module, nn.Embedding):
            nn.init.normal_(weight, 1.0 if isinstance(module, BatchNorm2d) else 0.0, 0.02)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
