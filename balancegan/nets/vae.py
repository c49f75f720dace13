"""SGBGAN's SA-GVAE networks: gated convolutions, self-attention and a variational encoder."""

from __future__ import annotations

from torch import Tensor, nn

from balancegan.nets.dcgan import attention_side, stage_channels, trunk_features
from balancegan.nets.layers import GLUConv2d, SelfAttention2d


class VariationalEncoder(nn.Module):
    """A trunk with heads for the mean μ and the log-variance of q(z|x).

    It has no batch norm, because its trunk initialises a critic with a per-image gradient penalty.
    Shapes: x (N, channels, S, S) -> μ, log σ² (N, latent_dim) each; `trunk(x)` -> (N, width, 4, 4).
    """

    def __init__(self, trunk: nn.Module, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        features = trunk_features(width)
        self.mu = nn.Linear(features, latent_dim)
        self.logvar = nn.Linear(features, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and log-variance of q(z|x)."""
        h = self.trunk(x).flatten(1)
        return self.mu(h), self.logvar(h)


def gated_trunk(
    channels: int, image_size: int, width: int, *, gated: bool = True, attention: int = 16
) -> nn.Sequential:
    """Build all layers of the encoder before its heads; the discriminator starts from a copy of them.

    Without `gated`, it uses plain convolutions and LeakyReLU(0.2). `attention`: see `attention_side`.
    """
    layers: list[nn.Module] = []
    side = image_size
    for out_channels in reversed(stage_channels(image_size, width)):
        if gated:
            layers.append(GLUConv2d(channels, out_channels))
        else:
            layers += [nn.Conv2d(channels, out_channels, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels, side = out_channels, side // 2
        if side == attention_side(image_size, attention):
            layers.append(SelfAttention2d(channels, twice_differentiable=True))
    return nn.Sequential(*layers)
