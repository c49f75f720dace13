"""Computes the kernel distance between two sets of features (KID).

Bińkowski et al., "Demystifying MMD GANs" (ICLR 2018), https://arxiv.org/abs/1801.01401: the unbiased estimate of the
squared maximum mean discrepancy under the kernel k(x, y) = (xᵀy / d + 1)³, averaged over random subsets. Unlike FID,
its expectation does not depend on the number of images, so it suits small classes. It may be slightly negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import blocks

Features = NDArray[np.floating]

Rows = NDArray[np.float64]

SUBSETS = 100
SUBSET_SIZE = 1000

TOLERANCE = 1e-7
"""Bound on the error from float32, as a share of the mean kernel value."""

_FEW = 256  # subset size up to which double precision is cheap
_BLOCK = 1024  # rows per side whose kernel values are in memory at once: 8 MiB


def kernel_distance(
    *, feats_real: Features, feats_fake: Features, seed: int = 0, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> tuple[float, float, int]:
    """Mean and standard deviation of the squared discrepancy over random subsets, in float64.

    Kernel values of large subsets are computed in the features' own precision. In float32 each has a rounding error,
    but their mean is off by less than `TOLERANCE`.

    Time grows with (N + M)²·d, or with the total cost of the subsets if that is less. Memory grows with the features.

    Args:
        feats_real: (N, d) features of real images.
        feats_fake: (M, d) features of synthetic images.
        seed: for drawing the subsets.
        subsets: number of subsets.
        subset_size: images of each kind per subset; capped at min(N, M).

    Returns:
        `(mean, standard deviation, images per subset)`. If a subset holds all images of both sets, there is only one,
        and the deviation is 0.

    Raises:
        ValueError: fewer than two rows on a side, different dimensions, or non-finite values.
    """
    if feats_real.ndim != 2 or feats_fake.ndim != 2 or feats_real.shape[1] != feats_fake.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), got {feats_real.shape} and {feats_fake.shape}")
    size = min(subset_size, len(feats_real), len(feats_fake))
    if size < 2:
        raise ValueError("an unbiased estimate needs at least two images on each side")
    if not (np.isfinite(feats_real).all() and np.isfinite(feats_fake).all()):
        raise ValueError("features are not finite")
    if size <= _FEW:
        feats_real, feats_fake = feats_real.astype(np.float64), feats_fake.astype(np.float64)
    n, m = len(feats_real), len(feats_fake)
    rng = np.random.default_rng(seed)
    count = subsets if size < max(n, m) else 1
    chosen = [(rng.permutation(n)[:size], rng.permutation(m)[:size]) for _ in range(count)]
    if 4 * count * size**2 < (n + m) ** 2:  # all subsets together cost less than the full kernel matrix
        all_of_it = np.ones((size, 1))
        sums = [_sums(feats_real[r], feats_fake[f], all_of_it, all_of_it) for r, f in chosen]
        within, across = (np.concatenate(parts) for parts in zip(*sums, strict=True))
    else:
        of_real, of_fake = (
            _members(rows, total) for rows, total in zip(zip(*chosen, strict=True), (n, m), strict=True)
        )
        within, across = _sums(feats_real, feats_fake, of_real, of_fake)
    values = within / (size * (size - 1)) - 2.0 * across / size**2
    return float(np.mean(values)), float(np.std(values)), size


def _members(chosen: Sequence[NDArray[np.int64]], n: int) -> Rows:
    """Membership matrix (n, subsets): 1 where a subset contains the row."""
    members = np.zeros((n, len(chosen)))
    for subset, rows in enumerate(chosen):
        members[rows, subset] = 1.0
    return members


def _sums(real: Features, fake: Features, of_real: Rows, of_fake: Rows) -> tuple[Rows, Rows]:
    """Kernel sums of each subset: over pairs of different images of the same kind, and over real-synthetic pairs.

    The subsets are given by `_members`. Only one block of kernel values is in memory at a time, and only half of each
    symmetric matrix is computed.
    """
    within = np.zeros(of_real.shape[1])
    for rows, members in ((real, of_real), (fake, of_fake)):
        for i in blocks(len(rows), _BLOCK):
            within += _block(rows[i], rows[i], members[i], members[i], diagonal=False)
            for j in blocks(i.start, _BLOCK):
                within += 2.0 * _block(rows[i], rows[j], members[i], members[j])
    across = np.zeros(of_real.shape[1])
    for i in blocks(len(real), _BLOCK):
        for j in blocks(len(fake), _BLOCK):
            across += _block(real[i], fake[j], of_real[i], of_fake[j])
    return within, across


def _block(a: Features, b: Features, of_a: Rows, of_b: Rows, *, diagonal: bool = True) -> Rows:
    """Kernel sums between rows of a and rows of b, per subset."""
    root = a @ b.T
    root *= 1.0 / a.shape[1]
    root += 1.0
    kernel = root * root
    kernel *= root
    if not diagonal:
        np.fill_diagonal(kernel, 0.0)
    sums = kernel @ of_b.astype(
        kernel.dtype
    )  # sums of hundreds of kernel values; the rest is summed in double precision
    return np.einsum("is,is->s", of_a, sums)
