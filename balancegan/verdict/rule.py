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
    """The value of `--fail-under`: a verdict, or the least gain in points. Raises `UsageError`."""
    if text is None:
        return None
    if not utility:
        raise UsageError("--fail-under needs the verdict", "leave --no-utility and --no-report out")
    if isinstance(text, str) and text in LEAST:
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        hint = "give use, no-difference, or the least gain of balanced accuracy in points, e.g. 1.5"
        raise UsageError(f"--fail-under {text} cannot be used", hint)
    return value


def gate_json(utility: Json, least: str | float | None) -> Json | None:
    """Whether the verdict passes `--fail-under`, and why not; None where it was not asked for."""
    if least is None:
        return None
    reason = gate(utility, least)
    return {"fail_under": least, "passed": reason is None, "reason": reason}


USE, NO_DIFFERENCE, DO_NOT_USE = VERDICTS = ("use", "no difference", "do not use")
LEAST_GAIN = 0.005
"""Differences of balanced accuracy below half a point are called none, however sure they are."""

WEAK_TEST = 20
"""A class with fewer test images than this is judged, and the judgement called weak."""

RULE = (
    "“Use” when balanced accuracy with the synthetic images is higher than with oversampling (same flips and crops) by "
    f"at least {100 * LEAST_GAIN:g} points, the {LEVEL:.0%} interval of the paired difference lies above zero, and no "
    "arm on real images alone is surely better. “Do not use” when any arm on real images alone is better by that "
    "much and the interval, widened for their number, lies below zero; plain training counts only where flips and "
    "crops do no harm themselves. Otherwise “no difference”. Classes alone are judged by their recall, against "
    f"oversampling, at intervals widened for their number. Classes with fewer than {MIN_TEST} test images are judged "
    "not at all and left out of balanced accuracy and macro F1; without such a number of any class that got synthetic "
    "images there is no verdict."
)


def _direction(difference: Json) -> int:
    """1 surely better, -1 surely worse, 0 neither, by the rule."""
    if difference["value"] is None or abs(difference["value"]) < LEAST_GAIN:
        return 0
    return 1 if difference["low"] > 0 else -1 if difference["high"] < 0 else 0


def augmentation_harms(differences: Sequence[Json]) -> bool:
    """Whether oversampling with flips and crops is surely worse than plain training, whatever the images."""
    pair = [d for d in differences if (d["arm"], d["against"]) == (BASELINE, PLAIN)]
    return bool(pair) and _direction(pair[0]["balanced_accuracy"]) < 0


def _against(differences: Sequence[Json], candidate: str) -> dict[str, Json]:
    """The candidate's differences to the arms on real images that count."""
    left_out = PLAIN if augmentation_harms(differences) else None
    found = {d["against"]: d for d in differences if d["arm"] == candidate}
    return {arm: found[arm] for arm in REAL_ARMS if arm in found and arm != left_out}


def _surely_worse(difference: Json) -> bool:
    return _direction(difference.get("balanced_accuracy_widened") or difference["balanced_accuracy"]) < 0


def judge(differences: Sequence[Json], candidate: str = CANDIDATE) -> str:
    """The verdict on one candidate from its differences to the arms on real images; see `RULE`.

    `differences` hold those of the candidate, and the one of oversampling to plain training.
    """
    found = _against(differences, candidate)
    if any(_surely_worse(difference) for difference in found.values()):
        return DO_NOT_USE
    return USE if BASELINE in found and _direction(found[BASELINE]["balanced_accuracy"]) == 1 else NO_DIFFERENCE


def judge_classes(
    scores: Mapping[str, Scores], names: Sequence[str], n_test: Sequence[int], candidate: str = CANDIDATE
) -> list[Json]:
    """One row per class: the difference of recall, candidate - baseline, and a verdict where it can be given.

    The intervals are widened for the number of classes (Bonferroni): one in twenty would differ by chance otherwise.
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
    """The figures behind the verdict in a sentence."""
    by_arm = _against(differences, CANDIDATE)
    worse = [arm for arm in by_arm if _surely_worse(by_arm[arm])]
    shown = min(worse, key=lambda arm: by_arm[arm]["balanced_accuracy"]["value"]) if worse else BASELINE
    d = by_arm[shown]["balanced_accuracy"]
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
    "oversampling": "oversampling of the real ones",
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
