"""Geometric augmentation that a generator does not learn to imitate, because it is told what was done.

Karras et al. 2022 (arXiv 2206.00364, appendix F.2, and its released code), after Karras et al. 2020 (arXiv 2006.06676).
One affine map per image is applied by bilinear interpolation with reflected borders, where the original filters with
wavelets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from balancegan.compute import batch_random

LABELS = 9
"""Numbers per image that tell what was done."""


def augmented(x: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return transformed images and labels: (N, C, S, S) -> (N, C, S, S), (N, LABELS); all labels are 0 for none.

    Half of the images are mirrored. Each of turning upside down (for half of the chosen images), scaling, rotation,
    stretching (for half of the chosen along a random axis) and shifting is applied to an image with probability `share`
    on its own.
    """
    n, device = len(x), x.device
    done = (batch_random.rand(n, 6, device=device) < share).float()
    coins = (batch_random.rand(n, 3, device=device) < 0.5).float()
    normal = batch_random.randn(n, 4, device=device)
    angles = (2 * batch_random.rand(n, 2, device=device) - 1) * math.pi
    mirror, turn, scale = coins[:, 0], done[:, 1] * coins[:, 1], done[:, 2] * normal[:, 0]
    angle, axis = done[:, 3] * angles[:, 0], coins[:, 2] * angles[:, 1]
    stretch, shift = done[:, 4] * normal[:, 1], done[:, 5:] * normal[:, 2:]
    labels = [mirror, turn, scale, angle.cos() - 1, angle.sin(), stretch * axis.cos(), stretch * axis.sin()]
    labels += [shift[:, 0], shift[:, 1]]
    with torch.autocast(x.device.type, enabled=False):  # coordinates need more than the 8 bits of bfloat16
        # From where in the old image a pixel of the new one comes, in units of half the side; the shift comes last.
        zoom = torch.exp2(-0.2 * scale)
        squeeze = _diagonal(torch.exp2(-0.2 * stretch), torch.exp2(0.2 * stretch))
        flips = _diagonal((1 - 2 * mirror) * zoom, (1 - 2 * turn) * zoom)
        matrix = flips @ _rotation(angle) @ _rotation(axis) @ squeeze @ _rotation(-axis)
        theta = torch.cat([matrix, matrix @ (-2 * 0.125 * shift[:, :, None])], 2)  # (N, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        y = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return y, torch.stack(labels, 1)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([first, second], 1))


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
