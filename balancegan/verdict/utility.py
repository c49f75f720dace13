"""Measures whether synthetic images help classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch

from balancegan.compute.memory import memory_errors
from balancegan.core.documents import Json
from balancegan.core.progress import Progress, silent
from balancegan.verdict import scores as verdict
from balancegan.verdict.arms import ARMS, BASELINE, CANDIDATE, PLAIN, Arm, train_counts
from balancegan.verdict.classifiers import BATCH, MOST_SIDE, allowed_updates, train_all
from balancegan.verdict.flips import allowed_flips
from balancegan.verdict.material import Labels, Material, Pool, SplitPlan, not_measured, split_plans, why_not
from balancegan.verdict.rule import RULE, WEAK_TEST, augmentation_harms, headline, judge, judge_classes

SEEDS = 3
UPDATES = (300, 1000)  # minimum and maximum on a CPU; elsewhere the maximum is four times as large
EPOCHS = 20  # over the largest arm's images, within those limits


def measure_utility(
    material: Material,
    *,
    device: torch.device,
    seeds: int = SEEDS,
    updates: int | None = None,
    progress: Progress = silent,
) -> Json:
    """Train every arm once per seed, test it, and form the verdict.

    Args:
        material: the images to train and test on.
        device: where the classifiers are trained; on a CPU each uses one core, and several are trained at once.
        seeds: training runs per arm.
        updates: per training run; by default `EPOCHS` over the images of the largest arm, within `UPDATES`.
        progress: called as `("classifiers", runs done, runs)`.

    Returns:
        The `utility` part of the report's document.
    """
    if reason := why_not(material):
        return not_measured(reason)
    with memory_errors(device, "use --device cpu, or skip the verdict with --no-utility"):
        return _measure(material, seeds, updates, device, progress)


def _measure(material: Material, seeds: int, updates: int | None, device: torch.device, progress: Progress) -> Json:
    pool, plans = split_plans(material, seeds)
    # Decided on images that no seed tests: the verdict's test images must not influence the choice.
    untested = SplitPlan(reduce(np.intersect1d, [plan.train for plan in plans]), plans[0].test)
    flips, flips_note = allowed_flips(pool, untested, len(material.names), device)
    most = UPDATES[1] * (1 if device.type == "cpu" else 4)
    largest = len(plans[0].train) + len(material.fake)
    if updates is None:
        updates = int(np.clip(EPOCHS * largest // BATCH, UPDATES[0], most))
    arms = [arm for arm in ARMS if arm.source != "unfiltered" or material.unfiltered is not None]
    allowed = [allowed_updates(material, pool, plan) for plan in plans]
    answers = train_all(
        material, pool, plans, arms, allowed, updates=updates, flips=flips, device=device, progress=progress
    )
    document = _document(material, pool, plans, arms, answers)
    if not flips:
        document["rule"] = _without_flips(document["rule"])
        for row in document["arms"]:
            row["description"] = _without_flips(row["description"])
        document["warnings"] = [_without_flips(warning) for warning in document["warnings"]]
    if left_out := max(int((~rows).sum()) for rows in allowed):
        document["warnings"].append(
            f"{left_out:,} synthetic images are near-copies of test images: the classifiers were trained without them."
        )
    passes = updates * BATCH / largest
    if passes < EPOCHS / 4:
        document["warnings"].append(
            f"The classifiers saw each of the {largest:,} images {passes:.1f} times on average; longer training "
            "might change the result."
        )
    return document | {
        "seeds": seeds,
        "updates": updates,
        "batch_size": BATCH,
        "image_size": min(MOST_SIDE, max(pool.images.shape[2:])),
        "flips": flips,
        "flips_note": flips_note,
    }


def _without_flips(text: str) -> str:
    return text.replace("flips and crops", "crops").replace("Flips and crops", "Crops")


def _document(
    material: Material, pool: Pool, plans: Sequence[SplitPlan], arms: Sequence[Arm], predicted: dict[str, Labels]
) -> Json:
    """The scores, differences and verdict as the report's `utility`."""
    names = list(material.names)
    tested = np.unique(np.concatenate([plan.test for plan in plans]))
    labels = pool.labels[tested]
    answers = [verdict.Answers(arm.name, predicted[arm.name][:, tested]) for arm in arms]
    scores = dict(zip((arm.name for arm in arms), verdict.score(answers, labels, len(names)), strict=True))
    n_test = np.bincount(labels, minlength=len(names)).tolist()
    rows = verdict.arms_json([arm.name for arm in arms], list(scores.values()), names)
    for row, arm in zip(rows, arms, strict=True):
        row |= {"title": arm.name.capitalize(), "description": arm.description}
        row["train_images"] = dict(zip(names, train_counts(material, pool, plans[0], arm), strict=True))
    candidates = [arm.name for arm in arms if arm.source in ("both", "unfiltered", "fake")]
    differences = [
        verdict.difference_json(name, against, scores, names) for name in candidates for against in verdict.REAL_ARMS
    ]
    differences.append(verdict.difference_json(BASELINE, PLAIN, scores, names))
    tellable = _tellable(material, n_test)
    decided = judge(differences) if tellable else None
    unfiltered = next((arm.name for arm in arms if arm.source == "unfiltered"), None)
    return {
        "measured": True,
        "verdict": decided,
        "headline": headline(decided, differences) if decided else _TOO_FEW,
        "rule": RULE,
        "note": _NOTE,
        "warnings": _warnings(material, n_test, len(plans), augmentation_harms(differences)),
        "baseline": BASELINE,
        "candidate": CANDIDATE,
        "test": {"kind": material.kind, "n": dict(zip(names, n_test, strict=True)), "total": len(tested)},
        "arms": rows,
        "differences": differences,
        "classes": judge_classes(scores, names, n_test),
        "unfiltered_verdict": judge(differences, unfiltered) if unfiltered and tellable else None,
    }


def _tellable(material: Material, n_test: Sequence[int]) -> bool:
    """Whether at least two classes can be judged, one of which received synthetic images."""
    enough = [n >= verdict.MIN_TEST for n in n_test]
    return sum(enough) >= 2 and any(n and ok for n, ok in zip(material.delivered, enough, strict=True))


_TOO_FEW = (
    f"No verdict: it needs at least two classes with {verdict.MIN_TEST} or more real test images, one of which "
    "received synthetic images. Set more real images aside."
)

_NOTE = (
    "These results are for a small classifier. A larger or pre-trained one may need the images less, or make better "
    "use of them. At most 2,000 synthetic images per class are used."
)


def _warnings(material: Material, n_test: Sequence[int], seeds: int, harmed: bool) -> list[str]:
    found = []
    if seeds < SEEDS:
        found.append(
            f"Only {seeds} training run{'s' if seeds > 1 else ''} per arm: the intervals "
            f"{'barely' if seeds > 1 else 'do not'} reflect run-to-run variation. Use --seeds {SEEDS} or more."
        )
    if harmed:
        found.append(
            "Flips and crops lower accuracy here: plain training on the real images is better than oversampling with "
            "them. The verdict compares only the arms that use them."
        )
    if material.leaks:
        found.append(f"{material.leaks:,} test images are identical to training images and were left out of the test.")
    if material.may_have_seen:
        found.append(
            "It is not known what the generator was trained on. If it saw the real test images, the synthetic images "
            "look more useful than they are."
        )
    weak = [f"{name} ({n})" for name, n in zip(material.names, n_test, strict=True) if n < WEAK_TEST]
    if weak:
        found.append(
            f"The verdicts on these classes are weak, because they have few test images: {', '.join(weak)}. Setting "
            "aside more real images would help more than training again."
        )
    return found
