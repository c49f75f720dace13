"""SN-ResNet-18: the discriminator trunk of ContraD's and Damage GAN's published runs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.sndcgan import SLOPE, Convolution, normalised


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 where the shape changes), spectrally normalised, without batch norm."""

    def __init__(self, inside: int, outside: int, stride: int, convolution: Convolution) -> None:
        super().__init__()
        self.first = normalised(convolution(inside, outside, 3, stride, 1))
        self.second = normalised(convolution(outside, outside, 3, 1, 1))
        changes = stride != 1 or inside != outside
        self.shortcut = normalised(convolution(inside, outside, 1, stride, 0)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inside, H, W) -> (N, outside, H / stride, W / stride)."""
        h = self.second(F.leaky_relu_(self.first(x), SLOPE))
        return F.leaky_relu_(h + self.shortcut(x), SLOPE)


class SNResNet18Trunk(nn.Sequential):
    """He et al.'s ResNet-18 with the CIFAR stem (3x3, no pooling) and global average pooling at the end.

    Strided convolutions first halve images above 32 px down to 32 px, so the stages always see the same resolutions.
    Shapes: (N, channels, S, S) -> (N, 8·width).
    """

    def __init__(self, channels: int, image_size: int, width: int = 64, convolution: Convolution = nn.Conv2d) -> None:
        layers: list[nn.Module] = [normalised(convolution(channels, width, 3, 1, 1)), nn.LeakyReLU(SLOPE, inplace=True)]
        while image_size > 32:
            layers += [normalised(convolution(width, width, 4, 2, 1)), nn.LeakyReLU(SLOPE, inplace=True)]
            image_size //= 2
        inside = width
        for outside, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            layers += [Block(inside, outside, stride, convolution), Block(outside, outside, 1, convolution)]
            inside = outside
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = inside
