"""Two ways for a generator to double the side of its maps: `UPSAMPLING` names them.

Each has a stage, from so many channels to so many, and an output, which doubles a last time and ends in the image's
channels. Stages with `LeakyReLU(slope)`; `norm` makes the normalisation of so many channels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

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


def conv3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    """A 3x3 convolution with replicated borders."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=bias)


def normalised(channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Normalisation and LeakyReLU."""
    return [norm(channels), nn.LeakyReLU(slope, inplace=True)]


UPSAMPLING = {
    "transposed": (transposed_stage, transposed_output),
    "resize": (resize_stage, resize_output),
}
