"""Reject generated images that are near-copies of training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from balancegan.metrics.memorisation import copy_threshold, crowded_threshold, nearest, pixel_features


@dataclass
class CopyFilter:
    """Rejects near-copies of the class's training images and of images accepted before.

    A near-copy is closer than a low percentile of the class's own real-to-real nearest distances; between synthetic
    images that distance is corrected for how many there will be (`metrics.memorisation`). `reference`: the class's
    training images, uint8 (M, C, S, S); `total`: images the class will have in the end; `origins`: from seeds (n,) to
    the real images (n, C, S, S) of other classes that generated ones start from, which they must not copy either.
    """

    reference: np.ndarray
    total: int = 0
    origins: Callable[[np.ndarray], np.ndarray] | None = None
    _accepted: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real = pixel_features(self.reference)
        self.threshold = copy_threshold(self._real)
        self.spacing = crowded_threshold(self.threshold, self._real, self.total)

    def __call__(self, images: np.ndarray, seeds: np.ndarray | None = None) -> np.ndarray:
        """Return which of the images (n, C, S, S) of these seeds to keep, as a boolean mask (n,)."""
        features = pixel_features(images)
        keep = nearest(features, self._real)[0] >= self.threshold
        if self.origins is not None and seeds is not None:
            keep &= np.linalg.norm(features - pixel_features(self.origins(seeds)), axis=1) >= self.threshold
        if self._accepted:
            keep &= nearest(features, np.concatenate(self._accepted))[0] >= self.spacing
        within = np.sqrt(np.square(features[:, None] - features[None]).sum(-1))  # (n, n)
        for i in np.flatnonzero(keep):
            keep[i] = not (within[i, :i][keep[:i]] < self.spacing).any()
        self._accepted.append(features[keep])
        return keep
