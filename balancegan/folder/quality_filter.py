"""Filter for `--filter quality`: keep samples that a classifier of the real images assigns to their class.

The classifiers see only training images, which the generator saw too, and never the images behind the report's
verdict. Each is trained on two thirds of them and measures how unseen real images look to it: how confident it is,
and how far they are from the nearest image of their class that it saw. A sample must fall in the same range. (The
distance to a class's centre would not work: in a varied class the centre is not an image, and noise can be near it.)
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
LOWEST = 5.0  # percentile of real images' margins, below which a sample is too uncertain
FARTHEST = 95.0  # percentile of real images' distances to the nearest other image of their class
FENCE = 1.5  # interquartile ranges above the upper quartile; beyond it, a sample is a caricature
FEWEST = 5  # minimum number of real images of a class for a percentile

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """The range that samples of one class must fall in. Margins are log-odds of the class against all others."""

    low: float
    high: float
    radius: float  # distance to the nearest real image of the class, relative to that of real images


@dataclass(frozen=True)
class _Fold:
    """A classifier, the features (n, d) of each class's images that it saw, and how far unseen ones are from them."""

    network: OwnExtractor
    features: list[NDArray[np.float32]]  # K of them
    scale: FloatArray  # (K,), NaN without unseen images


class QualityFilter:
    """Judges samples class by class; see the module's docstring. Create it with `fit`."""

    def __init__(self, folds: list[_Fold], bands: list[Band]) -> None:
        """Use `fit` instead; `bands`: one per class (K)."""
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
        """Train the classifiers, and measure how real images look to the classifiers that did not see them.

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
        """Return which of the images uint8 (n, C, H, W) to keep for a class, (n,)."""
        able = [fold for fold in self._folds if len(fold.features[label])] or self._folds  # that saw the class
        margins = np.mean([_margins(fold.network.logits(images))[:, label] for fold in able], axis=0)
        away = [
            nearest(fold.network(images), fold.features[label])[0] / fold.scale[label]
            for fold in able
            if np.isfinite(fold.scale[label])  # without unseen images of the class, a fold says nothing
        ]
        radius = np.mean(away, axis=0) if away else np.zeros(len(images))
        band = self.bands[label]
        return (margins >= band.low) & (margins <= band.high) & (radius <= band.radius)


def _folds(labels: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Return the fold of each image, with every class spread evenly over the folds."""
    fold = np.empty(len(labels), np.int64)
    rng = np.random.default_rng(0)
    for c, rows in enumerate(rows_by_class(labels, num_classes)):
        mine = rng.permutation(rows)
        fold[mine] = (np.arange(len(mine)) + c) % FOLDS
    return fold


def _margins(logits: NDArray[np.floating]) -> FloatArray:
    """Return the log-odds of each class against all others (n, K); above 0, it outweighs all of them together."""
    x = logits.astype(np.float64)
    rows, best = np.arange(len(x)), x.argmax(axis=1)
    top = x[rows, best]
    shares = np.exp(x - top[:, None])  # relative to the likeliest class (1): what remains for the others is at least 1
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
    """Return the band from images that the classifiers did not see.

    Samples of a class with too few such images only have to be recognised.
    """
    margins, distances = margins[np.isfinite(margins)], distances[np.isfinite(distances)]
    if min(len(margins), len(distances)) < FEWEST:
        return Band(0.0, float("inf"), float("inf"))
    lower, upper = np.percentile(margins, (25, 75))
    high = float(upper + FENCE * (upper - lower))
    # If real images are hard to recognise, the fence could be below 0 and nothing would pass.
    low = max(0.0, float(np.percentile(margins, LOWEST)))
    return Band(low, high if high > low else float("inf"), float(np.percentile(distances, FARTHEST)))


@dataclass
class QualityKeep:
    """Applies both filters to one class: rejects what does not look like the class, then near-copies.

    `passed` gets the first `limit` samples that the copy filter alone accepts: what would have been delivered without
    the quality filter; `refused` counts the samples that the quality filter rejects.
    """

    copies: CopyFilter
    alone: CopyFilter  # a second one, which tracks what it accepts itself
    judge: Callable[[Images], NDArray[np.bool_]]
    limit: int
    passed: list[Images] = field(default_factory=list)
    refused: int = 0

    def __call__(self, images: Images, seeds: np.ndarray | None = None) -> NDArray[np.bool_]:
        """Which of the images (n, C, S, S) of these seeds (n,) to keep."""
        if len(self.passed) < self.limit:
            self.passed += list(images[self.alone(images, seeds)][: self.limit - len(self.passed)])
        keep = self.judge(images)
        self.refused += int((~keep).sum())
        if keep.any():
            keep[keep] = self.copies(images[keep], None if seeds is None else seeds[keep])
        return keep
