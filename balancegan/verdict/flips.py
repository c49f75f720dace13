"""Decides whether the verdict's classifiers may mirror their training images."""

from __future__ import annotations

import torch

from balancegan.metrics.mirror import LOOK, mirror_check
from balancegan.verdict.material import TEST_SHARE, Pool, SplitPlan, at_most, stratified_split


def allowed_flips(pool: Pool, plan: SplitPlan, classes: int, device: torch.device) -> tuple[bool, str]:
    """Whether to use flips, judged by a classifier trained on other images; and a sentence that says why."""
    labels = pool.labels[plan.train]
    kept, aside = stratified_split(labels, TEST_SHARE, seed=0)
    train, rest = plan.train[kept], plan.train[at_most(aside, labels, LOOK)]
    if not len(rest):
        return False, "Flips are not used, only crops: too few images to tell whether mirrored ones keep their class."
    images, truth = (pool.images[train], pool.images[rest]), (pool.labels[train], pool.labels[rest])
    flips, found = mirror_check(images, truth, classes, str(device))
    return flips, f"Flips are {'used' if flips else 'not used, only crops'}: {found}."
