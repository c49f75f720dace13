"""Computes scores of the classifiers' answers on real test images, with intervals.

Every arm (a way of training the classifier) is trained once per seed and tested on the same images. Differences between
arms are paired: by image and by seed. `intervals` says how sure they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.verdict.intervals import Measured, interval, measured, p_value

MIN_TEST = 5
"""A class with fewer test images gets no verdict and does not count in balanced accuracy or macro F1: a single image
would change them too much."""

MOST_CLASSES = 100
"""The document holds confusion matrices only up to this many classes."""


@dataclass(frozen=True)
class Answers:
    """The answers of one arm's classifiers.

    `predicted` (S, n): the class that each seed's classifier assigns to each test image; -1 where that seed did not
    test the image.
    """

    arm: str
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Scores:
    """An arm's scores. Shares, 0 to 1."""

    recall: tuple[Measured, ...]  # one per class
    balanced_accuracy: Measured
    macro_f1: Measured
    confusion: NDArray[np.float64]  # (K, K): true class, predicted class; shares of the true class


def score(answers: Sequence[Answers], labels: NDArray[np.integer], num_classes: int) -> list[Scores]:
    """Score all arms.

    Args:
        answers: one per arm, all for the same seeds and images.
        labels: (n,) true classes of the test images.
        num_classes: K.
    """
    tested = (answers[0].predicted >= 0).any(axis=0)
    counted = counted_classes(np.bincount(labels[tested], minlength=num_classes).tolist())
    return [_scores(a.predicted[:, tested], labels[tested], counted) for a in answers]


def counted_classes(n_test: Sequence[int]) -> NDArray[np.bool_]:
    """Mask (K,) of the classes that count in balanced accuracy and macro F1: those with at least `MIN_TEST` images.

    If fewer than two classes have that many, all classes count, and there is no verdict.
    """
    enough = np.array(n_test) >= MIN_TEST
    return enough if enough.sum() >= 2 else np.ones(len(enough), bool)


def _scores(predicted: NDArray[np.int64], labels: NDArray[np.integer], counted: NDArray[np.bool_]) -> Scores:
    """One arm's scores: `predicted` (S, n), `labels` (n,), `counted` (K,)."""
    seeds, classes = len(predicted), len(counted)
    recall, hits, weights = np.empty((seeds, classes)), np.zeros(predicted.shape), np.zeros(predicted.shape)
    f1, f1_parts = np.empty(seeds), np.zeros(predicted.shape)
    for s, row in enumerate(predicted):
        there = row >= 0
        truth, said, right = labels[there], row[there], row[there] == labels[there]
        shown, called, found = (np.bincount(of, minlength=classes) for of in (truth, said, truth[right]))
        used = counted & (shown > 0)
        with np.errstate(invalid="ignore"):
            recall[s] = found / shown
            of_class = 2 * found / (shown + called)
        f1[s] = of_class[used].mean() if used.any() else np.nan
        hits[s, there] = _centred(right.astype(np.float64), truth, shown) / shown[truth]
        weights[s, there] = 1 / shown[truth]
        # The derivative of 2 right / (shown + called) by the number of times that an image counts.
        per_image = np.where(used, 1 / np.maximum(shown + called, 1), 0.0) / max(1, used.sum())
        loss = per_image * np.where(used, of_class, 0.0)
        slope = 2 * right * per_image[truth] - loss[truth] - loss[said]
        f1_parts[s, there] = _centred(slope, truth, shown)
    in_seed = counted & np.isfinite(recall)  # (S, K)
    number = in_seed.sum(axis=1, keepdims=True)
    share = np.where(counted, 1.0, 0.0)[labels] / np.maximum(number, 1)  # (S, n)
    balanced = np.where(
        number[:, 0] > 0, np.where(in_seed, recall, 0.0).sum(axis=1) / np.maximum(number[:, 0], 1), np.nan
    )
    members = [np.flatnonzero(labels == k) for k in range(classes)]
    return Scores(
        tuple(measured(recall[:, k], hits[:, mine], weights[:, mine], labels[mine]) for k, mine in enumerate(members)),
        measured(balanced, hits * share, weights * share, labels),
        measured(f1, f1_parts, weights * share, labels),
        _confusion(predicted, labels, classes),
    )


def _centred(
    values: NDArray[np.float64], truth: NDArray[np.integer], shown: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Deviations from the class's mean, scaled so that their mean square is the unbiased variance."""
    mean = np.bincount(truth, values, minlength=len(shown)) / np.maximum(shown, 1)
    return np.asarray((values - mean[truth]) * np.sqrt(shown / np.maximum(shown - 1, 1))[truth])


def _confusion(predicted: NDArray[np.int64], labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Shares of the true class (K true, K predicted), averaged over the seeds that test it; NaN without any."""
    total, seeds = np.zeros((classes, classes)), np.zeros((classes, 1))
    for row in predicted:
        there = row >= 0
        counts = np.bincount(labels[there] * classes + row[there], minlength=classes**2).reshape(classes, classes)
        shown = counts.sum(axis=1, keepdims=True)
        total += counts / np.maximum(shown, 1)
        seeds += shown > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(total / seeds)


def arms_json(arms: Sequence[str], scores: Sequence[Scores], names: Sequence[str]) -> list[Json]:
    """Every arm's scores with their intervals."""
    return [
        {
            "name": arm,
            "balanced_accuracy": interval(s.balanced_accuracy),
            "macro_f1": interval(s.macro_f1),
            "recall": {name: interval(of) for name, of in zip(names, s.recall, strict=True)},
            "confusion": _matrix(s.confusion),
        }
        for arm, s in zip(arms, scores, strict=True)
    ]


def _matrix(confusion: NDArray[np.float64]) -> list[list[float | None]] | None:
    """The matrix as lists, with None for classes without test images; None for more than `MOST_CLASSES` classes."""
    if len(confusion) > MOST_CLASSES:
        return None
    return [[float(x) if np.isfinite(x) else None for x in row] for row in confusion]


def difference_json(arm: str, against: str, scores: Mapping[str, Scores], names: Sequence[str]) -> Json:
    """The paired differences `arm` - `against`."""
    a, b = scores[arm], scores[against]
    balanced = a.balanced_accuracy - b.balanced_accuracy
    return {
        "arm": arm,
        "against": against,
        "balanced_accuracy": interval(balanced),
        "p_better": p_value(balanced, 1),
        "p_worse": p_value(balanced, -1),
        "macro_f1": interval(a.macro_f1 - b.macro_f1),
        "recall": {name: interval(a.recall[k] - b.recall[k]) for k, name in enumerate(names)},
    }
