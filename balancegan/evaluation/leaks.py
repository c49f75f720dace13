"""Asks for a report whether the test images have siblings among the training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.core.rows import blocks
from balancegan.data.training_set import TrainingSet
from balancegan.metrics.leak_probe import leak_probe, steady_features
from balancegan.verdict.material import Pool

_BLOCK = 4096  # images copied out of the store at once


def run_leaks(data: TrainingSet) -> Json:
    """Probe a run's split: its test images are those that no network saw."""
    tested, trained = data.unseen_rows, data.train_rows
    return leak_probe(
        feats_test=_features(data.store.images, tested),
        feats_train=_features(data.store.images, trained),
        labels_test=data.labels[tested],
        labels_train=data.labels[trained],
        groups=data.groups[trained],
        groups_test=data.groups[tested],
        names=data.class_names,
    )


def folder_leaks(
    train: Pool,
    test: Pool,
    names: Sequence[str],
    groups: NDArray[np.int64] | None,
    groups_test: NDArray[np.int64] | None,
) -> Json:
    """Probe a folder's own split; without a test split, the document says that nothing was measured.

    `groups` (N,) and `groups_test` (n,) are None if siblings were not searched for.
    """
    feats = [_features(pool.images, np.arange(len(pool))) for pool in (test, train)]
    return leak_probe(
        feats_test=feats[0],
        feats_train=feats[1],
        labels_test=test.labels,
        labels_train=train.labels,
        groups=groups,
        groups_test=groups_test,
        names=names,
    )


def _features(images: NDArray[np.uint8], rows: NDArray[Any]) -> NDArray[np.float32]:
    found = [steady_features(images[rows[some]]) for some in blocks(len(rows), _BLOCK)]
    return np.concatenate([steady_features(images[:0]), *found])
