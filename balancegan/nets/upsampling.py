"""Ways for a generator to upsample its feature maps by two; `UPSAMPLING` names them.

Each has a stage, with given input and output channels, and an output, which upsamples a last time to the image's
channels. Stages end in `LeakyReLU(slope)`; `norm` constructs a normalisation layer for a number of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

Norm = Callable[[int], nn.Module]
"""Constructs a normalisation layer for a number of channels: `BatchNorm2d` or a conditional one."""


def transposed_stage(
    in_channels: int, out_channels: int, slope: float, norm: Norm, *, kernel: int = 4
) -> list[nn.Module]:
    """Build a transposed convolution, as in the papers."""
    return [_transposed(in_channels, out_channels, kernel, bias=False), *normalised(out_channels, slope, norm)]


def transposed_output(in_channels: int, channels: int, slope: float, norm: Norm, *, kernel: int = 4) -> list[nn.Module]:
    """Build a transposed convolution directly to the image, as in the papers."""
    return [_transposed(in_channels, channels, kernel, bias=True)]


def _transposed(in_channels: int, out_channels: int, kernel: int, *, bias: bool) -> nn.Module:
    padding, output_padding = (kernel - 1) // 2, kernel % 2  # twice the side
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, 2, padding, output_padding, bias=bias)


def resize_stage(in_channels: int, out_channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Build bilinear upsampling and a 3x3 convolution (Odena et al. 2016): neighbouring pixels share a kernel.

    A transposed convolution computes the four pixels of every 2x2 block with four different kernels, which drift apart
    under a stride-2 critic and cause pixel noise. Borders are replicated, because zero padding shows as a frame.
    """
    return [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        conv3(in_channels, out_channels),
        *normalised(out_channels, slope, norm),
    ]


def resize_output(in_channels: int, channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Build a last upsampling stage and a 3x3 convolution to the image."""
    return [*resize_stage(in_channels, in_channels, slope, norm), conv3(in_channels, channels, bias=True)]


def conv3(in_channels: int, out_channels: int, bias: bool = False) -> nn.Conv2d:
    """Build a 3x3 convolution with replicated borders."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate", bias=bias)


def normalised(channels: int, slope: float, norm: Norm) -> list[nn.Module]:
    """Build a normalisation layer and LeakyReLU."""
    return [norm(channels), nn.LeakyReLU(slope, inplace=True)]


Build = Callable[[int, int, float, Norm], list[nn.Module]]

UPSAMPLING: dict[str, tuple[Build, Build]] = {
    "transposed": (transposed_stage, transposed_output),
    "transposed-5": (partial(transposed_stage, kernel=5), partial(transposed_output, kernel=5)),
    "resize": (resize_stage, resize_output),
}
