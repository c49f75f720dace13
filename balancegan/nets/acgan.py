"""CovidGAN's networks (Waheed et al. 2020, doi 10.1109/ACCESS.2020.2994762), for images of 16 to 256 px."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.nets.dcgan import SIDE
from balancegan.nets.layers import BatchNorm2d
from balancegan.nets.unet import Dropout
from balancegan.nets.upsampling import UPSAMPLING

EMBEDDING = 50  # of the label in the generator
BLOCKS = 5  # convolutions of the discriminator, at least


class LabelMapGenerator(nn.Module):
    """A latent and a label, each mapped to 4x4, side by side; then upsampling with batch norm and ReLU, and tanh.

    The label's map is one more channel. Each stage halves the `width` channels, down to 8.
    Shapes: z (N, latent_dim), c (N,) -> images (N, channels, S, S) in [-1, 1].
    """

    def __init__(
        self, num_classes: int, channels: int, image_size: int, width: int, latent_dim: int, upsampling: str
    ) -> None:
        super().__init__()
        stage, output = UPSAMPLING[upsampling]
        self.dense = nn.Linear(latent_dim, width * SIDE * SIDE)
        self.label = nn.Sequential(nn.Embedding(num_classes, EMBEDDING), nn.Linear(EMBEDDING, SIDE * SIDE))
        stages = int(math.log2(image_size // SIDE))
        widths = [width + 1, *(max(8, width >> k) for k in range(1, stages))]
        layers = [layer for pair in itertools.pairwise(widths) for layer in stage(*pair, 0.0, BatchNorm2d)]
        self.up = nn.Sequential(*layers, *output(widths[-1], channels, 0.0, BatchNorm2d))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Return images."""
        h = F.relu(self.dense(z)).view(len(z), -1, SIDE, SIDE)
        return torch.tanh(self.up(torch.cat([h, self.label(c).view(len(z), 1, SIDE, SIDE)], 1)))


class AuxiliaryClassifier(nn.Module):
    """Blocks of a 3x3 convolution, batch norm, LeakyReLU(0.2) and dropout; one head for validity, one for the class.

    Blocks have stride 2 until the maps are 4x4, and channels double up to `width` in the last block.
    Shapes: x (N, channels, S, S) -> validity logits (N,), class logits (N, K).
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int, dropout: float) -> None:
        super().__init__()
        halvings = int(math.log2(image_size // SIDE))
        blocks = max(BLOCKS, halvings)
        layers: list[nn.Module] = []
        for k in range(blocks):
            out_channels = max(8, width >> (blocks - 1 - k))
            layers += [
                nn.Conv2d(channels, out_channels, 3, 2 if k < halvings else 1, 1, bias=False),
                BatchNorm2d(out_channels),
                nn.LeakyReLU(0.2, inplace=True),
                Dropout(dropout),
            ]
            channels = out_channels
        self.trunk = nn.Sequential(*layers)
        self.validity = nn.Linear(channels * SIDE * SIDE, 1)
        self.classes = nn.Linear(channels * SIDE * SIDE, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both heads' logits."""
        h = self.trunk(x).flatten(1)
        return self.validity(h).squeeze(1), self.classes(h)
