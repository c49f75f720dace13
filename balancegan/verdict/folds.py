"""How the search for the share divides the data: folds of the training images, and groups of classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from balancegan.core.rows import rows_by_class
from balancegan.verdict.material import Labels, SplitPlan

FOLDS = 3
MOST_TESTED = 300  # real images per class and fold
SIMILAR = 4.0  # ratio of the sizes of classes that share a choice
MIN_GROUP = 100  # training images in a group of classes with a choice of its own


def class_groups(real: Sequence[int], fill: Sequence[int]) -> list[tuple[int, ...]]:
    """Group the classes to fill by similar size, largest first; groups with too few images join a neighbour."""
    order = sorted((k for k, n in enumerate(fill) if n), key=lambda k: -real[k])
    groups: list[list[int]] = []
    for k in order:
        if groups and real[groups[-1][0]] <= SIMILAR * real[k]:
            groups[-1].append(k)
        else:
            groups.append([k])
    merged: list[list[int]] = []
    for group in groups:
        if merged and min(sum(real[k] for k in of) for of in (group, merged[-1])) < MIN_GROUP:
            merged[-1] += group
        else:
            merged.append(group)
    return [tuple(group) for group in merged] if len(merged) > 1 else []


def folds(labels: Labels, groups: Labels | None, repeat: int) -> list[SplitPlan]:
    """Cross-validation's folds, stratified by class, with groups kept whole and at most `MOST_TESTED` images a class.

    A class that a fold does not train on is not tested there.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    together = np.arange(len(labels)) if groups is None else groups
    rng = np.random.default_rng([repeat, 3])
    plans = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        splits = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat).split(labels, labels, together))
    for kept, aside in splits:
        of_class = rows_by_class(labels[aside], int(labels.max()) + 1)
        some = [rng.permutation(aside[mine])[:MOST_TESTED] for mine in of_class]
        tested = np.sort(np.concatenate(some))
        plans.append(SplitPlan(kept, tested[np.isin(labels[tested], labels[kept])]))
    return plans
