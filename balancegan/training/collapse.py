"""Detection of mode collapse during training: the images of a class become alike.

Diversity is the mean pairwise distance of generated images, between small averaged versions
(`memorisation.pixel_features`), divided by that of real training images: about 1 for a generator that varies as much as
the data, and near 0 for one that makes the same image from every latent. It ignores fine detail and does not measure
quality: noise is diverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics.memorisation import pixel_features

COLLAPSED = 0.3
"""A class counts as collapsed if its diversity falls below this after having reached `HEALTHY`.

On the demo's digits (16 px, `tiny`), SGBGAN's classes stayed between 0.8 and 1.1; BAGAN's "four" and "six", which
showed the same figure eight times on the sample grid, fell to 0.2 to 0.3. Eight images are as reliable as 64.
"""
HEALTHY = 0.5
REAL_IMAGES = 64  # most images per class for measuring real diversity
_ALIKE = 0.005  # real images below this mean distance hardly differ: about one grey level of 256


def spread(images: NDArray[np.uint8]) -> float:
    """Return the mean pairwise distance of images uint8 (N, C, H, W) in units of the pixel range; NaN if N < 2."""
    features = pixel_features(images).astype(np.float64)
    n = len(features)
    if n < 2:
        return float("nan")
    norms = np.square(features).sum(1)
    squares = norms[:, None] + norms[None] - 2 * features @ features.T
    return float(np.sqrt(np.maximum(squares, 0)).sum() / (n * (n - 1)))


class DiversityWatch:
    """Compares generated images with real ones class by class, and records the best diversity of each class.

    Args:
        real: pairs of a name and real images uint8 (N, C, H, W); classes without two different images are not watched.
        best: name -> best diversity so far.
        collapsed: classes that have already collapsed.
    """

    def __init__(
        self,
        real: Iterable[tuple[str, NDArray[np.uint8]]],
        best: Mapping[str, float] | None = None,
        collapsed: Iterable[str] = (),
    ) -> None:
        spreads = ((name, spread(images)) for name, images in real)
        self._real = {name: value for name, value in spreads if value > _ALIKE}
        self.best = dict(best or {})
        self.shares = dict.fromkeys((name for name in collapsed if name in self.best), 0.0)

    def look(self, fake: Mapping[str, NDArray[np.uint8]]) -> list[str]:
        """Measure generated images and return the newly collapsed classes."""
        before = set(self.collapsed)
        self.shares = {name: spread(fake[name]) / real for name, real in self._real.items() if len(fake[name]) > 1}
        for name, share in self.shares.items():
            self.best[name] = max(share, self.best.get(name, 0.0))
        return [name for name in self.collapsed if name not in before]

    @property
    def collapsed(self) -> list[str]:
        """Classes whose images are alike now but were diverse before."""
        return [n for n, share in self.shares.items() if share < COLLAPSED and self.best[n] >= HEALTHY]

    @property
    def lowest(self) -> float | None:
        """The lowest diversity of all classes; None before the first measurement."""
        return min(self.shares.values(), default=None)


def by_name(names: Sequence[str], rows: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Group the rows of a sample grid by name; each name has the same number of rows."""
    rows_each = len(rows) // len(names)
    most = max(1, -(-MOST_TOGETHER // rows_each))  # per row: the cost is quadratic in the images
    grouped = (rows[i * rows_each : (i + 1) * rows_each] for i in range(len(names)))
    return {
        name: np.concatenate([row[:most] for row in own])[:MOST_TOGETHER]
        for name, own in zip(names, grouped, strict=True)
    }


MOST_TOGETHER = 256  # most images measured per name
