"""Inception Score: how sure a classifier is of each generated image, and how much its answers vary over all of them.

Salimans et al., "Improved Techniques for Training GANs" (2016), https://arxiv.org/abs/1606.03498, section 4:

    IS = exp(E_x KL(p(y|x) || p(y))),   p(y) = E_x p(y|x)

computed on each of several parts of the images. It looks at no real image, and it means what others report only with
the classifier on which it is defined, the Inception network with all of its weights.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SPLITS = 10


def inception_score(logits: NDArray[np.floating], *, splits: int = SPLITS, seed: int | None = 0) -> tuple[float, float]:
    """Mean and standard deviation of the score over equal parts of the images, in float64.

    Args:
        logits: (N, K) of the classifier for N generated images; a constant per image does not matter, so logarithms
            of probabilities do as well.
        splits: how many parts; with sizes that differ by one at most where they do not divide N.
        seed: of the order in which images are dealt to the parts; None leaves them as they are. Images that come
            sorted by class must be shuffled, or no part would hold many classes.

    Returns:
        `(mean, standard deviation)`; the score lies between 1 and K. One image to a part gives 1, whatever it shows.

    Raises:
        ValueError: not a matrix, fewer images than parts, or values that are not finite.
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must be (N, K), got {logits.shape}")
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} images cannot be dealt to {splits} parts")
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
    """The score of one part. Sums stay in logarithms: a class that no image resembles has no p(y) to divide by."""
    log_marginal = np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p))  # (K,)
    return float(np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1).mean()))
