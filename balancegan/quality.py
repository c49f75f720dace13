"""`--filter quality`: keep the samples that a classifier of the real images takes for images of their class.

The classifiers see the training images alone, the ones that the generator saw too, and never those behind the
report's verdict. Each is trained on two thirds of them and tells how real images that it did not see look to it: how
sure it is of them, and how far they lie from their class's centre. A sample has to look like that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics.features import Images
from balancegan.metrics.own import OwnExtractor
from balancegan.progress import Progress, silent
from balancegan.sample import CopyFilter

FOLDS = 3
LOWEST = 5.0  # percentile of real images' margins: below it a sample is not sure enough
FARTHEST = 95.0  # percentile of real images' distances to their class's centre
FENCE = 1.5  # interquartile ranges above the upper quartile: surer than real images are, a caricature
FEWEST = 5  # real images of a class that a percentile can rest on

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """What samples of one class have to keep to. Margins are log-odds of the class against all others."""

    low: float
    high: float
    radius: float  # distance to the centre over the usual one of real images


class QualityFilter:
    """Judges samples class by class; see the module's docstring. Use `fit`."""

    def __init__(self, networks: list[OwnExtractor], centres: FloatArray, scale: FloatArray, bands: list[Band]) -> None:
        """`centres` (F, K, d) of each network's features, `scale` (F, K) the median distance of real images to them."""
        self._networks, self._centres, self._scale, self.bands = networks, centres, scale, bands

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
        networks, centres, scales = [], [], []
        for k in range(FOLDS):
            seen, unseen = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            network = OwnExtractor.fit(images[seen], labels[seen], num_classes, seed=k, device=device, steps=steps)
            centre = _centres(network(images[seen]).astype(np.float64), labels[seen], num_classes)
            margins[unseen] = _margins(network.logits(images[unseen]))[np.arange(len(unseen)), labels[unseen]]
            away = _distances(network(images[unseen]), centre)[np.arange(len(unseen)), labels[unseen]]
            scale = np.array([_median(away[labels[unseen] == c]) for c in range(num_classes)])
            distances[unseen] = away / scale[labels[unseen]]
            networks.append(network)
            centres.append(centre)
            scales.append(scale)
            progress("quality filter", k + 1, FOLDS)
        bands = [_band(margins[labels == c], distances[labels == c]) for c in range(num_classes)]
        return cls(networks, np.stack(centres), np.stack(scales), bands)

    def __call__(self, images: Images, label: int) -> NDArray[np.bool_]:
        """Which of the images uint8 (n, C, H, W) to keep for a class, (n,)."""
        logits = [network.logits(images) for network in self._networks]
        margins = np.mean([_margins(x)[:, label] for x in logits], axis=0)
        away = [
            _distances(network(images), centre)[:, label] / scale[label]
            for network, centre, scale in zip(self._networks, self._centres, self._scale, strict=True)
        ]
        known = [x for x in away if np.isfinite(x).all()]  # not of a fold without an image of the class
        radius = np.mean(known, axis=0) if known else np.zeros(len(images))
        band = self.bands[label]
        return (margins >= band.low) & (margins <= band.high) & (radius <= band.radius)


def _folds(labels: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """The fold of each image, the classes spread evenly over all of them."""
    fold = np.empty(len(labels), np.int64)
    rng = np.random.default_rng(0)
    for c in range(num_classes):
        mine = rng.permutation(np.flatnonzero(labels == c))
        fold[mine] = (np.arange(len(mine)) + c) % FOLDS
    return fold


def _margins(logits: NDArray[np.floating]) -> FloatArray:
    """Log-odds of each class against all others (n, K); above 0 it is likelier than all of them together."""
    x = logits.astype(np.float64)
    others = [np.logaddexp.reduce(np.delete(x, k, axis=1), axis=1) for k in range(x.shape[1])]
    return np.asarray(x - np.stack(others, axis=1))


def _centres(features: FloatArray, labels: NDArray[np.integer], num_classes: int) -> FloatArray:
    """Mean features of each class (K, d); NaN for a class without images."""
    means = [features[labels == c].mean(0) if (labels == c).any() else np.nan * features[0] for c in range(num_classes)]
    return np.stack(means)


def _distances(features: NDArray[np.floating], centres: FloatArray) -> FloatArray:
    """(n, d), (K, d) -> (n, K)."""
    return np.asarray(np.linalg.norm(features[:, None].astype(np.float64) - centres[None], axis=2))


def _median(values: FloatArray) -> float:
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
    """Both filters for one class: near-copies go first, then what does not look like the class.

    `passed` gets the first `limit` samples that only the copy filter let through: what would have been delivered
    without the other; `refused` counts those that the other refused.
    """

    copies: CopyFilter
    judge: Callable[[Images], NDArray[np.bool_]]
    limit: int
    passed: list[Images] = field(default_factory=list)
    refused: int = 0

    def __call__(self, images: Images) -> NDArray[np.bool_]:
        """Which of the images (n, C, S, S) to keep."""
        keep = self.copies(images)
        self.passed += list(images[keep][: max(0, self.limit - len(self.passed))])
        if keep.any():
            good = self.judge(images[keep])
            self.refused += int((~good).sum())
            keep[keep] = good
        return keep
