"""Hold out part of the training images before anything is trained on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_CLASS = 5  # classes with fewer images keep them all for training


def choose_holdout(
    labels: np.ndarray, groups: Sequence[Any], fraction: float, seed: int, least: int = MIN_CLASS
) -> np.ndarray:
    """Choose images to hold out, stratified by class, without splitting groups.

    Every class with at least `least` images gives up about `fraction` of them: at least one, and never all.
    `groups`: one hashable key per image; images with the same key (a patient, a slide, equal pixels) stay together, so
    large groups make the share approximate. A class keeps all its images if each of its groups contains another class's
    last training image, or an image of a class with fewer than `least`. Rare classes choose first. Reproducible by
    `seed`.

    Returns a boolean mask (N,), true where held out.
    """
    labels = np.asarray(labels)
    held = np.zeros(len(labels), bool)
    if fraction <= 0:
        return held
    members: dict[Any, list[int]] = defaultdict(list)
    for i, key in enumerate(groups):
        members[key].append(i)
    total = Counter(labels.tolist())
    quota = {c: max(1, round(fraction * n)) if n >= least else 0 for c, n in total.items()}
    taken: Counter[int] = Counter()
    keys = list(members)
    order = np.random.default_rng(seed).permutation(len(keys))
    of_class: dict[int, list[Any]] = defaultdict(list)
    for k in order:
        for c in {int(labels[i]) for i in members[keys[k]]}:
            of_class[c].append(keys[k])

    def take(c: int, key: Any, limit: dict[int, float]) -> None:
        """Hold out a group if class c is below its quota and no class exceeds its limit or loses its last image."""
        group = members[key]
        if taken[c] >= quota[c] or held[group[0]]:
            return
        gain = Counter(int(labels[i]) for i in group)
        if all(taken[d] + n < total[d] and taken[d] + n <= limit[d] for d, n in gain.items()):
            held[group] = True
            taken.update(gain)

    # A group may exceed the quota a little; if a class would otherwise give up no image, its smallest group may exceed
    # it by any amount.
    some = {c: 2.0 * q + 1 if q else 0.0 for c, q in quota.items()}
    any_number = {c: float("inf") if q else 0.0 for c, q in quota.items()}
    for c in sorted(total, key=lambda c: (total[c], c)):
        for key in of_class[c]:
            take(c, key, some)
        for key in sorted(of_class[c], key=lambda key: len(members[key])):
            if not taken[c]:
                take(c, key, any_number)
    return held
