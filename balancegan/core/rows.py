"""Rows of arrays: by class, and in blocks that bound the memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rows_by_class(labels: NDArray[np.integer], num_classes: int) -> list[NDArray[np.intp]]:
    """Return the rows of each class 0 … num_classes - 1, ascending; other labels, such as -1, are left out.

    Equivalent to one search per class, in O(N log N + K) instead of O(N·K).
    """
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(num_classes + 1))
    return [order[edges[k] : edges[k + 1]] for k in range(num_classes)]


def first_of_each(labels: NDArray[np.integer], counts: Sequence[int]) -> NDArray[np.intp]:
    """Return the first rows of each class, class by class: as many as `counts` (K,) says, if there are so many."""
    of_class = rows_by_class(labels, len(counts))
    return np.concatenate([np.empty(0, np.intp), *(mine[:n] for mine, n in zip(of_class, counts, strict=True))])


def blocks(n: int, size: int) -> list[slice]:
    """Divide the rows 0 … n - 1 into consecutive slices of at most `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
