"""Groups of images that must stay on one side of a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from balancegan.core.errors import DatasetError


def group_keys(paths: Sequence[str], pattern: str, digests: Sequence[bytes]) -> list[Any]:
    """One key per image: what `pattern` captures in its path (first group, or the match), joined by equal pixels.

    Images with identical pixels share a key whatever their names, because a copy on the other side would be a leak.
    Raises `DatasetError` when the pattern matches no path at all; single images it does not match stand alone.
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
            f"it is searched in paths such as {paths[0]!r}" if paths else "",
        )
    return [root(i) for i in range(len(paths))]
