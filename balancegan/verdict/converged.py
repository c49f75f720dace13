"""Trains wide residual networks long enough to learn the images, on real and generated ones in fixed shares.

On many data sets the small classifiers of `verdict/classifiers.py` stop long before they know their training images,
and what helps such a classifier need not help a better one. This is a WRN-16-1 (`nets/wide_resnet.py`) after a whole
schedule of the learning rate; its accuracy on the real training images says whether it has learned them. In a seed,
every arm starts from the same weights and makes as many updates, so arms differ in their draws alone. The share of a
class's draws that is generated is fixed: however many generated images there are, they do not crowd out the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.compute.memory import memory_errors
from balancegan.core.rows import rows_by_class
from balancegan.nets.classifier import seeded, sgd
from balancegan.nets.wide_resnet import WideResNet
from balancegan.verdict.classifiers import Shelf, mixed_draw, predict, shrunk, train
from balancegan.verdict.material import Labels, Pool

UPDATES = 1500
BATCH = 128
LEARNED = 0.8  # accuracy on the real training images, the mean over classes


@dataclass(frozen=True)
class SharedArm:
    """One way of training: the share of each class's draws that is generated, and how often classes are drawn."""

    name: str
    generated: float = 0.0
    balanced: bool = True  # classes equally often; otherwise in proportion to their sizes, with balanced softmax


ARMS = (
    SharedArm("oversampling"),
    SharedArm("balanced softmax", balanced=False),  # Ren et al. 2020, arXiv 2007.10740
    SharedArm("half generated", 0.5),
    SharedArm("quarter generated", 0.25),
)


@dataclass(frozen=True)
class Outcome:
    """What one classifier achieved; shares between 0 and 1."""

    arm: str
    seed: int
    balanced_accuracy: float  # mean recall of the classes with test images
    rare_recall: float | None  # mean recall of the rarest third that has test images
    recall: list[float | None]  # (K,); None without test images
    training_accuracy: float  # on the real training images, without flips and crops; mean over classes

    @property
    def learned(self) -> bool:
        """Whether the classifier has learned its training images."""
        return self.training_accuracy >= LEARNED


def train_arms(
    real: Pool,
    generated: Pool,
    test: Pool,
    num_classes: int,
    *,
    flips: bool,
    device: torch.device,
    seeds: Sequence[int] = (0, 1, 2),
    updates: int = UPDATES,
    arms: Sequence[SharedArm] = ARMS,
) -> Iterator[Outcome]:
    """Train every arm once per seed and yield how it does on the test images, seed by seed.

    Args:
        real: training images; a class that also has no generated ones is never drawn.
        generated: may lack classes, whose draws are then all real.
        test: real images that neither the classifiers nor the generator saw.
        num_classes: K.
        flips: whether to mirror images besides cropping them (`verdict/flips.py`).
        device: where to train; one network at a time.
        seeds: of weights and draws.
        updates: of each classifier, with `BATCH` images.
        arms: what to compare.
    """
    with memory_errors(device, "use --device cpu"):
        images, labels = shrunk([real, generated, test], device)
        rows = np.split(np.arange(len(labels)), [len(real), len(real) + len(generated)])
        rare = rarest(np.bincount(real.labels, minlength=num_classes))
        for seed in seeds:
            for arm in arms:
                network = seeded(lambda: WideResNet(images.shape[1], num_classes, images.shape[2]), seed).to(device)
                draw = mixed_draw(
                    (rows[0], real.labels),
                    (rows[1], generated.labels),
                    np.full(num_classes, arm.generated),
                    balanced=arm.balanced,
                    prior_on=None if arm.balanced else device,
                )
                train(
                    network,
                    Shelf(images, labels, {}),
                    draw,
                    updates=updates,
                    seed=seed,
                    augment=True,
                    flips=flips,
                    batch=BATCH,
                    optimise=sgd,
                )
                recall = recalls(predict(network, images, rows[2]), test.labels, num_classes)
                known = recalls(predict(network, images, rows[0]), real.labels, num_classes)
                few = recall[rare][np.isfinite(recall[rare])]
                yield Outcome(
                    arm.name,
                    seed,
                    float(np.nanmean(recall)),
                    float(few.mean()) if len(few) else None,
                    [float(share) if np.isfinite(share) else None for share in recall],
                    float(np.nanmean(known)),
                )


def rarest(counts: NDArray[np.integer]) -> NDArray[np.intp]:
    """The third of the classes with the fewest training images, at least one class; classes without any are left out.

    Args:
        counts: training images per class (K,).
    """
    order = np.argsort(counts, kind="stable")
    present = order[counts[order] > 0]
    return np.sort(present[: max(1, len(present) // 3)])


def recalls(predicted: Labels, labels: Labels, num_classes: int) -> NDArray[np.float64]:
    """Recall of every class (K,) given predicted and true classes (n,); NaN for a class without images."""
    right = predicted == labels
    return np.array([right[rows].mean() if len(rows) else np.nan for rows in rows_by_class(labels, num_classes)])
