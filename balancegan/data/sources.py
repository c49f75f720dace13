"""Draw the real images that generated images start from, by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from balancegan.data.training_set import TrainingSet


class SourceImages:
    """Draws training images uniformly from chosen classes; held-out images are never drawn.

    `images`: (N, C, S, S) uint8, array or memory map; `rows`: the training rows; `labels`: their classes (len(rows),).
    """

    def __init__(self, images: Any, rows: np.ndarray, labels: np.ndarray) -> None:
        self._images, self._rows, self._labels = images, np.asarray(rows), np.asarray(labels)
        self._members: dict[tuple[int, ...], np.ndarray] = {}  # classes -> their rows

    @classmethod
    def of(cls, data: TrainingSet) -> SourceImages:
        """Draw from the training part of a data set."""
        return cls(data.store.images, data.train_rows, data.labels[data.train_rows])

    def rows(self, classes: Sequence[int], seeds: Iterable[int]) -> np.ndarray:
        """Return one training row of the classes per seed (n,); the same seed always gives the same row."""
        key = tuple(classes)
        if key not in self._members:
            self._members[key] = self._rows[np.isin(self._labels, key)]
        members = self._members[key]
        return members[[np.random.default_rng((int(seed), len(members))).integers(len(members)) for seed in seeds]]

    def draw(self, classes: Sequence[int], seeds: Iterable[int]) -> np.ndarray:
        """Return the images of `rows`: uint8 (n, C, S, S)."""
        return np.stack([self._images[row] for row in self.rows(classes, seeds)])
