"""Mode collapse: a generator whose images of a class become alike, noticed while it trains.

The diversity of some images is their mean distance from each other, between small averaged versions
(`memorisation.pixel_features`), over the same for real training images: about 1 for a generator that varies as the
data do, towards 0 for one that makes the same image from every latent. It is deaf to fine detail, and says nothing of
quality: noise is diverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics.memorisation import pixel_features

COLLAPSED = 0.3
"""Diversity below which the images of a class count as alike, once it was above `HEALTHY`.

On the demo's digits (16 px, `tiny`), SGBGAN's classes stayed between 0.8 and 1.1; BAGAN's "four" and "six", eight times
the same figure on the sample grid, fell to 0.2 to 0.3. Eight images tell it as well as 64.
"""
HEALTHY = 0.5
REAL_IMAGES = 64  # of a class, at most, that real diversity is measured on
_ALIKE = 0.005  # mean distance of real images that hardly differ themselves: about one grey level of 256


def spread(images: NDArray[np.uint8]) -> float:
    """Mean distance between two of the images uint8 (N, C, H, W), in units of the pixel range; NaN for fewer than 2."""
    features = pixel_features(images).astype(np.float64)
    n = len(features)
    if n < 2:
        return float("nan")
    norms = np.square(features).sum(1)
    squares = norms[:, None] + norms[None] - 2 * features @ features.T
    return float(np.sqrt(np.maximum(squares, 0)).sum() / (n * (n - 1)))


class DiversityWatch:
    """Compares generated images with real ones, class by class, and remembers the best that each class ever had.

    Args:
        real: names and real images uint8 (N, C, H, W), one after the other; classes without two that differ are not
            watched.
        best: name -> diversity, the best that was seen before.
        collapsed: classes that had collapsed before.
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
        """Measure generated images; returns the classes that have newly collapsed."""
        before = set(self.collapsed)
        self.shares = {name: spread(fake[name]) / real for name, real in self._real.items() if len(fake[name]) > 1}
        for name, share in self.shares.items():
            self.best[name] = max(share, self.best.get(name, 0.0))
        return [name for name in self.collapsed if name not in before]

    @property
    def collapsed(self) -> list[str]:
        """Classes whose images are alike now and were not always."""
        return [n for n, share in self.shares.items() if share < COLLAPSED and self.best[n] >= HEALTHY]

    @property
    def lowest(self) -> float | None:
        """The least diversity among the classes."""
        return min(self.shares.values(), default=None)


def by_name(names: Sequence[str], rows: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Rows of generated images, equally many for each of the names, by name."""
    rows_each = len(rows) // len(names)
    most = max(1, -(-MOST_TOGETHER // rows_each))  # of every row: all distances are compared
    grouped = (rows[i * rows_each : (i + 1) * rows_each] for i in range(len(names)))
    return {
        name: np.concatenate([row[:most] for row in own])[:MOST_TOGETHER]
        for name, own in zip(names, grouped, strict=True)
    }


MOST_TOGETHER = 256  # images that are looked at under one name
