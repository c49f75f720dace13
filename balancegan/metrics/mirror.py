"""Measures whether mirrored images keep their class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Images

KEPT = 0.9  # mirroring is harmless if it keeps at least this fraction of a classifier's accuracy
LOOK = 50  # images per class that suffice to decide


def mirror_check(
    images: tuple[Images, Images], labels: tuple[NDArray[np.integer], NDArray[np.integer]], classes: int, device: str
) -> tuple[bool, str]:
    """Train a classifier and compare its accuracy on other images with that on their mirror images.

    Args:
        images: to train on and to look at, uint8 (N, C, S, S) each; at least one each.
        labels: their classes (N,) each.
        classes: number of classes.
        device: a torch device name.

    Returns:
        Whether mirrored images keep their class, and what was found, to complete a sentence.
    """
    classifier = OwnExtractor.fit(images[0], labels[0], classes, device=device)
    upright = classifier.logits(images[1]).argmax(1) == labels[1]
    mirrored = classifier.logits(np.ascontiguousarray(images[1][..., ::-1])).argmax(1) == labels[1]
    spoilt = [k for k in np.unique(labels[1]) if _loses(upright[labels[1] == k], mirrored[labels[1] == k])]
    found = (
        f"a classifier recognises {upright.mean():.0%} of the original images and {mirrored.mean():.0%} of their "
        "mirror images"
    )
    if spoilt:
        where = "one class" if len(spoilt) == 1 else f"{len(spoilt)} classes"
        found += f", and mirroring clearly lowers recall in {where}"
    return bool(not spoilt and mirrored.mean() >= KEPT * upright.mean()), found


def _loses(upright: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> bool:
    """Whether mirroring clearly lowers a class's recall: by three standard deviations of the changed answers."""
    lost, won = int((upright & ~mirrored).sum()), int((mirrored & ~upright).sum())
    return bool(lost - won > 3 * np.sqrt(lost + won) and mirrored.sum() < KEPT * upright.sum())
