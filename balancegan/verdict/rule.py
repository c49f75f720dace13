"""The rule that turns measured differences into a verdict, and the quality gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.verdict.arms import BASELINE, CANDIDATE, PLAIN, REAL_ARMS
from balancegan.verdict.scores import LEVEL, MIN_TEST, Scores, interval

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

WEAK_TEST = 20
"""The verdict on a class with fewer test images than this is marked weak."""

RULE = (
    f"“Use”: balanced accuracy with the synthetic images is at least {100 * LEAST_GAIN:g} points higher than with "
    f"oversampling (same flips and crops), the {LEVEL:.0%} interval of the paired difference lies above zero, and no "
    "arm trained only on real images is clearly better. “Do not use”: some arm trained only on real images is better "
    "by at least that much, and the interval, widened for the number of such arms, lies below zero; plain training "
    "counts only where flips and crops do not lower accuracy themselves. “No difference”: everything else. Each class "
    "is judged by its recall compared with oversampling, with intervals widened for the number of classes. Classes "
    f"with fewer than {MIN_TEST} test images are not judged and do not count in balanced accuracy or macro F1. A "
    "verdict needs at least two classes with that many test images, one of which received synthetic images."
)


def _direction(difference: Json) -> int:
    """1 if clearly better by the rule, -1 if clearly worse, otherwise 0."""
    if difference["value"] is None or abs(difference["value"]) < LEAST_GAIN:
        return 0
    return 1 if difference["low"] > 0 else -1 if difference["high"] < 0 else 0


def augmentation_harms(differences: Sequence[Json]) -> bool:
    """Whether oversampling with flips and crops is clearly worse than plain training, without synthetic images."""
    pair = [d for d in differences if (d["arm"], d["against"]) == (BASELINE, PLAIN)]
    return bool(pair) and _direction(pair[0]["balanced_accuracy"]) < 0


def _against(differences: Sequence[Json], candidate: str) -> dict[str, Json]:
    """The candidate's differences from the real-image arms that count."""
    left_out = PLAIN if augmentation_harms(differences) else None
    found = {d["against"]: d for d in differences if d["arm"] == candidate}
    return {arm: found[arm] for arm in REAL_ARMS if arm in found and arm != left_out}


def _surely_worse(difference: Json) -> bool:
    return _direction(difference.get("balanced_accuracy_widened") or difference["balanced_accuracy"]) < 0


def judge(differences: Sequence[Json], candidate: str = CANDIDATE) -> str:
    """The verdict on one candidate, from its differences from the real-image arms; see `RULE`.

    `differences` must include the candidate's, and that between oversampling and plain training.
    """
    found = _against(differences, candidate)
    if any(_surely_worse(difference) for difference in found.values()):
        return DO_NOT_USE
    return USE if BASELINE in found and _direction(found[BASELINE]["balanced_accuracy"]) == 1 else NO_DIFFERENCE


def judge_classes(
    scores: Mapping[str, Scores], names: Sequence[str], n_test: Sequence[int], candidate: str = CANDIDATE
) -> list[Json]:
    """One row per class: the difference in recall, candidate - baseline, and a verdict where one is possible.

    The intervals are widened for the number of classes (Bonferroni); otherwise one class in twenty would differ by
    chance.
    """
    judged = sum(n >= MIN_TEST for n in n_test)
    rows = []
    for k, (name, n) in enumerate(zip(names, n_test, strict=True)):
        draws = scores[candidate].recall[:, :, k] - scores[BASELINE].recall[:, :, k]
        difference = interval(draws, 1 - (1 - LEVEL) / max(1, judged))
        verdict = None if n < MIN_TEST else {1: USE, 0: NO_DIFFERENCE, -1: DO_NOT_USE}[_direction(difference)]
        rows.append({"name": name, "verdict": verdict, "n_test": n, "weak": n < WEAK_TEST, "difference": difference})
    return rows


def headline(verdict: str, differences: Sequence[Json]) -> str:
    """The verdict and the figures behind it in one sentence."""
    by_arm = _against(differences, CANDIDATE)
    worse = [arm for arm in by_arm if _surely_worse(by_arm[arm])]
    shown = min(worse, key=lambda arm: by_arm[arm]["balanced_accuracy"]["value"]) if worse else BASELINE
    d = by_arm[shown]["balanced_accuracy"]
    change = (
        f"{100 * d['value']:+.1f} points of balanced accuracy compared with {_AGAINST[shown]} "
        f"({LEVEL:.0%} interval {100 * d['low']:+.1f} to {100 * d['high']:+.1f})"
    )
    meaning = {
        USE: "A classifier trained with the synthetic images is better:",
        NO_DIFFERENCE: "No clear difference between training with and without the synthetic images:",
        DO_NOT_USE: "A classifier trained with the synthetic images is worse:",
    }
    return f"{meaning[verdict]} {change}."


_AGAINST = {
    "real only": "plain training on the real images",
    "oversampling": "oversampling the real images",
    "balanced softmax": "balanced softmax on the real images",
}


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
    gain = next(
        100 * d["balanced_accuracy"]["value"]
        for d in utility["differences"]
        if (d["arm"], d["against"]) == (CANDIDATE, BASELINE)
    )
    return None if gain >= least else f"the gain over oversampling is {gain:+.1f} points, but {least:+g} is required"
