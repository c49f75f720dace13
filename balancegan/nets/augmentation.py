"""Augmentation of image batches on the device, differentiable with respect to the images.

The generator is trained through SimCLR's augmentation, so it consists of differentiable tensor operations; each image
gets its own random parameters. It is SimCLR's set (Chen et al. 2020, arXiv 2002.05709) with the strengths that ContraD
uses for CIFAR-10: random resized crop, flip, colour jitter and greyscale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import functional

from balancegan.compute import batch_random

_LUMA = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class SimCLRAugment:
    """Random resized crop, flip, colour jitter and greyscale of images in [-1, 1]: (N, C, S, S) -> (N, C, S, S).

    Args:
        scale: the crop's fraction of the image's area, drawn uniformly.
        ratio: the crop's aspect ratio (width / height), drawn log-uniformly.
        brightness, contrast, saturation: factors are drawn from 1 ± these values; saturation for colour images only.
        hue: turns of the colour circle, drawn from ± this value; colour images only. It is a rotation in YIQ, which is
            linear in the image, whereas torchvision's conversion to HSV is not smooth.
        jitter_probability, grey_probability, flip_probability: per image.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    flip_probability: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        """Return augmented images in [-1, 1]; random numbers come from the device's global torch generator.

        Never runs in half precision, even under autocast: in bf16, the rounding of the crop's corners is visible, and
        colours shift.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self.recolour(self.crop(x if x.dtype == torch.float64 else x.float()))

    def crop(self, x: Tensor) -> Tensor:
        """Crop a random part of each image, resize it to the full size (bilinear) and randomly flip it."""
        n = len(x)
        area = _uniform(n, self.scale, x)
        log_ratio = _uniform(n, (math.log(self.ratio[0]), math.log(self.ratio[1])), x)
        # Half the width and height of the crop, in image coordinates from -1 to 1.
        half_w = (area * log_ratio.exp()).sqrt().clamp(max=1.0)
        half_h = (area / log_ratio.exp()).sqrt().clamp(max=1.0)
        centre_x, centre_y = (_uniform(n, (-1.0, 1.0), x) * (1 - half) for half in (half_w, half_h))
        mirrored = _uniform(n, (0.0, 1.0), x) < self.flip_probability
        zero = torch.zeros_like(half_w)
        rows = [
            torch.stack([torch.where(mirrored, -half_w, half_w), zero, centre_x], 1),
            torch.stack([zero, half_h, centre_y], 1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)  # (N, S, S, 2)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def recolour(self, x: Tensor) -> Tensor:
        """Change brightness, contrast, saturation, hue and greyscale, in this order, and clamp at the end."""
        n, channels = x.shape[:2]
        jittered = (_uniform(n, (0.0, 1.0), x) < self.jitter_probability).to(x.dtype)

        def factor(strength: float) -> Tensor:
            return (1 + jittered * _uniform(n, (-strength, strength), x)).view(-1, 1, 1, 1)

        y = (x + 1) / 2 * factor(self.brightness)
        mean = _luma(y).mean((1, 2, 3), keepdim=True)
        y = mean + factor(self.contrast) * (y - mean)
        if channels == 3:
            grey = _luma(y)
            y = grey + factor(self.saturation) * (y - grey)
            y = torch.einsum("nij,njhw->nihw", _hue(jittered * _uniform(n, (-self.hue, self.hue), x)), y)
            drained = _uniform(n, (0.0, 1.0), x) < self.grey_probability
            y = torch.where(drained.view(-1, 1, 1, 1), _luma(y).expand_as(y), y)
        return y.clamp(0, 1) * 2 - 1


def _uniform(n: int, bounds: tuple[float, float], like: Tensor) -> Tensor:
    """Draw n uniform numbers within the bounds (n,), with the device and dtype of `like`."""
    low, high = bounds
    return low + (high - low) * batch_random.rand(n, device=like.device, dtype=like.dtype)


def _luma(x: Tensor) -> Tensor:
    """Return the luma of each pixel: (N, 3 or 1, H, W) -> (N, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _hue(turns: Tensor) -> Tensor:
    """Return matrices (N, 3, 3) that rotate the hue of RGB pixels by `turns` (N,) full turns, at constant luma."""
    yiq = turns.new_tensor(_YIQ)
    cos, sin = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    rotation = torch.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], 1).view(-1, 3, 3)
    return torch.linalg.inv(yiq) @ rotation @ yiq


def flipped_and_cropped(x: Tensor, rng: np.random.Generator, *, flips: bool) -> Tensor:
    """Mirror each image with probability 1/2 (if `flips`) and shift it by up to an eighth of its side.

    Args:
        x: (B, C, S, S) float; pixels shifted in from outside repeat the edge.
        rng: random generator of the flips and shifts.
        flips: whether to mirror.
    """
    size, side = len(x), x.shape[-1]
    reach = side // 8
    offsets = torch.from_numpy(rng.integers(0, 2 * reach + 1, size=(2, size, 1))).to(x.device)
    mirrored = torch.from_numpy(rng.random((size, 1)) < 0.5).to(x.device) & flips
    along = torch.arange(side, device=x.device)[None]
    rows = offsets[0] + along  # (B, S)
    cols = offsets[1] + torch.where(mirrored, side - 1 - along, along)
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    images = torch.arange(size, device=x.device)[:, None, None]
    return padded[images, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)  # BSSC -> BCSS
