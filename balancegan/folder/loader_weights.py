"""How often a loader should draw each image of a balanced folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from balancegan.core.errors import UsageError
from balancegan.data.own import is_synthetic
from balancegan.data.tables import read_table
from balancegan.folder.metadata import NAME, stays_inside

_TRAINING = ("train", "holdout")


def loader_weights(folder: str, share: float | None = None) -> dict[str, float]:
    """Weights of the training images that a folder's metadata.csv lists, by path: the same sum for every class.

    A path begins with `folder` as it is written, as in the lists of common loaders.

    `share` is the part of a class's sum that its generated images get together; the real and transformed ones get the
    rest. None weighs all images of a class alike, so that each kind gets the share that `augment` chose. A class
    without generated images, or without others, gives all to what it has. Files that are gone are
    left out. Raises `UsageError` if there is no metadata.csv in the folder or in one of its splits.
    """
    if share is not None and not 0 <= share <= 1:
        raise UsageError(
            f"share={share:g} is not within 0 and 1", "it is the part of the generated images in each class"
        )
    images = _images(folder)
    sizes = Counter(images.values())
    return {path: _part(sizes, *kind, share) / sizes[kind] for path, kind in images.items()}


def _part(sizes: Counter[tuple[str, bool]], label: str, generated: bool, share: float | None) -> float:
    """The part of a class's draws that its generated images or the others get."""
    own, others = sizes[label, generated], sizes[label, not generated]
    if share is None or not others:
        return own / (own + others)
    return share if generated else 1 - share


def _images(folder: str) -> dict[str, tuple[str, bool]]:
    """Path -> class and whether the image is generated."""
    root = Path(folder)
    tables = [root / NAME] if (root / NAME).is_file() else sorted(root.glob(f"*/{NAME}"))
    if not tables:
        raise UsageError(f"{folder} has no {NAME}", "give a folder that `balancegan augment` wrote")
    found = {}
    for table in tables:
        for row in read_table(table):
            name = row.get("file_name", "")
            path = table.parent / name
            if row.get("split") in _TRAINING and stays_inside(name) and path.is_file():
                written = f"{folder.rstrip(os.sep)}{os.sep}{path.relative_to(root)}"  # Path drops a leading "./"
                found[written] = (row.get("label", ""), is_synthetic(row) and row.get("kind") != "transformed")
    return found
