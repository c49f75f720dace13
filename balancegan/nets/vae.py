"""What SGBGAN changes in the networks: gated convolutions, self-attention, a variational encoder (SA-GVAE)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.dcgan import stage_channels, trunk_features
from balancegan.nets.layers import GLUConv2d, SelfAttention2d


class VariationalEncoder(nn.Module):
    """A trunk, then heads for the mean μ and the log-variance of q(z|x).

    No batch norm: the trunk becomes a critic whose gradient is penalised image by image.
    Shapes: x (N, channels, S, S) -> μ, log σ² (N, latent_dim) each; `trunk(x)` -> (N, width, 4, 4).
    """

    def __init__(self, trunk: nn.Module, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        features = trunk_features(width)
        self.mu = nn.Linear(features, latent_dim)
        self.logvar = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x)."""
        h = self.trunk(x).flatten(1)
        return self.mu(h), self.logvar(h)


class GLUResidualDown(nn.Module):
    """Two gated 3x3 convolutions, averaged to half the side, and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = GLUConv2d(in_channels, out_channels, 3, 1, 1)
        self.second = GLUConv2d(out_channels, out_channels, 4, 2, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, S, S) -> (N, out, S/2, S/2)."""
        return self.second(self.first(x)) + F.avg_pool2d(self.shortcut(x), 2)


class LeakyDown(nn.Sequential):
    """What stands in place of a gated convolution without gates."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True))


def gated_trunk(
    channels: int, image_size: int, width: int, stage: Callable[[int, int], nn.Module] = GLUConv2d, attention: int = 16
) -> nn.Sequential:
    """Everything of the encoder before its heads; the discriminator starts from a copy of it."""
    layers: list[nn.Module] = []
    side = image_size
    for out_channels in reversed(stage_channels(image_size, width)):
        layers.append(stage(channels, out_channels))
        channels, side = out_channels, side // 2
        if side == attention:
            layers.append(SelfAttention2d(channels, twice_differentiable=True))
    return nn.Sequential(*layers)
