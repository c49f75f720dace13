"""The arms (ways of training a classifier) that the verdict compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancegan.verdict.augmentation import Augmentation
from balancegan.verdict.material import Material, Pool, SplitPlan


@dataclass(frozen=True)
class Arm:
    """One way of training the classifier; all arms share everything that is not named here."""

    name: str
    description: str
    source: str = "real"  # real, both, unfiltered or fake
    balanced: bool = True  # draw classes equally often; otherwise in proportion to their sizes
    adjusted: bool = False  # balanced softmax
    mixup: bool = False  # with deferred re-weighting
    trivial: bool = False  # TrivialAugment on top of the shared augmentation
    share: float | None = None  # synthetic part of a class's draws; None: that of the delivered folder

    def augmented(self, shared: Augmentation) -> Augmentation:
        """Return this arm's augmentation, given the one that arms share."""
        return Augmentation(shared.crops, shared.flips, trivial=True) if self.trivial else shared


BASELINE, CANDIDATE = "oversampling", "real + synthetic"
UNFILTERED = "real + synthetic, unfiltered"

ARMS = (
    Arm("real only", "Real images as they are, without balancing.", balanced=False),
    Arm(BASELINE, "Real images, classes drawn equally often."),
    Arm(
        "balanced softmax",
        "Real images without balancing, and a loss corrected for class sizes (balanced softmax).",
        balanced=False,
        adjusted=True,
    ),
    Arm("oversampling with TrivialAugment", "Oversampling with TrivialAugment on top.", trivial=True),
    Arm(
        "Mixup",
        "Real images mixed in pairs, without balancing; rare classes get more weight in the last fifth of training "
        "(deferred re-weighting).",
        balanced=False,
        mixup=True,
    ),
    Arm(CANDIDATE, "Real and synthetic images together, classes drawn equally often.", "both"),
    Arm(
        UNFILTERED,
        "The same, but with the images that would have been delivered without the quality filter.",
        "unfiltered",
    ),
    Arm(
        "synthetic only",
        "Synthetic images only (Classification Accuracy Score); classes without any keep their real images.",
        "fake",
    ),
)
REAL_ARMS = tuple(arm.name for arm in ARMS if arm.source == "real")
DECIDING = (BASELINE, "balanced softmax", CANDIDATE)


def arm_named(name: str) -> Arm:
    """Return the arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


def train_counts(material: Material, pool: Pool, plan: SplitPlan, arm: Arm) -> list[int]:
    """Number of training images per class (K,) for an arm."""
    size = len(material.names)
    real = np.bincount(pool.labels[plan.train], minlength=size)
    fake = np.bincount(material.fake.labels, minlength=size)
    counts = {
        "real": real,
        "both": real + np.array(material.delivered),
        "unfiltered": real + np.array(material.delivered_unfiltered or material.delivered),
        "fake": np.where(fake > 0, fake, real),
    }
    return [int(n) for n in counts[arm.source]]
