"""Convert between stored bytes and network floats; all conversions happen here."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 NCHW in 0…255 to float32 in [-1, 1], channels last in memory."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)


def to_uint8(x: Tensor) -> Tensor:
    """Convert float NCHW in [-1, 1] to uint8 in 0…255 (rounded, clamped)."""
    return x.float().add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
