"""Find out whether file names tell which images belong together, such as `run3_item_101.jpg` and `slide12_4.png`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MOST = 0.9
"""Share of the files that an expression must match, and of the siblings that it must keep together."""
_NUMBERED = re.compile(r"([A-Za-z]+[_-]?)\d+(?=[^\d/]*[_-])")  # a word and a number, and more of the name
_NUMBER_FIRST = r"([^/]+/\d+)[_-]"  # the class and the number that begins the name


def naming_pattern(paths: Sequence[str], groups: Sequence[Sequence[int]]) -> str | None:
    """Return a regular expression for `--group-by` that keeps known groups of siblings together, or None.

    `groups` holds positions in `paths`. An expression must capture something in nearly all paths, the same for nearly
    all images of a group, and must not put half of the images into one group.
    """
    if not groups:
        return None
    words = Counter(word for path in paths for word in set(_NUMBERED.findall(path.rpartition("/")[2])))
    common = [word for word, n in words.most_common(5) if n >= MOST * len(paths)]
    for pattern in (*(f"{re.escape(word)}(\\d+)" for word in common), _NUMBER_FIRST):
        matches = [re.search(pattern, path) for path in paths]
        keys = [m and m[1] for m in matches]
        sizes = Counter(key for key in keys if key is not None)
        if sizes.total() < MOST * len(paths) or max(sizes.values()) > len(paths) / 2:
            continue
        together = sum(keys[i] == keys[group[0]] for group in groups for i in group[1:])
        if together >= MOST * sum(len(group) - 1 for group in groups):
            return pattern
    return None
