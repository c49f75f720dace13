"""Interpolate between two latents of a class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from balancegan.compute.memory import Fitting, memory_errors
from balancegan.compute.pixels import to_uint8
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling.samplers import latents, sampled

MAX_ROWS = 12
"""Maximum number of classes shown."""


@torch.no_grad()
def interpolation(
    method: Method,
    device: torch.device,
    columns: int = 9,
    seed: int = 0,
    sources: SourceImages | None = None,
) -> np.ndarray:
    """Return images along the path from one latent to another, the same path for every class.

    Args:
        method: trained, on `device`.
        device: where to sample.
        columns: images per row, at least 2; the first and the last are those of the seeds themselves.
        seed: the two ends are seeds 2·seed and 2·seed + 1.
        sources: real images, for a method that starts from them; each row starts from one.

    Returns:
        uint8 (K, columns, C, S, S) with K classes, at most `MAX_ROWS`, or one row for an unconditional method.
    """
    first, last = latents(method, (2 * seed, 2 * seed + 1))
    path = between(first, last, columns, method.support).to(device)
    rows = min(method.num_conditions, MAX_ROWS)
    fitting = Fitting(columns, device)

    def row(k: int) -> Tensor:
        return sampled(method, path, k, [2 * seed] * columns, sources, fitting)

    with memory_errors(device, "use --device cpu"):
        images = [to_uint8(row(k)) for k in range(rows)]
    return torch.stack(images).contiguous().cpu().numpy()


def between(first: Tensor, last: Tensor, columns: int, support: tuple[float, float]) -> Tensor:
    """Return latents (columns, …) along a great circle from one latent (…) to another.

    Spherical interpolation (White 2016, arXiv 1609.04468): halfway on a straight line, normal latents would be shorter
    than any that the generator was trained on. Latents uniform over a finite `support` are mapped to normal ones for
    the interpolation and back, so that no point leaves the support.
    """
    low, high = support
    bounded = np.isfinite(high - low)
    ends = torch.stack([first, last]).double().flatten(1)
    if bounded:
        ends = torch.special.ndtri(((ends - low) / (high - low)).clamp(1e-6, 1 - 1e-6))
    a, b = ends
    t = torch.linspace(0, 1, columns, dtype=torch.float64)[:, None]
    angle = torch.arccos((a @ b / (a.norm() * b.norm()).clamp_min(1e-12)).clamp(-1, 1))
    if angle.sin() < 1e-4:  # parallel or opposite: the great circle is not unique
        way = (1 - t) * a + t * b
    else:
        way = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
    path = torch.special.ndtr(way) * (high - low) + low if bounded else way
    return path.float().view(columns, *first.shape)
