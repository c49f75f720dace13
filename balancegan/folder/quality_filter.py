"""`--filter quality`: keep the samples that a classifier of the real images takes for images of their class.

The classifiers see the training images alone, the ones that the generator saw too, and never those behind the
report's verdict. Each is trained on two thirds of them and tells how real images that it did not see look to it: how
sure it is of them, and how far they lie from the nearest image of their class that it saw. A sample has to look like
that. (The distance to a class's centre would not do: of a class of many kinds the centre is no image, and noise lies
near it.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from balancegan.core.progress import Progress, silent
from balancegan.core.rows import rows_by_class
from balancegan.folder.copy_filter import CopyFilter
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Images
from balancegan.metrics.memorisation import nearest

FOLDS = 3
LOWEST = 5.0  # percentile of real images' margins: below it a sample is not sure enough
FARTHEST = 95.0  # percentile of real images' distances to the nearest other one of their class
FENCE = 1.5  # interquartile ranges above the upper quartile: surer than real images are, a caricature
FEWEST = 5  # real images of a class that a percentile can rest on

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """What samples of one class have to keep to. Margins are log-odds of the class against all others."""

    low: float
    high: float
    radius: float  # distance to the nearest real image of the class, over the usual one of real images


@dataclass(frozen=True)
class _Fold:
    """A classifier, the features (n, d) of each class's images that it saw, and how far others lie from them."""

    network: OwnExtractor
    features: list[NDArray[np.float32]]  # K of them
    scale: FloatArray  # (K,), NaN where there were no others


class QualityFilter:
    """Judges samples class by class; see the module's docstring. Use `fit`."""

    def __init__(self, folds: list[_Fold], bands: list[Band]) -> None:
        """Use `fit` to get one; `bands` (K)."""
        self._folds, self.bands = folds, bands

    @classmethod
    def fit(
        cls,
        images: Images,
        labels: NDArray[np.integer],
        num_classes: int,
        *,
        device: str = "cpu",
        steps: int = 400,
        progress: Progress = silent,
    ) -> QualityFilter:
        """Train the classifiers and learn from the images that each of them did not see how real ones look.

        Args:
            images: uint8 (N, C, H, W), training images only.
            labels: integers (N,) in 0 … num_classes - 1.
            num_classes: K.
            device: a torch device name.
            steps: updates of each classifier.
            progress: called as `("quality filter", classifiers trained, classifiers)`.
        """
        fold = _folds(labels, num_classes)
        margins, distances = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
        folds = []
        for k in range(FOLDS):
            seen, unseen = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            network = OwnExtractor.fit(images[seen], labels[seen], num_classes, seed=k, device=device, steps=steps)
            known, features = network(images[seen]), network(images[unseen])
            margins[unseen] = _margins(network.logits(images[unseen]))[np.arange(len(unseen)), labels[unseen]]
            of_class = [known[mine] for mine in rows_by_class(labels[seen], num_classes)]
            scale = np.full(num_classes, np.nan)
            for c, mine in enumerate(rows_by_class(labels[unseen], num_classes)):
                if not len(mine):
                    continue
                away, _ = nearest(features[mine], of_class[c])
                scale[c] = _median(away)
                distances[unseen[mine]] = away / scale[c]
            folds.append(_Fold(network, of_class, scale))
            progress("quality filter", k + 1, FOLDS)
        return cls(folds, [_band(margins[mine], distances[mine]) for mine in rows_by_class(labels, num_classes)])

    def __call__(self, images: Images, label: int) -> NDArray[np.bool_]:
        """Which of the images uint8 (n, C, H, W) to keep for a class, (n,)."""
        able = [fold for fold in self._folds if len(fold.features[label])] or self._folds  # that know the class
        margins = np.mean([_margins(fold.network.logits(images))[:, label] for fold in able], axis=0)
        away = [
            nearest(fold.network(images), fold.features[label])[0] / fold.scale[label]
            for fold in able
            if np.isfinite(fold.scale[label])  # a fold without another image of the class says nothing
        ]
        radius = np.mean(away, axis=0) if away else np.zeros(len(images))
        band = self.bands[label]
        return (margins >= band.low) & (margins <= band.high) & (radius <= band.radius)


def _folds(labels: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """The fold of each image, the classes spread evenly over all of them."""
    fold = np.empty(len(labels), np.int64)
    rng = np.random.default_rng(0)
    for c, rows in enumerate(rows_by_class(labels, num_classes)):
        mine = rng.permutation(rows)
        fold[mine] = (np.arange(len(mine)) + c) % FOLDS
    return fold


def _margins(logits: NDArray[np.floating]) -> FloatArray:
    """Log-odds of each class against all others (n, K); above 0 it is likelier than all of them together."""
    x = logits.astype(np.float64)
    rows, best = np.arange(len(x)), x.argmax(axis=1)
    top = x[rows, best]
    shares = np.exp(x - top[:, None])  # of the likeliest class, which itself has 1: what is left is never a small rest
    without = np.maximum(shares.sum(axis=1, keepdims=True) - shares, 1.0)
    others = top[:, None] + np.log(without)
    rest = x.copy()
    rest[rows, best] = -np.inf
    others[rows, best] = np.logaddexp.reduce(rest, axis=1)
    return np.asarray(x - others)


def _median(values: NDArray[np.floating]) -> float:
    known = values[np.isfinite(values)]
    return max(float(np.median(known)), 1e-9) if len(known) else float("nan")


def _band(margins: FloatArray, distances: FloatArray) -> Band:
    """From images that the classifiers did not see. A class with too few of them only has to be recognised."""
    margins, distances = margins[np.isfinite(margins)], distances[np.isfinite(distances)]
    if min(len(margins), len(distances)) < FEWEST:
        return Band(0.0, float("inf"), float("inf"))
    lower, upper = np.percentile(margins, (25, 75))
    high = float(upper + FENCE * (upper - lower))
    # Where real images are hard to recognise, the fence could lie below 0 and nothing would pass.
    low = max(0.0, float(np.percentile(margins, LOWEST)))
    return Band(low, high if high > low else float("inf"), float(np.percentile(distances, FARTHEST)))


@dataclass
class QualityKeep:
    """Both filters for one class: what does not look like the class goes first, then near-copies.

    `passed` gets the first `limit` samples that the copy filter alone lets through: what would have been delivered
    without the other; `refused` counts those that the other refused.
    """

    copies: CopyFilter
    alone: CopyFilter  # another one of the same: what it let through takes up room of its own
    judge: Callable[[Images], NDArray[np.bool_]]
    limit: int
    passed: list[Images] = field(default_factory=list)
    refused: int = 0

    def __call__(self, images: Images) -> NDArray[np.bool_]:
        """Which of the images (n, C, S, S) to keep."""
        if len(self.passed) < self.limit:
            self.passed += list(images[self.alone(images)][: self.limit - len(self.passed)])
        keep = self.judge(images)
        self.refused += int((~keep).sum())
        if keep.any():
            keep[keep] = self.copies(images[keep])
        return keep
