"""Groups of images that must stay on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from balancegan.core.errors import DatasetError


def group_keys(paths: Sequence[str], pattern: str, digests: Sequence[bytes]) -> list[Any]:
    """Return one key per image, equal for images that must stay together.

    Images share a key if `pattern` captures the same text in their paths (its first group, or the whole match), or if
    their pixels are identical, because a copy on the other side of a split would be a leak. The pattern does not group
    images that it does not match. Raises `DatasetError` if it matches no path at all.
    """
    parent = list(range(len(paths)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Any, int] = {}
    matched = 0
    for i, path in enumerate(paths):
        keys: list[Any] = [("pixels", digests[i])]
        if pattern and (match := re.search(pattern, path)):
            matched += 1
            keys.append(("name", match[1] if match.re.groups else match[0]))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    if pattern and not matched:
        raise DatasetError(
            f"--group-by {pattern!r} matches none of the {len(paths)} image paths",
            f"the pattern is searched for in paths such as {paths[0]!r}" if paths else "",
        )
    return [root(i) for i in range(len(paths))]
