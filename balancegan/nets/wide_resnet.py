"""Wide residual networks: Zagoruyko & Komodakis, "Wide Residual Networks" (2016), https://arxiv.org/abs/1605.07146.

Pre-activation blocks of two 3x3 convolutions in three groups of 16k, 32k and 64k channels; the second and third groups
halve the image's side. This follows the paper except for images larger than 32 px: there the first convolution has a
stride, so that the groups work at the paper's sizes (at most 32, 16 and 8) and larger images cost hardly more.

With batch normalisation an image's output depends on its batch: gradients summed over parts of a batch, where memory
does not hold all of it, are not quite those of the whole.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32  # largest of the first group's features


class WideResNet(nn.Sequential):
    """WRN-`depth`-`width`: images (N, C, S, S) -> logits (N, K).

    Args:
        channels: C.
        num_classes: K.
        side: S.
        depth: layers with weights on the longest path, 6n + 4 for n blocks per group.
        width: the factor k of the channels.
    """

    def __init__(self, channels: int, num_classes: int, side: int, *, depth: int = 16, width: int = 1) -> None:
        stride = -(-side // SIDE)
        kernel = 3 if stride <= 2 else 5  # so that the strides leave no pixel out
        blocks: list[nn.Module] = []
        inside = 16
        for group in range(3):
            for block in range((depth - 4) // 6):
                blocks.append(Block(inside, 16 * width << group, 2 if group and not block else 1))
                inside = 16 * width << group
        super().__init__(
            nn.Conv2d(channels, 16, kernel, stride=stride, padding=kernel // 2, bias=False),
            *blocks,
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inside, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Block(nn.Module):
    """A basic wide block, "B(3,3)": (N, inside, S, S) -> (N, outside, S / stride, S / stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        resized = inside != outside or stride > 1
        self.skip = nn.Conv2d(inside, outside, 1, stride=stride, bias=False) if resized else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        h = F.relu(self.norm1(x))
        x = x if self.skip is None else self.skip(h)
        return x + self.conv2(F.relu(self.norm2(self.conv1(h))))
