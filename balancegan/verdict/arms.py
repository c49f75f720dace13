"""The arms (ways of training a classifier) that the verdict compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancegan.verdict.material import Material, Pool, SplitPlan


@dataclass(frozen=True)
class Arm:
    """One way of training the classifier."""

    name: str
    description: str
    source: str  # real, both, unfiltered or fake
    balanced: bool = True  # draw classes equally often; otherwise in proportion to their sizes
    augmented: bool = True  # flips and crops
    adjusted: bool = False  # balanced softmax


ARMS = (
    Arm("real only", "Real images, without balancing or augmentation.", "real", False, False),
    Arm("oversampling", "Real images, classes drawn equally often, with random flips and crops.", "real"),
    Arm(
        "balanced softmax",
        "Real images without balancing, with flips and crops and a loss corrected for class sizes (balanced softmax).",
        "real",
        balanced=False,
        adjusted=True,
    ),
    Arm(
        "real + synthetic",
        "Real and synthetic images together, classes drawn equally often, with the same flips and crops.",
        "both",
    ),
    Arm(
        "real + synthetic, unfiltered",
        "The same, but with the images that would have been delivered without the quality filter.",
        "unfiltered",
    ),
    Arm(
        "synthetic only",
        "Synthetic images only (Classification Accuracy Score); classes without any keep their real images.",
        "fake",
    ),
)


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


BASELINE, CANDIDATE = "oversampling", "real + synthetic"
PLAIN = "real only"
REAL_ARMS = (PLAIN, BASELINE, "balanced softmax")
