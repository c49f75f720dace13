"""The arms (ways of training a classifier) that the verdict compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.verdict.augmentation import Augmentation
from balancegan.verdict.material import Material


@dataclass(frozen=True)
class Arm:
    """One way of training the classifier; all arms share everything that is not named here."""

    name: str
    description: str
    source: str = "real"  # real, folder, transformed, unfiltered or generated
    balanced: bool = True  # draw classes equally often; otherwise in proportion to their sizes
    adjusted: bool = False  # balanced softmax
    mixup: bool = False  # with deferred re-weighting
    trivial: bool = False  # TrivialAugment on top of the shared augmentation

    def augmented(self, shared: Augmentation) -> Augmentation:
        """Return this arm's augmentation, given the one that arms share."""
        return Augmentation(shared.crops, shared.flips, trivial=True) if self.trivial else shared


BASELINE, CANDIDATE = "oversampling", "real + synthetic"
UNFILTERED = "real + synthetic, unfiltered"
TRANSFORMED, GENERATED = "real + transformed", "generated only"

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
    Arm(CANDIDATE, "Real and synthetic images as the folder holds them, classes drawn equally often.", "folder"),
    Arm(
        TRANSFORMED,
        "The same, but with transformed real images alone in place of the synthetic images.",
        "transformed",
    ),
    Arm(
        UNFILTERED,
        "The same, but with the images that would have been delivered without the quality filter.",
        "unfiltered",
    ),
    Arm(
        GENERATED,
        "Generated images only (Classification Accuracy Score); classes without any keep their real images.",
        "generated",
    ),
)
REAL_ARMS = tuple(arm.name for arm in ARMS if arm.source == "real")
DECIDING = (BASELINE, "balanced softmax", CANDIDATE, TRANSFORMED, GENERATED)


def arm_named(name: str) -> Arm:
    """Return the arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


def contents(material: Material, n_real: NDArray[np.integer], arm: Arm) -> NDArray[np.float64]:
    """Return how many images of each kind an arm's folder holds (4, K): real, generated, transformed, unfiltered.

    Where kinds are mixed, their proportions in the delivered folder count, no matter how many images are at hand.
    """
    nothing = np.zeros(len(n_real))
    made, varied = (np.array(counts or nothing, np.float64) for counts in (material.delivered, material.varied))
    unfiltered = np.array(material.delivered_unfiltered or made, np.float64)
    if arm.source == "generated":
        there = np.bincount(material.fake.labels, minlength=len(n_real))
        return np.array([np.where(there > 0, 0, n_real), there, nothing, nothing])
    added = {
        "real": (nothing, nothing, nothing),
        "folder": (made, varied, nothing),
        "transformed": (nothing, made + varied, nothing),
        "unfiltered": (nothing, varied, unfiltered),
    }
    return np.array([n_real, *added[arm.source]])
