"""Measures whether mirrored images keep their class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.verdict.material import TEST_SHARE, Pool, SplitPlan, at_most, stratified_split

MIRRORED = 0.9  # flips are used if mirroring keeps at least this fraction of the accuracy
FLIPS_LOOK = 50  # images per class used to decide


def allowed_flips(pool: Pool, plan: SplitPlan, classes: int, device: torch.device) -> tuple[bool, str]:
    """Whether to use flips, judged by a classifier trained on other images; and a sentence that says why."""
    labels = pool.labels[plan.train]
    kept, aside = stratified_split(labels, TEST_SHARE, seed=0)
    train, rest = plan.train[kept], plan.train[at_most(aside, labels, FLIPS_LOOK)]
    if not len(rest):
        return False, "Flips are not used, only crops: too few images to tell whether mirrored ones keep their class."
    classifier = OwnExtractor.fit(pool.images[train], pool.labels[train], classes, device=str(device))
    images, truth = pool.images[rest], pool.labels[rest]
    upright = classifier.logits(images).argmax(1) == truth
    mirrored = classifier.logits(np.ascontiguousarray(images[..., ::-1])).argmax(1) == truth
    spoilt = [k for k in np.unique(truth) if _loses(upright[truth == k], mirrored[truth == k])]
    flips = bool(not spoilt and mirrored.mean() >= MIRRORED * upright.mean())
    seen = (
        f"a classifier recognises {upright.mean():.0%} of the original images and {mirrored.mean():.0%} of their "
        "mirror images"
    )
    if spoilt:
        where = "one class" if len(spoilt) == 1 else f"{len(spoilt)} classes"
        seen += f", and mirroring clearly lowers recall in {where}"
    return flips, f"Flips are {'used' if flips else 'not used, only crops'}: {seen}."


def _loses(upright: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> bool:
    """Whether mirroring clearly lowers a class's recall: by three standard deviations of the changed answers."""
    lost, won = int((upright & ~mirrored).sum()), int((mirrored & ~upright).sum())
    return bool(lost - won > 3 * np.sqrt(lost + won) and mirrored.sum() < MIRRORED * upright.sum())
