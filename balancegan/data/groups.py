"""Groups of images that must stay on one side of every split."""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.files import write_atomic
from balancegan.core.options import AUTO, NONE, is_table
from balancegan.core.progress import Progress, silent
from balancegan.core.text import printable
from balancegan.data.scan import ImageFolder
from balancegan.data.siblings import sibling_groups
from balancegan.data.store import Store
from balancegan.data.tables import read_table

CACHED = "groups-2.npy"
"""File in a store's folder with the groups of siblings; raise the number when the search finds other ones."""


def image_groups(
    folder: ImageFolder,
    store: Store,
    rule: str,
    *,
    among: NDArray[np.bool_] | None = None,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Number the groups 0, 1, … of the store's images, (N,).

    Images with identical pixels always share a group, because a copy on the other side of a split would be a leak.
    `rule` says which others do: `auto` those of the table of labels, if it has groups, or else siblings, found by
    content and by name; `none` none; a regular expression those
    in whose paths it captures the same text (its first group, or the whole match); the path of a CSV file (file_name,
    group) those to which it gives the same group. Siblings are searched for `among` these images (N,), by default among
    all; the store's folder keeps what a search among all found. Raises `DatasetError` if an expression or a file
    applies to no image, `UsageError` if the file does not exist.
    """
    paths, keys = [f.rel for f in store.files], list[Sequence[Hashable | None]]()
    if rule == AUTO and folder.groups:
        keys = [[folder.groups.get(path) for path in paths]]
    elif rule == AUTO:
        keys = [_siblings(store, paths, progress) if among is None else _search(store, paths, among, progress)]
    elif is_table(rule):
        keys = [_table_keys(folder, paths, rule)]
    elif rule != NONE:
        keys = [_pattern_keys(paths, rule)]
    return joined(store.pixel_digests(np.arange(len(store))), *keys)


def joined(*keys: Sequence[Hashable | None]) -> NDArray[np.int64]:
    """Number the groups (N,) of images that share a key in any of the sequences (N,), also by way of other images.

    None is shared with no image. Groups are numbered in the order of their first images.
    """
    parent = list(range(len(keys[0])))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for of_image in keys:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(of_image):
            if key is not None:
                a, b = root(i), root(first.setdefault(key, i))
                parent[max(a, b)] = min(a, b)
    return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1].astype(np.int64).reshape(-1)


def group_summary(groups: NDArray[np.int64]) -> dict[str, int]:
    """Return the number of groups with more than one image, the size of the largest, and the images in them."""
    sizes = np.bincount(groups)
    several = sizes[sizes > 1]
    return {"number": len(several), "largest": int(several.max(initial=0)), "images": int(several.sum())}


def of_one_group(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> list[int]:
    """Return the classes with more than one image whose images all belong to one group; both arguments are (N,)."""
    classes, images = np.unique(labels, return_counts=True)
    with_groups = np.unique(np.stack([labels, groups]), axis=1)[0]
    return [int(c) for c, n in zip(classes, images, strict=True) if n > 1 and (with_groups == c).sum() == 1]


def _search(store: Store, paths: list[str], among: NDArray[np.bool_], progress: Progress) -> list[int | None]:
    """Search for siblings among some images; None for the others."""
    rows = np.flatnonzero(among)
    found = sibling_groups(store.thumbs[rows], store.labels[rows], [paths[i] for i in rows], progress=progress)
    keys: list[int | None] = [None] * len(paths)
    for row, group in zip(rows.tolist(), found.tolist(), strict=True):
        keys[row] = group
    return keys


def _siblings(store: Store, paths: list[str], progress: Progress) -> list[int | None]:
    """Search for siblings among all images, or read what an earlier search found."""
    kept = store.path / CACHED
    with contextlib.suppress(OSError, ValueError, EOFError):
        found: NDArray[np.int64] = np.load(kept, allow_pickle=False)
        if found.shape == (len(store),) and found.dtype == np.int64:
            return list(found.tolist())
    keys = _search(store, paths, np.ones(len(store), bool), progress)
    buffer = io.BytesIO()
    np.save(buffer, np.array(keys, np.int64))
    with contextlib.suppress(OSError):  # the next command searches again
        write_atomic(kept, buffer.getvalue())
    return keys


def _pattern_keys(paths: Sequence[str], pattern: str) -> list[str | None]:
    matches = [re.search(pattern, path) for path in paths]
    if paths and not any(matches):
        raise DatasetError(
            f"--group-by {pattern!r} matches none of the {len(paths)} image paths",
            f"the pattern is searched for in paths such as {paths[0]!r}",
        )
    return [m and (m[1] if m.re.groups else m[0]) for m in matches]


def _table_keys(folder: ImageFolder, paths: Sequence[str], rule: str) -> list[str | None]:
    """Look up every image's group in a table, by its path below the root, below its split's folder or from the root."""
    table = next((p for p in (Path(rule), folder.root / Path(rule).name) if p.is_file()), None)
    if table is None:
        raise UsageError(f"--group-by {printable(rule)}: there is no such file", "check the path")
    groups, columns = dict[str, str](), set[str]()
    for row in read_table(table):
        columns |= row.keys()
        if group := row.get("group", "").strip():
            groups[posixpath.normpath(row.get("file_name", ""))] = group
    shown = printable(str(table))
    if not columns >= {"file_name", "group"}:
        raise DatasetError(f"{shown} lacks the column file_name or group", "its first line must name both columns")
    splits, above = folder.split_dirs.values(), folder.root.resolve().name
    found = [
        groups.get(path) or groups.get(_without_split(path, splits)) or groups.get(f"{above}/{path}") for path in paths
    ]
    if paths and not any(found):
        raise DatasetError(
            f"{shown} names none of the {len(paths):,} images", f"write file names such as {printable(paths[0])!r}"
        )
    return found


def _without_split(path: str, split_dirs: Iterable[str]) -> str:
    first, _, rest = path.partition("/")
    return rest if first in split_dirs else path
