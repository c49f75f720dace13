"""SGBGAN's networks (SA-GVAE and its reuse as a GAN), sizes 16 to 256 px by depth.

One rule sets every width, counted from the image: the largest feature map (half the image's side) has `width / 4`
channels, the next smaller one `width / 2`, all further ones `width`; the 4x4 map has `width` always. With width 256:
256-64 at 16 px, 256-128-64 at 32 px, 256-256-128-64 at 64 px.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.layers import DenseLabelEmbedding, GLUConv2d, SelfAttention2d

SIDE = 4  # of the smallest feature map


def stage_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps of side 4, 8, … image_size / 2."""
    stages = int(math.log2(image_size // SIDE))
    return [width if k == 0 else max(width // 4, min(width, width // 4 << (stages - 1 - k))) for k in range(stages)]


def attention_side(image_size: int) -> int:
    """Side of the feature map that carries the one self-attention layer: 16, or half of a 16 px image."""
    return min(16, image_size // 2)


class Encoder(nn.Module):
    """Stride-2 GLU convolutions with one self-attention layer, then heads for μ and the log-variance.

    No batch norm: the trunk becomes a critic whose gradient is penalised image by image.
    Shapes: x (N, channels, S, S) -> μ, log σ² (N, latent_dim) each; `trunk(x)` -> (N, width, 4, 4).
    """

    def __init__(self, channels: int, image_size: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = encoder_trunk(channels, image_size, width)
        features = width * SIDE * SIDE
        self.mu = nn.Linear(features, latent_dim)
        self.logvar = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x)."""
        h = self.trunk(x).flatten(1)
        return self.mu(h), self.logvar(h)


def encoder_trunk(channels: int, image_size: int, width: int) -> nn.Sequential:
    """Everything of the encoder before its heads; the discriminator starts from a copy of it."""
    layers: list[nn.Module] = []
    side = image_size
    for out_channels in reversed(stage_channels(image_size, width)):
        layers.append(GLUConv2d(channels, out_channels))
        channels, side = out_channels, side // 2
        if side == attention_side(image_size):
            layers.append(SelfAttention2d(channels, twice_differentiable=True))
    return nn.Sequential(*layers)


def transposed_stage(in_channels: int, out_channels: int) -> list[nn.Module]:
    """The paper's: transposed 4x4 convolution, which doubles the side."""
    return [nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False), *_normalised(out_channels)]


def transposed_output(in_channels: int, channels: int) -> list[nn.Module]:
    """The paper's last layer: a transposed convolution straight to the image."""
    return [nn.ConvTranspose2d(in_channels, channels, 4, 2, 1)]


def resize_stage(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Bilinear doubling, then a 3x3 convolution (Odena et al. 2016): neighbouring pixels share their kernel.

    A transposed convolution makes the four pixels of every 2x2 block with four different kernels, and a stride-2
    critic teaches them apart: pixel noise. Borders are replicated, since zeros there show as a frame.
    """
    return [nn.Upsample(scale_factor=2, mode="bilinear"), _conv3(in_channels, out_channels), *_normalised(out_channels)]


def resize_output(in_channels: int, channels: int) -> list[nn.Module]:
    """A last doubling stage and a 3x3 convolution to the image."""
    return [*resize_stage(in_channels, in_channels), _conv3(in_channels, channels, bias=True)]


def _conv3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=bias)


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]


UPSAMPLING = {"transposed": (transposed_stage, transposed_output), "resize": (resize_stage, resize_output)}


class Decoder(nn.Module):
    """Dense to 4x4, up-sampling stages, each with batch norm and LeakyReLU(0.2), one self-attention layer, tanh.

    `upsampling` chooses the stages from `UPSAMPLING`. `logits` stops before the tanh: tanh(a) on [-1, 1] is
    sigmoid(2a) on [0, 1], which lets the cross-entropy be computed without saturating. Convolutions before a batch
    norm have no bias, it would cancel. Shapes: (N, latent_dim) -> (N, channels, S, S).
    """

    def __init__(
        self, channels: int, image_size: int, width: int, latent_dim: int, upsampling: str = "transposed"
    ) -> None:
        super().__init__()
        stage, output = UPSAMPLING[upsampling]
        widths = stage_channels(image_size, width)
        self.width = width
        self.dense = nn.Linear(latent_dim, width * SIDE * SIDE, bias=False)
        self.norm = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        side = SIDE
        for in_channels, out_channels in itertools.pairwise(widths):
            layers += stage(in_channels, out_channels)
            side *= 2
            if side == attention_side(image_size):
                layers.append(SelfAttention2d(out_channels))
        self.up = nn.Sequential(*layers, *output(widths[-1], channels))

    def logits(self, o: Tensor) -> Tensor:
        """Pre-activation image `a` with image = tanh(a)."""
        h = self.dense(o).view(o.shape[0], self.width, SIDE, SIDE)  # (N, latent) -> (N, width, 4, 4)
        return self.up(F.leaky_relu(self.norm(h), 0.2))

    def forward(self, o: Tensor) -> Tensor:
        """Image in [-1, 1]."""
        return torch.tanh(self.logits(o))


class Generator(nn.Module):
    """Label embedding and decoder: G(z, c) = decoder(z ⊙ e(c)) (SGBGAN Eq. 7).

    The very module that the SA-GVAE trains, so its weights are the pre-trained ones by construction.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        width: int,
        latent_dim: int,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, latent_dim)
        self.decoder = Decoder(channels, image_size, width, latent_dim, upsampling)

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """The decoder's pre-activation for latents z (N, latent_dim) of classes c (N,)."""
        return self.decoder.logits(z * self.embedding(c))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1] (N, channels, S, S)."""
        return torch.tanh(self.logits(z, c))


class Discriminator(nn.Module):
    """The encoder's trunk times a dense label embedding, dense 512, dense 1.

    LeakyReLU(0.2) between the two dense layers (the papers name none, but without it they are one layer).
    Split in `features` and `head`, so that one trunk pass serves several labels.
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int, hidden: int = 512) -> None:
        super().__init__()
        self.trunk = encoder_trunk(channels, image_size, width)
        features = width * SIDE * SIDE
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
