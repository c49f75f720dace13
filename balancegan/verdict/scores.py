"""Computes scores and intervals from the classifiers' answers on real test images.

Every arm (a way of training the classifier) is trained once per seed and tested on the same images. The intervals cover
two sources of randomness: which images are in the test set, and how each training run went. The first is estimated by a
bootstrap over the test images, class by class, with the same draws for all arms, so that differences are paired. The
second is the variation between seeds beyond what that bootstrap explains (a random effect). It follows a t
distribution, because there are few seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.verdict.arms import REAL_ARMS

LEVEL = 0.95

MIN_TEST = 5
"""A class with fewer test images gets no verdict and does not count in balanced accuracy or macro F1: a single image
would change them too much, and a bootstrap over one image has no variance."""

MOST_CLASSES = 100
"""The document holds confusion matrices only up to this many classes."""

_DRAWS = 2000
_BLOCK = 100  # draws at once: bounds the memory


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
    """Bootstrap draws of an arm's scores in each seed; row 0 is the estimate itself. Shares, 0 to 1."""

    recall: NDArray[np.float64]  # (1 + B, S, K), NaN for a class that the seed does not test
    balanced_accuracy: NDArray[np.float64]  # (1 + B, S)
    macro_f1: NDArray[np.float64]  # (1 + B, S)
    confusion: NDArray[np.float64]  # (K, K) of the estimate: true class, predicted class; shares of the true class


def score(answers: Sequence[Answers], labels: NDArray[np.integer], num_classes: int, *, seed: int = 0) -> list[Scores]:
    """Bootstrap scores of all arms, on the same draws.

    Args:
        answers: one per arm, all for the same seeds and images.
        labels: (n,) true classes of the test images.
        num_classes: K.
        seed: for the bootstrap.
    """
    rng = np.random.default_rng(seed)
    tested = answers[0].predicted >= 0  # (S, n)
    members = [np.flatnonzero((labels == k) & tested.any(axis=0)) for k in range(num_classes)]
    counted = counted_classes([len(rows) for rows in members])
    order = np.concatenate([np.empty(0, np.intp), *members])
    arms = [_Told(a.predicted[:, order], labels[order], num_classes) for a in answers]
    blocks: list[list[tuple[NDArray[np.float64], ...]]] = [[] for _ in answers]
    for start in range(0, 1 + _DRAWS, _BLOCK):
        size = min(_BLOCK, 1 + _DRAWS - start)
        weights = [_resampled(len(rows), size, rng) for rows in members]
        if start == 0:  # row 0, the estimate: every image once
            for weight in weights:
                weight[0] = 1
        together = np.concatenate(weights, axis=1).astype(np.float64)  # (draws, n)
        for of_arm, told in zip(blocks, arms, strict=True):
            of_arm.append(_scores(told, together, counted))
    scores = []
    for of_arm, told in zip(blocks, arms, strict=True):
        recall, balanced, f1 = (np.concatenate([block[i] for block in of_arm]) for i in range(3))
        scores.append(Scores(recall, balanced, f1, told.confusion()))
    return scores


def counted_classes(n_test: Sequence[int]) -> NDArray[np.bool_]:
    """Mask (K,) of the classes that count in balanced accuracy and macro F1: those with at least `MIN_TEST` images.

    If fewer than two classes have that many, all classes count, and there is no verdict.
    """
    enough = np.array(n_test) >= MIN_TEST
    return enough if enough.sum() >= 2 else np.ones(len(enough), bool)


def _resampled(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each of n items comes up in n draws with replacement: (draws, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), draws) if n else np.zeros((draws, 0), np.int64)


