"""Computes the Fréchet distance between two sets of features (FID).

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
https://arxiv.org/abs/1706.08500, Eq. 6:

    d² = |μ_r - μ_f|² + Tr(Σ_r + Σ_f - 2 (Σ_r Σ_f)^(1/2))

The matrix root is never formed. With centred feature matrices A and B, scaled so that Σ_r = AᵀA and Σ_f = BᵀB, the
eigenvalues of Σ_r Σ_f are the squared singular values of A Bᵀ, so Tr (Σ_r Σ_f)^(1/2) is the sum of those singular
values (the nuclear norm). That sum is real and finite for any number of images, even with fewer images than feature
dimensions, where a general matrix root of a singular product gives complex numbers or NaN.

A and B have one row per image, or one per dimension if there are fewer dimensions than images; A is then the Cholesky
factor of Σ_r. The sum is computed from the eigenvalues of (A Bᵀ)(A Bᵀ)ᵀ, whose rounding errors are bounded. If those
could affect the distance, slower methods that do not square (QR, singular values) are used instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import blocks

Features = NDArray[np.floating]
Rows = NDArray[np.float64]

ROUNDING = 1e-6
"""Maximum rounding error as a share of the distance's positive terms; usually it is far smaller."""

_ERRORS = 8.0  # error bound of LAPACK's eigenvalues, in unit roundoffs of the largest eigenvalue
_FEW = 256  # rows or dimensions up to which the slower methods are cheap
_ITERATIONS = 10
_BLOCK = 4096


def frechet_distance(*, feats_real: Features, feats_fake: Features) -> float:
    """Squared Fréchet distance between Gaussians fitted to two feature sets, in float64.

    Args:
        feats_real: (N, d) features of real images.
        feats_fake: (M, d) features of synthetic images.

    Returns:
        The distance, in squared feature units; never negative.

    Raises:
        ValueError: fewer than two rows on a side, different dimensions, or non-finite values.
    """
    if feats_real.ndim != 2 or feats_fake.ndim != 2 or feats_real.shape[1] != feats_fake.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), got {feats_real.shape} and {feats_fake.shape}")
    if len(feats_real) < 2 or len(feats_fake) < 2:
        raise ValueError("a covariance needs at least two images on each side")
    if not (np.isfinite(feats_real).all() and np.isfinite(feats_fake).all()):
        raise ValueError("features are not finite")
    mean_real, mean_fake = (feats.mean(axis=0, dtype=np.float64) for feats in (feats_real, feats_fake))
    shift = float(((mean_real - mean_fake) ** 2).sum())
    real, fake = _root(feats_real, mean_real), _root(feats_fake, mean_fake)
    spread = float((real**2).sum() + (fake**2).sum())  # Tr Σ_r + Tr Σ_f
    shared = _shared(real, fake, allowed=ROUNDING * (shift + spread)) if min(len(real), len(fake)) > _FEW else None
    if shared is None:
        real, fake = _triangle(feats_real, mean_real), _triangle(feats_fake, mean_fake)
        shared = float(np.linalg.svd(real @ fake.T, compute_uv=False).sum())
    return max(0.0, shift + spread - 2.0 * shared)  # rounding may leave -1e-12 for equal sets


def random_halves(feats_real: Features, seed: int) -> tuple[Features, Features]:
    """Two equally large random halves of the (N, d) features of real images, for computing a measure's floor.

    A distance between sets increases as the sets get smaller, regardless of their content. If a value is near the
    floor, the measure cannot tell the images from real ones. The halves are smaller than the sets that the distance
    itself is computed on.

    Raises:
        ValueError: fewer than four rows.
    """
    if len(feats_real) < 4:
        raise ValueError("at least four images are needed for two halves")
    half = len(feats_real) // 2
    order = np.random.default_rng(seed).permutation(len(feats_real))
    return feats_real[order[:half]], feats_real[order[half : 2 * half]]


def _root(features: Features, mean: Rows) -> Rows:
    """A matrix A of at most d rows with AᵀA = the covariance of these (N, d) features.

    With more images than dimensions, A is the triangular factor of the covariance, which is faster to compute than the
    one from the images.
    """
    n, d = features.shape
    if n <= d:
        return _scaled(features, mean)
    if d <= _FEW:
        return _triangle(features, mean)
    covariance = np.zeros((d, d))
    for some in blocks(n, _BLOCK):  # avoids a copy of all features in double precision
        block = features[some] - mean
        covariance += block.T @ block
    try:
        return np.asarray(np.linalg.cholesky(covariance / (n - 1))).T
    except np.linalg.LinAlgError:  # a feature depends linearly on others, or is constant
        return _triangle(features, mean)


def _triangle(features: Features, mean: Rows) -> Rows:
    """The same as `_root`, without squaring."""
    scaled = _scaled(features, mean)
    # (QR)ᵀ(QR) = RᵀR, so with more images than dimensions the small triangle R is enough.
    return np.asarray(np.linalg.qr(scaled, mode="r")) if len(scaled) > scaled.shape[1] else scaled


def _scaled(features: Features, mean: Rows) -> Rows:
    return (features.astype(np.float64) - mean) / np.sqrt(len(features) - 1)


def _shared(real: Rows, fake: Rows, *, allowed: float) -> float | None:
    """The nuclear norm of A Bᵀ, or None if its error may exceed `allowed`."""
    cross = real @ fake.T if len(real) <= len(fake) else fake @ real.T
    values = np.linalg.eigvalsh(cross @ cross.T)
    off = _ERRORS * float(np.finfo(np.float64).eps) * _largest(real) * _largest(fake)  # error bound per eigenvalue
    roots = np.sqrt(np.maximum(values, 0.0))
    doubt = (
        float((off / np.maximum(roots, np.sqrt(off))).sum()) if off else 0.0
    )  # a root's error shrinks as the root grows
    return float(roots.sum()) if 2.0 * doubt <= allowed else None


def _largest(rows: Rows) -> float:
    """Estimate the largest eigenvalue of the covariance AᵀA by power iteration."""
    vector: Rows = np.random.default_rng(0).standard_normal((rows.shape[1], 1))
    for _ in range(_ITERATIONS):
        size = np.linalg.norm(vector)
        if not size:
            return 0.0
        vector = rows.T @ (rows @ (vector / size))
    return float(np.linalg.norm(vector))
