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
from balancegan.verdict.material import Labels, Material, Pool, TestPlan, not_measured, test_plans, why_not
from balancegan.verdict.rule import RULE, WEAK_TEST, augmentation_harms, headline, judge, judge_classes

SEEDS = 3
UPDATES = (300, 1000)  # at least and at most on a CPU; four times the most elsewhere
EPOCHS = 20  # over the largest arm's images, as far as the limits allow


def measure_utility(
    material: Material,
    *,
    device: torch.device,
    seeds: int = SEEDS,
    updates: int | None = None,
    progress: Progress = silent,
) -> Json:
    """Train every arm once per seed, test, and judge.

    Args:
        material: see there.
        device: where the classifiers are trained; on a CPU each uses one core, and several are trained at once.
        seeds: trainings of every arm.
        updates: of each training; by default `EPOCHS` over the images of the largest arm within `UPDATES`.
        progress: called as `("classifiers", trainings done, trainings)`.

    Returns:
        The report's `utility`.
    """
    if reason := why_not(material):
        return not_measured(reason)
    with memory_errors(device, "use --device cpu, or leave the verdict out with --no-utility"):
        return _measure(material, seeds, updates, device, progress)


def _measure(material: Material, seeds: int, updates: int | None, device: torch.device, progress: Progress) -> Json:
    pool, plans = test_plans(material, seeds)
    # On images that no seed tests: a choice must not be made on those behind the verdict.
    untested = TestPlan(reduce(np.intersect1d, [plan.train for plan in plans]), plans[0].test)
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
    if left_out := max(int((~rows).sum()) for rows in allowed):
        document["warnings"].append(
            f"{left_out:,} synthetic images are near-copies of test images: the classifiers were trained without them."
        )
    passes = updates * BATCH / largest
    if passes < EPOCHS / 4:
        document["warnings"].append(
            f"The classifiers saw each of {largest:,} images {passes:.1f} times on average: what longer trainings "
            "would say is not known."
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
    return text.replace("flips and crops", "crops")


def _document(
    material: Material, pool: Pool, plans: Sequence[TestPlan], arms: Sequence[Arm], predicted: dict[str, Labels]
) -> Json:
    """Scores, differences and the verdict."""
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
    """Whether two classes can be judged, one of them with synthetic images."""
    enough = [n >= verdict.MIN_TEST for n in n_test]
    return sum(enough) >= 2 and any(n and ok for n, ok in zip(material.delivered, enough, strict=True))


_TOO_FEW = (
    f"No verdict: no class that got synthetic images has {verdict.MIN_TEST} real test images, or no other class has. "
    "Set more real images aside."
)

_NOTE = (
    "A small classifier says what these images do for a small classifier. A larger or pre-trained one may need them "
    "less or use them better. At most 2,000 synthetic images of a class are drawn from."
)


def _warnings(material: Material, n_test: Sequence[int], seeds: int, harmed: bool) -> list[str]:
    found = []
    if seeds < SEEDS:
        found.append(
            f"{seeds} training{'s' if seeds > 1 else ''} of each arm: the intervals know "
            f"{'little' if seeds > 1 else 'nothing'} of how much trainings differ. Give --seeds {SEEDS} or more."
        )
    if harmed:
        found.append(
            "Flips and crops do harm here: plain training on the real images is better than oversampling with them. "
            "The arms that have them are compared with each other."
        )
    if material.leaks:
        found.append(
            f"{material.leaks:,} images of the test set are equal to training images and were left out of the test."
        )
    if material.may_have_seen:
        found.append(
            "What the generator was trained on is not known here. If it saw the real images of this test, the "
            "synthetic images look more useful than they are."
        )
    weak = [f"{name} ({n})" for name, n in zip(material.names, n_test, strict=True) if n < WEAK_TEST]
    if weak:
        found.append(
            f"Few test images, so what is said of these classes is weak: {', '.join(weak)}. More real images set "
            "aside would help more than another training."
        )
    return found
