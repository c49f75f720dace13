"""Do the synthetic images help? From classifiers' answers on real test images to intervals and a verdict in words.

Every arm (a way of training the classifier) is trained once per seed and tested on the same images. What is random is
which images are in the test set and how a training went, so both are drawn again: a bootstrap over the test images,
class by class, and over the seeds. All arms are judged on the same draws, which makes their differences paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]

USE, NO_DIFFERENCE, DO_NOT_USE = VERDICTS = ("use", "no difference", "do not use")

BASELINE, CANDIDATE = "oversampling", "real + synthetic"
REAL_ARMS = ("real only", "oversampling", "balanced softmax")

LEVEL = 0.95
LEAST_GAIN = 0.005
"""Differences of balanced accuracy below half a point are called none, however sure they are."""

MIN_TEST = 5
"""A class with fewer test images gets no verdict of its own."""

WEAK_TEST = 20
"""A class with fewer test images than this is judged, and the judgement called weak."""

RULE = (
    "“Use” when balanced accuracy with the synthetic images is higher than with oversampling (same flips and crops) by "
    f"at least {100 * LEAST_GAIN:g} points, the {LEVEL:.0%} interval of the paired difference lies above zero, and no "
    "arm on real images alone is surely better. “Do not use” when any arm on real images alone is better by that "
    "much and the interval lies below zero. Otherwise “no difference”. Classes alone are judged by their recall, "
    f"against oversampling, at intervals widened for their number; below {MIN_TEST} test images not at all."
)

_DRAWS = 2000
_BLOCK = 100  # draws at once: bounds the memory of the confusion matrices


@dataclass(frozen=True)
class Answers:
    """What one arm's classifiers answered.

    `predicted` (S, n): the class that the classifier of each seed gives each test image; -1 where that seed did not
    test the image.
    """

    arm: str
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Bootstrap draws of an arm's scores; row 0 is the estimate itself. Shares, 0 to 1."""

    recall: NDArray[np.float64]  # (1 + B, K), NaN for a class without test images
    balanced_accuracy: NDArray[np.float64]  # (1 + B,)
    macro_f1: NDArray[np.float64]  # (1 + B,)
    confusion: NDArray[np.float64]  # (K, K) of the estimate: true class, predicted class; shares of the true class


def score(answers: Sequence[Answers], labels: NDArray[np.integer], num_classes: int, *, seed: int = 0) -> list[Scores]:
    """Scores of all arms on the same draws.

    Args:
        answers: of each arm, for the same seeds and images.
        labels: (n,) true classes of the test images.
        num_classes: K.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    tested = answers[0].predicted >= 0  # (S, n)
    members = [np.flatnonzero((labels == k) & tested.any(axis=0)) for k in range(num_classes)]
    hits = [_one_hot(a.predicted, num_classes) for a in answers]  # (S, n, K)
    draws: list[list[tuple[NDArray[np.float64], ...]]] = [[] for _ in answers]
    for start in range(0, 1 + _DRAWS, _BLOCK):
        size = min(_BLOCK, 1 + _DRAWS - start)
        weights = [_resampled(len(rows), size, rng) for rows in members]
        seeds = _resampled(len(tested), size, rng).astype(np.float64)
        if start == 0:  # the estimate: everything once
            seeds[0] = 1.0
            for weight in weights:
                weight[0] = 1
        for of_arm, hit in zip(draws, hits, strict=True):
            of_arm.append(_scores(_confusions(hit, members, weights), seeds / seeds.sum(1, keepdims=True)))
    scores = []
    for of_arm in draws:
        recall, balanced, f1 = (np.concatenate([block[i] for block in of_arm]) for i in range(3))
        scores.append(Scores(recall, balanced, f1, of_arm[0][3]))
    return scores


def _resampled(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each of n things is drawn in n draws with replacement (draws, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), draws) if n else np.zeros((draws, 0), np.int64)


def _one_hot(predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    return (predicted[:, :, None] == np.arange(num_classes)).astype(np.float64)


def _confusions(
    hits: NDArray[np.float64], members: Sequence[NDArray[np.intp]], weights: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Counts (draws, S, K true, K predicted)."""
    rows = [
        np.einsum("bn,snk->bsk", weight.astype(np.float64), hits[:, mine], optimize=True)
        for mine, weight in zip(members, weights, strict=True)
    ]
    return np.stack(rows, axis=2)


