"""Kernel distance between two sets of features (KID).

Bińkowski et al., "Demystifying MMD GANs" (ICLR 2018), https://arxiv.org/abs/1801.01401: the unbiased estimate of the
squared maximum mean discrepancy under the kernel k(x, y) = (xᵀy / d + 1)³, averaged over random subsets. Unlike FID its
expectation does not depend on the number of images, so it suits classes with few of them; it may be
slightly negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]

SUBSETS = 100
SUBSET_SIZE = 1000


def kernel_distance(
    *, feats_real: Features, feats_fake: Features, seed: int = 0, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> tuple[float, float, int]:
    """Mean and standard deviation of the squared discrepancy over random subsets, in float64.

    Args:
        feats_real: (N, d) features of real images.
        feats_fake: (M, d) features of synthetic images.
        seed: of the subsets.
        subsets: how many.
        subset_size: images of each kind in a subset, at most N and M.

    Returns:
        `(mean, standard deviation, images in a subset)`; where both sets are as small as a subset there is only one,
        and the deviation is 0.

    Raises:
        ValueError: fewer than two rows on a side, different dimensions, or values that are not finite.
    """
    if feats_real.ndim != 2 or feats_fake.ndim != 2 or feats_real.shape[1] != feats_fake.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), got {feats_real.shape} and {feats_fake.shape}")
    size = min(subset_size, len(feats_real), len(feats_fake))
    if size < 2:
        raise ValueError("an unbiased estimate needs at least two images on each side")
    real, fake = feats_real.astype(np.float64), feats_fake.astype(np.float64)
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("features are not finite")
    # All kernels once; a subset only picks rows and columns.
    k_rr, k_ff, k_rf = _kernel(real, real), _kernel(fake, fake), _kernel(real, fake)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets if size < max(len(real), len(fake)) else 1):
        r, f = (rng.permutation(n)[:size] for n in (len(real), len(fake)))
        within = sum(float(k.sum() - k.trace()) for k in (k_rr[np.ix_(r, r)], k_ff[np.ix_(f, f)]))
        values.append(within / (size * (size - 1)) - 2.0 * float(k_rf[np.ix_(r, f)].mean()))
    return float(np.mean(values)), float(np.std(values)), size


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (a @ b.T / a.shape[1] + 1.0) ** 3
