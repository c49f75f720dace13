"""Keeps synthetic images that copy test images out of training, where the generator may have seen the test images.

A memorised test image would make useless images look helpful. Near-copies and mirrored ones are found by their
distance; shifted, turned or recoloured ones by being far closer to a test image than to all training images of the
class. How much closer images are by chance, the training images tell: of them, about one in a hundred would be taken
for a version of a test image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import rows_by_class
from balancegan.metrics.likeness import CLOSER, MOST_COMPARED, closeness, itself_excluded, likeness
from balancegan.metrics.memorisation import FloatArray, copy_threshold, nearest, pixel_features
from balancegan.verdict.material import Material, Pool, SplitPlan

_BY_CHANCE = 0.01  # share of real images that would be taken for versions


@dataclass(frozen=True)
class _Class:
    """The synthetic (n) and real (m) images of one class."""

    mine: NDArray[np.intp]  # rows of the synthetic images
    real: NDArray[np.intp]  # rows of the real ones
    threshold: float
    likeness: FloatArray  # (n, m)
    looked: NDArray[np.intp]  # (k,) of the real ones, compared with all of them
    among_real: FloatArray  # (k, m)


@dataclass(frozen=True)
class CopyGuard:
    """Tells which of the images in `fake` may be used with which test images of `pool`."""

    material: Material
    pool: Pool
    fake: Pool

    @cached_property
    def _classes(self) -> list[_Class]:
        """The classes that have synthetic images; compared once for all plans."""
        found, classes = [], len(self.material.names)
        rows = zip(rows_by_class(self.fake.labels, classes), rows_by_class(self.pool.labels, classes), strict=True)
        for mine, real in rows:
            if not len(mine):
                continue
            images = self.pool.images[real]
            looked = np.linspace(0, len(real) - 1, min(len(real), MOST_COMPARED)).astype(np.intp)
            among_real = itself_excluded(likeness(images[looked], images), looked)
            threshold = copy_threshold(pixel_features(images))
            alike = likeness(self.fake.images[mine], images)
            found.append(_Class(mine, real, threshold, alike, looked, among_real))
        return found

    def allowed(self, plan: SplitPlan) -> NDArray[np.intp]:
        """Rows of the synthetic images that may be used for training under this test plan."""
        allowed = np.ones(len(self.fake), bool)
        if not self.material.may_have_seen:
            return np.flatnonzero(allowed)
        parts = [
            tuple(np.flatnonzero(np.isin(c.real, rows)) for rows in (plan.test, plan.train)) for c in self._classes
        ]
        closer = self._closer(parts)
        for c, (tested, trained) in zip(self._classes, parts, strict=True):
            images = self.pool.images[c.real[tested]]
            copies = pixel_features(np.concatenate([images, images[..., ::-1]]))
            near = nearest(pixel_features(self.fake.images[c.mine]), copies)[0] < c.threshold
            allowed[c.mine] = ~(near | (closeness(c.likeness, tested, trained) < closer))
        return np.flatnonzero(allowed)

    def _closer(self, parts: list[tuple[NDArray[np.intp], ...]]) -> float:
        """The ratio below which an image counts as a version, from the training images of all classes."""
        ratios = [
            closeness(c.among_real[np.isin(c.looked, trained)], tested, trained)
            for c, (tested, trained) in zip(self._classes, parts, strict=True)
        ]
        usual = np.concatenate([*ratios, np.empty(0, np.float32)])
        usual = usual[np.isfinite(usual)]
        return min(CLOSER, float(np.quantile(usual, _BY_CHANCE))) if len(usual) else CLOSER
