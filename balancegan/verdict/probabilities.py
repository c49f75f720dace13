"""Scores of predicted probabilities: a recall can rise just because a threshold moved, these cannot.

Log loss and calibration error weight all classes equally, like balanced accuracy: within a class every image counts
the same. ROC and precision-recall curves compare one class with all other images, as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json

BINS = 15
_LEAST = 1e-12  # a probability of 0 for the true class costs -log of this

Floats = NDArray[np.float64]


def probability_scores(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], counted: NDArray[np.bool_] | None = None
) -> Json:
    """Means over the seeds.

    Args:
        probabilities: (S, n, K) by each seed's classifier; NaN rows where that seed did not test the image.
        labels: (n,) true classes.
        counted: mask (K,) of the classes that count in log loss and calibration error; all by default.

    Returns:
        `log_loss` (nats), `calibration_error` (0 to 1), and per class (K,) `auroc` and `auprc`. None where no seed
        can tell: for the last two without images of the class, or without others.
    """
    of_class: dict[str, list[list[float | None]]] = {"auroc": [], "auprc": []}
    losses: list[float | None] = []
    errors: list[float | None] = []
    mask = np.ones(probabilities.shape[2], bool) if counted is None else counted
    for rows in probabilities:
        there = ~np.isnan(rows).any(axis=1)
        seen, truth = rows[there].astype(np.float64), labels[there]
        weights = _balanced(truth, mask)
        losses.append(_log_loss(seen, truth, weights))
        errors.append(_calibration_error(seen, truth, weights))
        both = [areas(seen[:, k], truth == k) for k in range(len(mask))]
        of_class["auroc"].append([roc for roc, _ in both])
        of_class["auprc"].append([precision_recall for _, precision_recall in both])
    areas_of = {name: [_mean(list(of)) for of in zip(*rows, strict=True)] for name, rows in of_class.items()}
    return {"log_loss": _mean(losses), "calibration_error": _mean(errors), **areas_of}


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _balanced(truth: NDArray[np.integer], counted: NDArray[np.bool_]) -> Floats:
    """Weights (n,) that sum to 1: equal for all counted classes that have images, and equal within each."""
    sizes = np.bincount(truth, minlength=len(counted))
    used = counted & (sizes > 0)
    return np.asarray(np.where(used, 1 / np.maximum(sizes, 1), 0.0)[truth] / max(1, used.sum()))


def _log_loss(probabilities: Floats, truth: NDArray[np.integer], weights: Floats) -> float | None:
    if not weights.any():
        return None
    given = probabilities[np.arange(len(truth)), truth]
    return float(-(weights * np.log(np.maximum(given, _LEAST))).sum())


def _calibration_error(probabilities: Floats, truth: NDArray[np.integer], weights: Floats) -> float | None:
    """Expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599), by weight instead of number.

    Images are sorted into `BINS` equal bins (a, b] by the probability of their most likely class. The error is the sum
    over the bins of the distance between the weighted sums of that probability and of being right.
    """
    if not weights.any():
        return None
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (sure - right), minlength=BINS)).sum())


def areas(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Areas under the ROC and the precision-recall curve; None without positives or without negatives.

    Images with equal scores enter both curves together: a tie counts half in the first, and the second has one step
    for it (average precision).

    Args:
        scores: (n,) higher means more likely positive.
        positive: (n,) the truth.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each group of equal scores
    hits = np.cumsum(positive[order])[last].astype(np.float64) if len(scores) else np.zeros(1)
    total = float(hits[-1])
    if not 0 < total < len(scores):
        return None, None
    misses = last + 1 - hits
    more, earlier = np.diff(hits, prepend=0.0), np.concatenate([[0.0], hits[:-1]])
    roc = (np.diff(misses, prepend=0.0) * (earlier + more / 2)).sum() / (total * misses[-1])
    return float(roc), float((more * hits / (last + 1)).sum() / total)
