"""Fréchet distance between two sets of features (FID).

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
https://arxiv.org/abs/1706.08500, Eq. 6:

    d² = |μ_r - μ_f|² + Tr(Σ_r + Σ_f - 2 (Σ_r Σ_f)^(1/2))

The matrix root is never formed. With centred feature matrices A and B, scaled so that Σ_r = AᵀA and Σ_f = BᵀB, the
eigenvalues of Σ_r Σ_f are the squared singular values of A Bᵀ, so Tr (Σ_r Σ_f)^(1/2) is the sum of those singular
values (the nuclear norm). That sum is real and finite for any number of images, also for fewer images than feature
dimensions, where the general matrix root of a singular product gives complex numbers or NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet_distance(*, feats_real: Features, feats_fake: Features) -> float:
    """Squared Fréchet distance of two Gaussians fitted to two feature sets, in float64.

    Args:
        feats_real: (N, d) features of real images.
        feats_fake: (M, d) features of synthetic images.

    Returns:
        The distance, in squared feature units; never negative.

    Raises:
        ValueError: fewer than two rows on a side, different dimensions, or values that are not finite.
    """
    if feats_real.ndim != 2 or feats_fake.ndim != 2 or feats_real.shape[1] != feats_fake.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), got {feats_real.shape} and {feats_fake.shape}")
    if len(feats_real) < 2 or len(feats_fake) < 2:
        raise ValueError("a covariance needs at least two images on each side")
    real, fake = feats_real.astype(np.float64), feats_fake.astype(np.float64)
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("features are not finite")
    mean_real, mean_fake = real.mean(axis=0), fake.mean(axis=0)
    root_real, root_fake = _root(real - mean_real), _root(fake - mean_fake)
    shift = float(((mean_real - mean_fake) ** 2).sum())
    spread = float((root_real**2).sum() + (root_fake**2).sum())  # Tr Σ_r + Tr Σ_f
    shared = float(np.linalg.svd(root_real @ root_fake.T, compute_uv=False).sum())
    return max(0.0, shift + spread - 2.0 * shared)  # rounding may leave -1e-12 for equal sets


def random_halves(feats_real: Features, seed: int) -> tuple[Features, Features]:
    """Two random halves of the (N, d) features of real images, equally large: what a measure's floor is taken from.

    A distance between sets grows as the sets shrink, whatever is in them. A value near the floor cannot be told from
    real images by the measure; note that the halves are smaller than the sets behind the distance itself.

    Raises:
        ValueError: fewer than four rows.
    """
    if len(feats_real) < 4:
        raise ValueError("two halves of two images each are the least")
    half = len(feats_real) // 2
    order = np.random.default_rng(seed).permutation(len(feats_real))
    return feats_real[order[:half]], feats_real[order[half : 2 * half]]


def fid_floor(feats_real: Features, seed: int) -> tuple[float, int]:
    """The Fréchet distance between two random halves of real images, and the images in a half.

    Raises:
        ValueError: fewer than four rows.
    """
    first, second = random_halves(feats_real, seed)
    return frechet_distance(feats_real=first, feats_fake=second), len(first)


def _root(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix A of at most d rows with AᵀA = the covariance of these centred (N, d) rows."""
    scaled = centred / np.sqrt(len(centred) - 1)
    # (QR)ᵀ(QR) = RᵀR: with more images than dimensions the small triangle carries everything that is needed.
    return np.asarray(np.linalg.qr(scaled, mode="r")) if len(scaled) > scaled.shape[1] else scaled
