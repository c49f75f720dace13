"""The rule that turns measured differences into a verdict, and the quality gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.metrics.multiple_tests import holm
from balancegan.verdict.arms import BASELINE, CANDIDATE, REAL_ARMS
from balancegan.verdict.intervals import LEVEL, interval, p_value
from balancegan.verdict.scores import MIN_TEST, Scores

LEAST = ("use", "no-difference")


def parse_least(text: str | float | None, *, utility: bool) -> str | float | None:
    """Parse `--fail-under`: a verdict, or the minimum gain in points. Raises `UsageError`."""
    if text is None:
        return None
    if not utility:
        raise UsageError("--fail-under needs the verdict", "remove --no-utility and --no-report")
    if isinstance(text, str) and text in LEAST:
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        hint = "give use, no-difference, or the minimum gain in balanced accuracy in points, such as 1.5"
        raise UsageError(f"--fail-under {text} is not valid", hint)
    return value


def gate_json(utility: Json, least: str | float | None) -> Json | None:
    """Whether the verdict passes `--fail-under`, and if not, why; None if the option was not given."""
    if least is None:
        return None
    reason = gate(utility, least)
    return {"fail_under": least, "passed": reason is None, "reason": reason}


USE, NO_DIFFERENCE, DO_NOT_USE = VERDICTS = ("use", "no difference", "do not use")
LEAST_GAIN = 0.005
"""Differences in balanced accuracy below half a point count as no difference, even if they are significant."""

UNTOLD = 0.1
"""No verdict where the interval includes zero and reaches further from it than this: too few test images to tell."""

WEAK_TEST = 20
"""The verdict on a class with fewer test images than this is marked weak."""

RULE = (
    f"What decides is oversampling the same real images with the same augmentation. “Use”: balanced accuracy with the "
    f"synthetic images is at least {100 * LEAST_GAIN:g} points higher, and the {LEVEL:.0%} interval of the paired "
    "difference lies above zero. “Do not use”: it is lower by at least that much, and the interval lies below zero. "
    f"“No difference”: neither, and the interval stays within {100 * UNTOLD:g} points of zero; a wider one gives no "
    "verdict, because there are too few test images to tell. Another way of training on the real images that is "
    "clearly better than the synthetic images is named beside the verdict but does not change it. Each class that "
    "received synthetic images is judged by its recall in the same way; the level holds for all classes together "
    f"(Holm). Classes with fewer than {MIN_TEST} test images are not judged and do not count in balanced accuracy or "
    "macro F1."
)


def direction(difference: Json) -> int:
    """1 if clearly better by the rule, -1 if clearly worse, otherwise 0."""
    if difference["value"] is None or abs(difference["value"]) < LEAST_GAIN:
        return 0
    return 1 if difference["low"] > 0 else -1 if difference["high"] < 0 else 0


def verdict_on(difference: Json, *, clear: bool = True) -> str | None:
    """The verdict on a difference from the baseline, see `RULE`; None where too few images are there to tell.

    `clear`: whether the difference is clear among all that are judged together.
    """
    sign = direction(difference) if clear else 0
    if sign:
        return USE if sign > 0 else DO_NOT_USE
    told = difference["value"] is not None and max(-difference["low"], difference["high"]) <= UNTOLD
    return NO_DIFFERENCE if told else None


def difference_between(differences: Sequence[Json], arm: str, against: str) -> Json | None:
    """The difference in balanced accuracy between two arms, or None if it was not measured."""
    return next((d["balanced_accuracy"] for d in differences if (d["arm"], d["against"]) == (arm, against)), None)


def judge(differences: Sequence[Json], candidate: str = CANDIDATE) -> str | None:
    """The verdict on one candidate, from its difference from the baseline."""
    difference = difference_between(differences, candidate, BASELINE)
    return None if difference is None else verdict_on(difference)


def judge_classes(
    scores: Mapping[str, Scores],
    names: Sequence[str],
    n_test: Sequence[int],
    delivered: Sequence[int],
    candidate: str = CANDIDATE,
) -> list[Json]:
    """One row per class: the difference in recall, candidate - baseline, and a verdict where one is possible.

    A class that received no synthetic images, or has too few test images, gets no verdict.
    """
    differences = [
        ours - theirs for ours, theirs in zip(scores[candidate].recall, scores[BASELINE].recall, strict=True)
    ]
    judged = [k for k, n in enumerate(n_test) if n >= MIN_TEST and delivered[k]]
    surest = [min(p_value(differences[k], 1), p_value(differences[k], -1)) for k in judged]
    clear = dict(zip(judged, holm(surest, (1 - LEVEL) / 2).tolist(), strict=True))
    rows = []
    for k, (name, n) in enumerate(zip(names, n_test, strict=True)):
        difference = interval(differences[k])
        verdict = verdict_on(difference, clear=clear[k]) if k in clear else None
        rows.append({"name": name, "verdict": verdict, "n_test": n, "weak": n < WEAK_TEST, "difference": difference})
    return rows


def headline(verdict: str | None, differences: Sequence[Json]) -> str:
    """The verdict and the figures behind it in a sentence; another one names better training on the real images."""
    d = difference_between(differences, CANDIDATE, BASELINE)
    if d is None or d["value"] is None:
        return "No verdict: nothing could be compared."
    change = (
        f"{100 * d['value']:+.1f} points of balanced accuracy compared with oversampling the real images "
        f"({LEVEL:.0%} interval {100 * d['low']:+.1f} to {100 * d['high']:+.1f})"
    )
    meaning = {
        USE: "A classifier trained with the synthetic images is better:",
        NO_DIFFERENCE: "No clear difference between training with and without the synthetic images:",
        DO_NOT_USE: "A classifier trained with the synthetic images is worse:",
        None: "Too few test images to tell whether the synthetic images help:",
    }
    better = better_real_arm(differences) if verdict != DO_NOT_USE else None
    further = "" if better is None else f" {_OTHERWISE[better]} is clearly better than with the synthetic images."
    return f"{meaning[verdict]} {change}.{further}"


def better_real_arm(differences: Sequence[Json]) -> str | None:
    """The real-only arm that is clearly better than the candidate by most; the baseline itself is not considered."""
    others = [d for d in differences if d["arm"] == CANDIDATE and d["against"] in _OTHERWISE]
    clear = holm([d["p_worse"] for d in others], (1 - LEVEL) / 2)
    better = [
        d for d, sure in zip(others, clear, strict=True) if sure and d["balanced_accuracy"]["value"] <= -LEAST_GAIN
    ]
    return min(better, key=lambda d: d["balanced_accuracy"]["value"])["against"] if better else None


_OTHERWISE = {
    "real only": "Training on the real images without balancing",
    "balanced softmax": "Training on the real images alone with balanced softmax",
    "oversampling with TrivialAugment": "Oversampling the real images with TrivialAugment",
    "Mixup": "Training on the real images alone with Mixup and deferred re-weighting",
}
assert {*_OTHERWISE, BASELINE} == {*REAL_ARMS}


def gate(utility: Json, least: str | float) -> str | None:
    """Why `--fail-under` fails, or None when it passes.

    `least` is a verdict (`use`, `no-difference`) or a number: the minimum gain in balanced accuracy over oversampling,
    in points.
    """
    verdict = utility["verdict"]
    if verdict is None:
        return "no verdict was reached"
    if isinstance(least, str):
        wanted = least.replace("-", " ")
        passed = VERDICTS.index(verdict) <= VERDICTS.index(wanted)
        return None if passed else f"the verdict is “{verdict}”, but “{wanted}” was required"
    difference = difference_between(utility["differences"], CANDIDATE, BASELINE)
    gain = 100 * difference["value"] if difference else float("nan")
    return None if gain >= least else f"the gain over oversampling is {gain:+.1f} points, but {least:+g} is required"