class _Told:
    """An arm's answers as sparse tables with one entry per image, so that memory does not grow with K x K.

    `predicted` (S, n) is -1 where a seed does not test the image; `labels` is (n,).
    """

    def __init__(self, predicted: NDArray[np.int64], labels: NDArray[np.integer], num_classes: int) -> None:
        from scipy.sparse import csr_array

        self.predicted, self.labels, self.num_classes = predicted, labels, num_classes

        def table(row: NDArray[np.int64], chosen: NDArray[np.bool_], by: NDArray[np.integer]) -> Any:
            """(K, n) with a 1 for each chosen image in the row of its class."""
            images = np.flatnonzero(chosen)
            return csr_array((np.ones(len(images)), (by[images], images)), shape=(num_classes, len(row)))

        self.called = [table(row, row >= 0, row) for row in predicted]
        self.shown = [table(row, row >= 0, labels) for row in predicted]
        self.right = [table(row, row == labels, labels) for row in predicted]

    def counts(self, tables: Sequence[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images per class in each draw, weighted by `weights` (b, n): (b, S, K)."""
        return np.stack([np.asarray(table @ weights.T).T for table in tables], axis=1)

    def confusion(self) -> NDArray[np.float64]:
        """Confusion matrix (K true, K predicted) as shares of the true class, averaged over the seeds."""
        counts = np.zeros((len(self.predicted), self.num_classes, self.num_classes))
        for table, row in zip(counts, self.predicted, strict=True):
            np.add.at(table, (self.labels[row >= 0], row[row >= 0]), 1.0)
        with np.errstate(invalid="ignore"):
            return _mean(counts / counts.sum(2, keepdims=True), axis=0)


def _scores(
    told: _Told, weights: NDArray[np.float64], counted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall (b, S, K), balanced accuracy and macro F1 (b, S)."""
    shown, called, right = (told.counts(tables, weights) for tables in (told.shown, told.called, told.right))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / shown
        f1 = np.where(shown > 0, 2 * right / (shown + called), np.nan)
    return recall, _mean(recall[:, :, counted], axis=2), _mean(f1[:, :, counted], axis=2)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean over the finite values; NaN where there are none."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis) / there.sum(axis))


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Json:
    """`{value, low, high}` from draws (1 + B, S) whose first row is the estimate; all None without an estimate."""
    draws = draws[:, np.isfinite(draws[0])]  # drop seeds without an estimate
    if not draws.shape[1]:
        return {"value": None, "low": None, "high": None}
    mean = _mean(draws, axis=1)
    spread = mean[1:] + _seed_noise(draws)
    low, high = np.nanpercentile(spread, (50 * (1 - level), 50 * (1 + level)))
    return {"value": float(mean[0]), "low": float(low), "high": float(high)}


def _seed_noise(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws (B,) of the change that other seeds would make to the mean of S seeds on the same images.

    Part of the difference between seeds comes from the finite test set. The bootstrap already covers that part, so only
    the excess counts.
    """
    size, seeds = draws.shape[0] - 1, draws.shape[1]
    if seeds == 1:
        return np.zeros(size)
    apart = draws[1:] - draws[1:].mean(axis=1, keepdims=True)
    by_images = float(np.nanvar(apart, axis=0).mean()) * seeds / (seeds - 1)
    beyond = max(0.0, float(draws[0].var(ddof=1)) - by_images)
    return np.sqrt(beyond / seeds) * np.random.default_rng(0).standard_t(seeds - 1, size)


def arms_json(arms: Sequence[str], scores: Sequence[Scores], names: Sequence[str]) -> list[Json]:
    """Every arm's scores with their intervals."""
    return [
        {
            "name": arm,
            "balanced_accuracy": _share(s.balanced_accuracy),
            "macro_f1": _share(s.macro_f1),
            "recall": {name: _share(s.recall[:, :, k]) for k, name in enumerate(names)},
            "confusion": _matrix(s.confusion),
        }
        for arm, s in zip(arms, scores, strict=True)
    ]


def _share(draws: NDArray[np.float64]) -> Json:
    """An interval clipped to [0, 1]."""
    return {key: value if value is None else min(1.0, max(0.0, value)) for key, value in interval(draws).items()}


def _matrix(confusion: NDArray[np.float64]) -> list[list[float | None]] | None:
    """The matrix as lists, with None for classes without test images; None for more than `MOST_CLASSES` classes."""
    if len(confusion) > MOST_CLASSES:
        return None
    return [[float(x) if np.isfinite(x) else None for x in row] for row in confusion]


def difference_json(arm: str, against: str, scores: Mapping[str, Scores], names: Sequence[str]) -> Json:
    """The paired differences `arm` - `against`."""
    a, b = scores[arm], scores[against]
    return {
        "arm": arm,
        "against": against,
        "balanced_accuracy": interval(a.balanced_accuracy - b.balanced_accuracy),
        # For "do not use", which any of the real-image arms can cause (Bonferroni).
        "balanced_accuracy_widened": interval(
            a.balanced_accuracy - b.balanced_accuracy, 1 - (1 - LEVEL) / len(REAL_ARMS)
        ),
        "macro_f1": interval(a.macro_f1 - b.macro_f1),
        "recall": {name: interval(a.recall[:, :, k] - b.recall[:, :, k]) for k, name in enumerate(names)},
    }
