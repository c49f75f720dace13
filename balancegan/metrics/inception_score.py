"""Inception Score: measures how confident a classifier is on each image, and how much its answers vary.

Salimans et al., "Improved Techniques for Training GANs" (2016), https://arxiv.org/abs/1606.03498, section 4:

    IS = exp(E_x KL(p(y|x) || p(y))),   p(y) = E_x p(y|x)

computed on each of several splits of the images. It does not use real images. It is comparable with published scores
only when computed with the classifier on which it is defined, the complete Inception network.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SPLITS = 10


def inception_score(logits: NDArray[np.floating], *, splits: int = SPLITS, seed: int | None = 0) -> tuple[float, float]:
    """Mean and standard deviation of the score over equal splits of the images, in float64.

    Args:
        logits: (N, K) classifier outputs for N generated images. An additive constant per image has no effect, so log
            probabilities work as well.
        splits: number of splits; their sizes differ by at most one.
        seed: for shuffling the images before splitting; None keeps their order. Images sorted by class must be
            shuffled, because otherwise no split would hold many classes.

    Returns:
        `(mean, standard deviation)`; the score lies between 1 and K. With one image per split it is always 1.

    Raises:
        ValueError: not a matrix, fewer images than splits, or non-finite values.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must be (N, K), got {logits.shape}")
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} images cannot be divided into {splits} splits")
    log_p = logits.astype(np.float64)
    if not np.isfinite(log_p).all():
        raise ValueError("logits are not finite")
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)  # (N, K) log p(y|x)
    if seed is not None:
        log_p = log_p[np.random.default_rng(seed).permutation(len(log_p))]
    bounds = [i * len(log_p) // splits for i in range(splits + 1)]
    scores = [_score(log_p[start:end]) for start, end in pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: NDArray[np.float64]) -> float:
    """The score of one split. Sums stay in log space: p(y) may underflow for a class that no image resembles."""
    log_marginal = np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))  # (K,)
    return float(np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1).mean()))
