"""`balancegan.sample_weights`."""

from __future__ import annotations

import os

from balancegan.commands.api.arguments import StrPath


def sample_weights(folder: StrPath, *, share: float | None = None) -> dict[str, float]:
    """Return how often a loader should draw each training image of a balanced folder.

    Args:
        folder: what `augment` wrote, or the folder of its training split.
        share: the part of each class's draws that go to its synthetic images, from 0 to 1; by default all images of a
            class are drawn equally often.

    Returns:
        A weight for each image, by path (`folder` and the image's name in metadata.csv). Every class has the same sum,
        1, however many images it has.

    Raises:
        UsageError: the folder has no metadata.csv, or `share` is not within 0 and 1.
        DatasetError: metadata.csv cannot be read.
    """
    from balancegan.folder.loader_weights import loader_weights

    return loader_weights(os.fspath(folder), share)
