"""Three ways for a generator to double the side of its maps: `UPSAMPLING` names them.

Each has a stage, from so many channels to so many, and an output, which doubles a last time and ends in the image's
channels. Stages with `LeakyReLU(slope)`; `norm` makes the normalisation of so many channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.layers import through

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels: `BatchNorm2d`, or one that looks at labels too."""


def transposed_stage(in_channels: int, out_channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """The papers': transposed 4x4 convolution."""
    return [nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False), *normalised(out_channels, slope, norm)]


def transposed_output(in_channels: int, channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """The papers' last layer: a transposed convolution straight to the image."""
    return [nn.ConvTranspose2d(in_channels, channels, 4, 2, 1)]


def resize_stage(in_channels: int, out_channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Bilinear doubling, then a 3x3 convolution (Odena et al. 2016): neighbouring pixels share their kernel.

    A transposed convolution makes the four pixels of every 2x2 block with four different kernels, and a stride-2
    critic teaches them apart: pixel noise. Borders are replicated, since zeros there show as a frame.
    """
    return [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        conv3(in_channels, out_channels),
        *normalised(out_channels, slope, norm),
    ]


def resize_output(in_channels: int, channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """A last doubling stage and a 3x3 convolution to the image."""
    return [*resize_stage(in_channels, in_channels, slope, norm), conv3(in_channels, channels, bias=True)]


class ResidualUp(nn.Module):
    """Norm, LeakyReLU, bilinear doubling, 3x3 convolution, norm, LeakyReLU, 3x3 convolution, beside a 1x1 shortcut.

    The up-sampling block of SAGAN and BigGAN (Brock et al., ICLR 2019, arXiv 1809.11096, Fig. 15), with bilinear
    doubling. Shapes: x (N, in, S, S), c (N,) or None -> (N, out, 2S, 2S).
    """

    takes_labels = True

    def __init__(self, in_channels: int, out_channels: int, slope: float, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.conv1, self.conv2 = conv3(in_channels, out_channels), conv3(out_channels, out_channels, bias=True)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.slope = slope

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Double the side; the norms get the labels where they look at them."""
        h = _doubled(F.leaky_relu(through([self.norm1], x, c), self.slope))
        h = F.leaky_relu(through([self.norm2], self.conv1(h), c), self.slope)
        # The shortcut's 1x1 convolution commutes with resizing and is cheaper before it.
        return self.conv2(h) + _doubled(self.shortcut(x))


def residual_stage(in_channels: int, out_channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """A residual block."""
    return [ResidualUp(in_channels, out_channels, slope, norm)]


def residual_output(in_channels: int, channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """A last residual block, normalised, and a 3x3 convolution to the image."""
    block = ResidualUp(in_channels, in_channels, slope, norm)
    return [block, *normalised(in_channels, slope, norm), conv3(in_channels, channels, bias=True)]


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def conv3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    """A 3x3 convolution with replicated borders."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=bias)


def normalised(channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Normalisation and LeakyReLU."""
    return [norm(channels), nn.LeakyReLU(slope, inplace=True)]


UPSAMPLING = {
    "transposed": (transposed_stage, transposed_output),
    "resize": (resize_stage, resize_output),
    "residual": (residual_stage, residual_output),
}
