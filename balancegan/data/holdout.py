"""Setting a part of the training images aside before anything is trained on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_CLASS = 5  # classes with fewer images keep them all for training


def choose_holdout(labels: np.ndarray, groups: Sequence[Any], fraction: float, seed: int) -> np.ndarray:
    """Pick images to hold out, stratified by class, never splitting a group.

    From every class with at least five images, about `fraction` of them is held out: at least one, and never all.
    `groups`: one hashable key per image; images with one key (a patient, a slide, equal pixels) stay together, so the
    share is approximate where groups are large, and a class stays whole where every group of it would take another
    class's last training image, or any image of a class with fewer than five. Rare classes choose first.
    Reproducible by `seed`.

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
    quota = {c: max(1, round(fraction * n)) if n >= MIN_CLASS else 0 for c, n in total.items()}
    taken: Counter[int] = Counter()
    keys = list(members)
    order = np.random.default_rng(seed).permutation(len(keys))
    of_class: dict[int, list[Any]] = defaultdict(list)
    for k in order:
        for c in {int(labels[i]) for i in members[keys[k]]}:
            of_class[c].append(keys[k])

    def take(c: int, key: Any, limit: dict[int, float]) -> None:
        """Hold a group out while class c is short and no class gets over its limit or loses its last image."""
        group = members[key]
        if taken[c] >= quota[c] or held[group[0]]:
            return
        gain = Counter(int(labels[i]) for i in group)
        if all(taken[d] + n < total[d] and taken[d] + n <= limit[d] for d, n in gain.items()):
            held[group] = True
            taken.update(gain)

    # A group may overshoot the quota a little; where a class would otherwise give nothing, its smallest group may more.
    some = {c: 2.0 * q + 1 if q else 0.0 for c, q in quota.items()}
    any_number = {c: float("inf") if q else 0.0 for c, q in quota.items()}
    for c in sorted(total, key=lambda c: (total[c], c)):
        for key in of_class[c]:
            take(c, key, some)
        for key in sorted(of_class[c], key=lambda key: len(members[key])):
            if not taken[c]:
                take(c, key, any_number)
    return held
