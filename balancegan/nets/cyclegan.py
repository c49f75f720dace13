"""CycleGAN's networks (Zhu et al. 2017, arXiv 1703.10593), conditional on the class, for images of 16 to 256 px."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from balancegan.nets.layers import through

HALVINGS = 2  # of the image's side in the translator


class ConditionalInstanceNorm2d(nn.Module):
    """Instance norm with a gain and a bias per label (Dumoulin et al. 2017, arXiv 1610.07629).

    Shapes: x (N, C, H, W), c (N,) int64 -> (N, C, H, W).
    """

    takes_labels = True

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(features)
        self.gain = nn.Embedding(num_classes, features)
        self.shift = nn.Embedding(num_classes, features)
        nn.init.normal_(self.gain.weight, 1.0, 0.02)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Normalise every map of every image, then scale and shift by label."""
        return torch.addcmul(self.shift(c)[..., None, None], self.gain(c)[..., None, None], self.norm(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity. Shapes: h (N, C, H, W), c (N,) -> (N, C, H, W)."""

    takes_labels = True

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                _conv(features, features, 3),
                ConditionalInstanceNorm2d(num_classes, features),
                nn.ReLU(inplace=True),
                _conv(features, features, 3),
                ConditionalInstanceNorm2d(num_classes, features),
            ]
        )

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Add the branch."""
        return h + through(self.layers, h, c)


class Translator(nn.Module):
    """A 7x7 convolution, two halvings, residual blocks, two doublings by resizing, a 7x7 convolution and tanh.

    All norms are conditional, so one network translates into every class.
    Shapes: x (N, channels, S, S), c (N,) -> (N, channels, S, S).
    """

    def __init__(self, num_classes: int, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(channels, width, 7), *_normalised(num_classes, width)]
        for k in range(HALVINGS):
            layers += [
                nn.Conv2d(width << k, width << k + 1, 3, 2, 1, bias=False),
                *_normalised(num_classes, width << k + 1),
            ]
        layers += [ResidualBlock(num_classes, width << HALVINGS) for _ in range(blocks)]
        for k in reversed(range(HALVINGS)):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear"),
                _conv(width << k + 1, width << k, 3),
                *_normalised(num_classes, width << k),
            ]
        self.layers = nn.ModuleList([*layers, _conv(width, channels, 7, bias=True)])

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return x as an image of class c."""
        return torch.tanh(through(self.layers, x, c))


class PatchDiscriminator(nn.Module):
    """PatchGAN with the label in a projection: logits of overlapping patches of the image.

    4x4 convolutions with LeakyReLU(0.2), instance norm in all but the first; the patch has 70 px at 256, 34 at 128 and
    16 at 64 px and below. Shapes: x (N, channels, S, S), c (N,) -> (N, H, W).
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int) -> None:
        super().__init__()
        halvings = max(1, int(math.log2(image_size)) - 5)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        features = width
        for k in range(halvings):
            out = min(2 * features, 8 * width)
            layers += [
                nn.Conv2d(features, out, 4, 2 if k < halvings - 1 else 1, 1, bias=False),
                nn.InstanceNorm2d(out),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            features = out
        self.trunk = nn.Sequential(*layers)
        self.out = nn.Conv2d(features, 1, 4, 1, 1)
        self.label = nn.Embedding(num_classes, features)
        nn.init.zeros_(self.label.weight)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the logits."""
        h = self.trunk(x)
        by_label = torch.einsum("nchw,nc->nhw", nn.functional.avg_pool2d(h, 4, 1, 1), self.label(c).to(h.dtype))
        return self.out(h).squeeze(1) + by_label


def _conv(in_channels: int, out_channels: int, kernel: int, *, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the side; borders are reflected."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="reflect", bias=bias)


def _normalised(num_classes: int, features: int) -> list[nn.Module]:
    return [ConditionalInstanceNorm2d(num_classes, features), nn.ReLU(inplace=True)]
