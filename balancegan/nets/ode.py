"""Solve a diffusion model's probability-flow equation dx/dσ = (x - D(x; σ))/σ from a high noise level to none.

Karras et al. 2022, arXiv 2206.00364, Eq. 3 in the parametrisation σ(t) = t, where D is the denoiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
"""Noisy images (N, C, S, S) and their noise level to an estimate of the clean images."""

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0


def noise_levels(steps: int, strength: float = 1.0) -> list[float]:
    """Return the noise levels of a solution in `steps` steps, falling to 0: `steps` + 1 numbers (Eq. 5).

    `strength`: where to begin, in the same warped coordinate in which the levels are equally spaced: 1 for the highest
    level, towards 0 for the lowest.
    """
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    start = low + strength * (high - low)
    last = max(steps - 1, 1)
    return [(start + i / last * (low - start)) ** RHO for i in range(steps)] + [0.0]


def dpm_solver(denoise: Denoiser, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Solve with DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2): one evaluation per step.

    In λ = -log σ, the solution is linear in x and an exponentially weighted integral of D, which is extrapolated
    linearly from the last two evaluations. The first and the last step are of first order.
    """
    previous: tuple[Tensor, float] | None = None  # the last D, and the width of its step in λ
    for now, after in pairwise(sigmas):
        d = denoise(x, now)
        if not after:
            return d
        width = math.log(now / after)
        corrected = d
        if previous is not None:
            corrected = d + width / (2 * previous[1]) * (d - previous[0])
        x = after / now * x + (1 - after / now) * corrected
        previous = d, width
    return x
