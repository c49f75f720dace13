"""A quick first pass over the training images alone: it chooses the augmentation, and the strongest real-only arm.

Everything is chosen on real images that no seed of the verdict tests: one part trains, the other decides. All arms then
share the augmentation, so that no arm wins by a better one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.compute.machine import usable_cores
from balancegan.core.documents import Json
from balancegan.verdict.arms import ARMS, BASELINE, Arm, arm_named
from balancegan.verdict.augmentation import FLIPS, PLAIN, Augmentation
from balancegan.verdict.classifiers import Draw, Job, Part, Result, Shelf, balanced_accuracy, mixed_draw, train_jobs
from balancegan.verdict.material import Labels, Pool, SplitPlan, stratified_split
from balancegan.verdict.networks import Network
from balancegan.verdict.probabilities import probability_scores

ASIDE = 0.25  # part of the training images that decides


@dataclass(frozen=True)
class FirstPass:
    """What the first pass chose, and why."""

    augmentation: Augmentation
    strongest: Arm | None  # the best real-only arm; None if the pass did not look
    seconds: float  # of one core (or of the device) per update
    trials: tuple[Json, ...]

    @property
    def note(self) -> str:
        """Say in one sentence what was chosen."""
        if not self.trials:
            return f"All arms use {self.augmentation}: too few training images to compare augmentations."
        tried = len({row["augmentation"] for row in self.trials if row["arm"] == BASELINE})
        return (
            f"All arms use {self.augmentation}: of the {tried} that were tried, oversampling with it had the lowest "
            "log loss on a quarter of the training images that it was not trained on."
        )


def first_pass(
    pool: Pool,
    plans: Sequence[SplitPlan],
    groups: NDArray[np.int64] | None,
    num_classes: int,
    *,
    network: Network,
    updates: int,
    look_for_strongest: bool,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> FirstPass:
    """Choose on training images that no seed tests.

    Args:
        pool: the real images.
        plans: which of them the seeds train on and test.
        groups: (n,) group of each image of the pool, or None; groups are not divided.
        num_classes: K.
        network: the classifier.
        updates: per training run.
        look_for_strongest: whether to compare real-only arms too.
        device: where to train.
        progress: called with the number of runs done, and of all runs.
    """
    untested = reduce(np.intersect1d, [plan.train for plan in plans])
    kept, aside = stratified_split(pool.labels[untested], ASIDE, 0, None if groups is None else groups[untested])
    plan = SplitPlan(kept, aside)
    small = Pool(pool.images[untested], pool.labels[untested])
    if len(np.unique(small.labels[aside])) < 2:
        return FirstPass(FLIPS, arm_named(BASELINE) if look_for_strongest else None, 0.0, ())
    shelf = Shelf.of([small], num_classes, network.side, device)
    others = [arm for arm in ARMS if arm.source == "real" and arm.name != BASELINE] if look_for_strongest else []
    total, began = len(PLAIN) + 1 + len(others), time.perf_counter()
    trials: list[Json] = []

    def attempt(arms: Sequence[Arm], augmentations: Sequence[Augmentation]) -> None:
        jobs = [
            Job(arm, 0, plan, _draw(small, plan, arm, num_classes), augmentation, updates)
            for arm, augmentation in zip(arms, augmentations, strict=True)
        ]
        before = len(trials)
        results = train_jobs(jobs, shelf, network, device, lambda done, _: progress(before + done, total))
        trials.extend(
            {"arm": job.arm.name, "augmentation": str(job.augmentation), **_scores(result, small.labels[aside])}
            for job, result in zip(jobs, results, strict=True)
        )

    base = arm_named(BASELINE)
    attempt([base] * len(PLAIN), PLAIN)
    plain = [row["log_loss"] for row in trials]
    geometric = PLAIN[1] if plain[1] <= plain[2] else PLAIN[2]
    candidates = (*PLAIN, Augmentation(geometric.crops, geometric.flips, trivial=True))
    attempt([base], candidates[-1:])
    best = int(np.argmin([row["log_loss"] for row in trials]))
    chosen = candidates[best]
    oversampled = trials[best]["balanced_accuracy"]
    others = [arm for arm in others if arm.augmented(chosen) != chosen or not arm.trivial]
    total = len(trials) + len(others)
    attempt(others, [arm.augmented(chosen) for arm in others])
    accuracy = [oversampled, *(row["balanced_accuracy"] for row in trials[len(candidates) :])]
    strongest = [base, *others][int(np.argmax(accuracy))] if look_for_strongest else None
    cores = usable_cores() if device.type == "cpu" else 1
    seconds = (time.perf_counter() - began) * cores / (len(trials) * updates)
    return FirstPass(chosen, strongest, seconds, tuple(trials))


def _draw(pool: Pool, plan: SplitPlan, arm: Arm, num_classes: int) -> Draw:
    return mixed_draw([Part.all_of(plan.train, pool.labels[plan.train], num_classes)], balanced=arm.balanced)


def _scores(result: Result, labels: Labels) -> Json:
    """Log loss and accuracy on the images that decide, means over their classes."""
    log_loss = probability_scores(result.probabilities[None], labels)["log_loss"]
    return {"log_loss": log_loss, "balanced_accuracy": balanced_accuracy(result.predicted, labels)}