def _scores(confusions: NDArray[np.float64], seeds: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Recall (b, K), balanced accuracy (b,), macro F1 (b,), mean over the seeds; and the first draw's confusion."""
    shown, called = confusions.sum(3), confusions.sum(2)  # images of a class, answers of a class: (b, S, K)
    right = np.einsum("bskk->bsk", confusions)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / shown
        f1 = np.where(shown > 0, 2 * right / (shown + called), np.nan)
        # A seed whose split tests no image of a class says nothing about it; the others carry its weight.
        by_class = _mean(recall, seeds[:, :, None], axis=1)
        share = _mean(confusions[0] / confusions[0].sum(2, keepdims=True), seeds[0][:, None, None], axis=0)
        balanced = np.nansum(by_class, axis=1) / np.isfinite(by_class).sum(axis=1)
        macro = _mean(f1, seeds[:, :, None], axis=1)
        return by_class, balanced, np.nansum(macro, axis=1) / np.isfinite(macro).sum(axis=1), share


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Weighted mean over the values that are there."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values * weights, 0.0).sum(axis) / np.where(there, weights, 0.0).sum(axis))


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Json:
    """`{value, low, high}` of draws whose first is the estimate; all null where there is none."""
    if not np.isfinite(draws[0]):
        return {"value": None, "low": None, "high": None}
    low, high = np.nanpercentile(draws, (50 * (1 - level), 50 * (1 + level)))
    return {"value": float(draws[0]), "low": float(low), "high": float(high)}


def arms_json(arms: Sequence[str], scores: Sequence[Scores], names: Sequence[str]) -> list[Json]:
    """Every arm's scores with their intervals."""
    return [
        {
            "name": arm,
            "balanced_accuracy": interval(s.balanced_accuracy),
            "macro_f1": interval(s.macro_f1),
            "recall": {name: interval(s.recall[:, k]) for k, name in enumerate(names)},
            "confusion": s.confusion.tolist(),
        }
        for arm, s in zip(arms, scores, strict=True)
    ]


def difference_json(arm: str, against: str, scores: Mapping[str, Scores], names: Sequence[str]) -> Json:
    """The paired differences `arm` - `against`."""
    a, b = scores[arm], scores[against]
    return {
        "arm": arm,
        "against": against,
        "balanced_accuracy": interval(a.balanced_accuracy - b.balanced_accuracy),
        "macro_f1": interval(a.macro_f1 - b.macro_f1),
        "recall": {name: interval(a.recall[:, k] - b.recall[:, k]) for k, name in enumerate(names)},
    }


def _direction(difference: Json) -> int:
    """1 surely better, -1 surely worse, 0 neither, by the rule."""
    if difference["value"] is None or abs(difference["value"]) < LEAST_GAIN:
        return 0
    return 1 if difference["low"] > 0 else -1 if difference["high"] < 0 else 0


def judge(differences: Sequence[Json], candidate: str = CANDIDATE) -> str:
    """The verdict on one candidate from its differences to the arms on real images; see `RULE`."""
    found = {d["against"]: _direction(d["balanced_accuracy"]) for d in differences if d["arm"] == candidate}
    if any(found[arm] < 0 for arm in REAL_ARMS if arm in found):
        return DO_NOT_USE
    return USE if found.get(BASELINE) == 1 else NO_DIFFERENCE


def judge_classes(
    scores: Mapping[str, Scores], names: Sequence[str], n_test: Sequence[int], candidate: str = CANDIDATE
) -> list[Json]:
    """One row per class: the difference of recall, candidate - baseline, and a verdict where it can be given.

    The intervals are widened for the number of classes (Bonferroni): one in twenty would differ by chance otherwise.
    """
    judged = sum(n >= MIN_TEST for n in n_test)
    rows = []
    for k, (name, n) in enumerate(zip(names, n_test, strict=True)):
        draws = scores[candidate].recall[:, k] - scores[BASELINE].recall[:, k]
        difference = interval(draws, 1 - (1 - LEVEL) / max(1, judged))
        verdict = None if n < MIN_TEST else {1: USE, 0: NO_DIFFERENCE, -1: DO_NOT_USE}[_direction(difference)]
        rows.append({"name": name, "verdict": verdict, "n_test": n, "weak": n < WEAK_TEST, "difference": difference})
    return rows


def headline(verdict: str, differences: Sequence[Json]) -> str:
    """The figures behind the verdict in a sentence."""
    by_arm = {d["against"]: d["balanced_accuracy"] for d in differences if d["arm"] == CANDIDATE}
    worse = [arm for arm in REAL_ARMS if arm in by_arm and _direction(by_arm[arm]) < 0]
    shown = min(worse, key=lambda arm: by_arm[arm]["value"]) if worse else BASELINE
    d = by_arm[shown]
    change = (
        f"{100 * d['value']:+.1f} points of balanced accuracy against {_AGAINST[shown]} "
        f"({LEVEL:.0%} interval {100 * d['low']:+.1f} to {100 * d['high']:+.1f})"
    )
    meaning = {
        USE: "A classifier gets better with the synthetic images:",
        NO_DIFFERENCE: "No sure difference between training with the synthetic images and without them:",
        DO_NOT_USE: "A classifier does worse with the synthetic images than without them:",
    }
    return f"{meaning[verdict]} {change}."


_AGAINST = {
    "real only": "plain training on the real images",
    "oversampling": "oversampling with crops",
    "balanced softmax": "balanced softmax on the real images",
}


def gate(utility: Json, least: str | float) -> str | None:
    """Why `--fail-under` fails, or None when it passes.

    `least` is a verdict (`use`, `no-difference`) or a number: the least gain in balanced accuracy over oversampling,
    in points.
    """
    verdict = utility["verdict"]
    if verdict is None:
        return "the verdict could not be formed"
    if isinstance(least, str):
        wanted = least.replace("-", " ")
        passed = VERDICTS.index(verdict) <= VERDICTS.index(wanted)
        return None if passed else f"the verdict is “{verdict}”, “{wanted}” was asked for"
    gain = next(
        100 * d["balanced_accuracy"]["value"]
        for d in utility["differences"]
        if (d["arm"], d["against"]) == (CANDIDATE, BASELINE)
    )
    return None if gain >= least else f"the gain over oversampling is {gain:+.1f} points, {least:+g} were asked for"
