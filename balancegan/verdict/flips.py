"""Whether mirrored images keep their class, by measurement."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.verdict.material import TEST_SHARE, Pool, TestPlan, at_most, stratified_split

MIRRORED = 0.9  # flips are used where mirrored images are recognised this well, in proportion
FLIPS_LOOK = 50  # images per class that are looked at for that


def allowed_flips(pool: Pool, plan: TestPlan, classes: int, device: torch.device) -> tuple[bool, str]:
    """Whether a mirrored image is still of its class, as far as a classifier of other training images can tell."""
    labels = pool.labels[plan.train]
    kept, aside = stratified_split(labels, TEST_SHARE, seed=0)
    train, rest = plan.train[kept], plan.train[at_most(aside, labels, FLIPS_LOOK)]
    if not len(rest):
        return False, "Flips are left out, crops only: too few images to see whether mirrored ones keep their class."
    classifier = OwnExtractor.fit(pool.images[train], pool.labels[train], classes, device=str(device))
    images, truth = pool.images[rest], pool.labels[rest]
    upright = classifier.logits(images).argmax(1) == truth
    mirrored = classifier.logits(np.ascontiguousarray(images[..., ::-1])).argmax(1) == truth
    spoilt = [k for k in np.unique(truth) if _loses(upright[truth == k], mirrored[truth == k])]
    flips = bool(not spoilt and mirrored.mean() >= MIRRORED * upright.mean())
    seen = (
        f"a classifier recognises {mirrored.mean():.0%} of mirrored images, {upright.mean():.0%} of the same ones as "
        "they are"
    )
    if spoilt:
        seen += f", and loses {'a class' if len(spoilt) == 1 else f'{len(spoilt)} classes'} by mirroring"
    return flips, f"Flips are {'used' if flips else 'left out, crops only'}: {seen}."


def _loses(upright: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> bool:
    """Whether a class is surely recognised less when mirrored: three deviations of the answers that changed."""
    lost, won = int((upright & ~mirrored).sum()), int((mirrored & ~upright).sum())
    return bool(lost - won > 3 * np.sqrt(lost + won) and mirrored.sum() < MIRRORED * upright.sum())
