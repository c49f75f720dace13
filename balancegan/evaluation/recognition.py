"""GAN-test: does a classifier of real images take generated images for their class?

Shmelkov et al., "How good is my GAN?" (2018, arXiv 1807.09499): a classifier that was trained on real images is tested
on generated ones. Its recall on other real images tells what to expect. The test finds images that show nothing of
their class, such as a part without its defect, even if all their features look real. A high share does not prove
quality: a generator that repeats one good image scores 100%.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Images
from balancegan.verdict.material import ClassImages

RECOGNITION = ("recognised", "recognised_real", "recognised_n", "recognised_real_n", "recognised_less", "taken_for")

MOST_SHOWN = 500
"""Maximum number of synthetic, and of real, images per class that the classifier looks at."""

MIN_SHOWN = 5
"""A share is given only for at least this many images."""

LESS = 0.1
"""Synthetic images are said to be recognised less often than real ones if the shares differ by at least this much."""

SIGNIFICANCE = 0.01
"""Level of the one-sided test of that difference (Fisher's exact test)."""


def measure_recognition(classes: Sequence[ClassImages], classifier: OwnExtractor, *, seed: int) -> list[Json]:
    """Count what the classifier takes each class's images for.

    Args:
        classes: in the order of the classifier's outputs.
        classifier: trained on the classes' real training images, or on a part of them.
        seed: for the choice of images.

    Returns:
        Per class `RECOGNITION` and `reasons`: the shares of synthetic images, and of real images that the classifier
        was not trained on, that it takes for their class; how many it looked at; whether synthetic ones are clearly
        recognised less often; and the other class that it takes most of the others for, as `{name, share}`.
    """
    names = [images.name for images in classes]
    return [_of_class(images, names, label, classifier, seed + label) for label, images in enumerate(classes)]


def no_recognition(why: str) -> Json:
    """A class's row when nothing was measured."""
    return {**dict.fromkeys(RECOGNITION), "reasons": dict.fromkeys(("recognised", "recognised_real"), why)}


def _of_class(images: ClassImages, names: list[str], label: int, classifier: OwnExtractor, seed: int) -> Json:
    if not len(images.fake):
        return no_recognition("No synthetic images.")
    fake = _answers(images.fake, len(names), classifier, seed)
    real = _answers(images.unseen, len(names), classifier, seed)
    row: Json = {**no_recognition(""), "reasons": {}, "recognised_n": int(fake.sum())}
    row["recognised_real_n"] = int(real.sum())
    for key, counts, what in (("recognised", fake, "synthetic"), ("recognised_real", real, "held-out real")):
        if counts.sum() < MIN_SHOWN:
            row["reasons"][key] = f"Too few images: {counts.sum()} {what}, but {MIN_SHOWN} are needed."
        else:
            row[key] = float(counts[label] / counts.sum())
    if row["recognised"] is None:
        return row
    others = np.where(np.arange(len(names)) == label, -1, fake)
    first = int(others.argmax())
    if others[first] > 0:
        row["taken_for"] = {"name": names[first], "share": float(others[first] / fake.sum())}
    row["recognised_less"] = row["recognised_real"] is not None and _less(fake, real, label)
    return row


def _answers(images: Images, classes: int, classifier: OwnExtractor, seed: int) -> NDArray[np.int64]:
    """How many of the images (at most `MOST_SHOWN`) the classifier takes for each class (K,)."""
    if not len(images):
        return np.zeros(classes, np.int64)
    shown = np.sort(np.random.default_rng(seed).permutation(len(images))[:MOST_SHOWN])
    return np.bincount(classifier.logits(images[shown]).argmax(axis=1), minlength=classes)


def _less(fake: NDArray[np.int64], real: NDArray[np.int64], label: int) -> bool:
    from scipy.stats import fisher_exact

    if real[label] / real.sum() - fake[label] / fake.sum() < LESS:
        return False
    table = [[counts[label], counts.sum() - counts[label]] for counts in (real, fake)]
    return bool(fisher_exact(table, alternative="greater").pvalue <= SIGNIFICANCE)
