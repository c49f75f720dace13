"""Keeps synthetic images that copy test images out of training, where the generator may have seen the test images.

A memorised test image would make useless images look helpful. Near-copies and mirrored ones are found by their
distance; shifted, turned or recoloured ones by being far closer to a test image than to all training images of the
class. For a generator that has learned the class, that is rare: its images are about as close to one as to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import rows_by_class
from balancegan.metrics.likeness import likeness, versions_of
from balancegan.metrics.memorisation import FloatArray, copy_threshold, nearest, pixel_features
from balancegan.verdict.material import Material, Pool, SplitPlan


@dataclass(frozen=True)
class _Class:
    """The synthetic (n) and real (m) images of one class."""

    mine: NDArray[np.intp]  # rows of the synthetic images
    real: NDArray[np.intp]  # rows of the real ones
    threshold: float
    likeness: FloatArray  # (n, m)


@dataclass(frozen=True)
class CopyGuard:
    """Tells which of the images in `fake` may be used with which test images of `pool`."""

    material: Material
    pool: Pool
    fake: Pool

    @cached_property
    def _classes(self) -> list[_Class]:
        """The classes that have synthetic images; compared once for all plans."""
        classes = len(self.material.names)
        found = []
        for mine, real in zip(
            rows_by_class(self.fake.labels, classes), rows_by_class(self.pool.labels, classes), strict=True
        ):
            if len(mine):
                images = self.pool.images[real]
                threshold = copy_threshold(pixel_features(images))
                found.append(_Class(mine, real, threshold, likeness(self.fake.images[mine], images)))
        return found

    def allowed(self, plan: SplitPlan) -> NDArray[np.intp]:
        """Rows of the synthetic images that may be used for training under this test plan."""
        allowed = np.ones(len(self.fake), bool)
        for c in self._classes if self.material.may_have_seen else ():
            tested, trained = (np.flatnonzero(np.isin(c.real, rows)) for rows in (plan.test, plan.train))
            images = self.pool.images[c.real[tested]]
            copies = pixel_features(np.concatenate([images, images[..., ::-1]]))
            near = nearest(pixel_features(self.fake.images[c.mine]), copies)[0] < c.threshold
            allowed[c.mine] = ~(near | versions_of(c.likeness, tested, trained))
        return np.flatnonzero(allowed)
