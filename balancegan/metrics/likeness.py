"""How alike two images are if one may be a changed version of the other: shifted, mirrored, turned, or of other light.

A generator that has memorised its training images may repeat them with such changes. Compared pixel by pixel, these are
no copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics.memorisation import FloatArray, area_averaged

_SIDE, _SMALL = 16, 8  # pixels per side at which images are shifted, and compared
_REACH = 8  # images are shifted by up to this fraction of their side
_FLAT = 0.01  # smaller spreads, as shares of the pixel range, count as this one

CLOSER = 0.85
"""An image may be a version of one image if that is closer than all others by more than this ratio, at most."""
MOST_COMPARED = 500
"""Real images of a class that tell how often such a ratio occurs by chance."""


def likeness(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> FloatArray:
    """Distances (n, m) of images (n, C, H, W) from the nearest version of each of the others (m, C, H, W).

    Both are reduced to 8 pixels per side and standardised, so that brightness and contrast do not count. 0: equal.
    """
    mine = _standardised(area_averaged(area_averaged(images, _SIDE), _SMALL))
    best = np.full((len(images), len(others)), np.inf, np.float32)
    for version in _versions(area_averaged(others, _SIDE)):
        theirs = _standardised(area_averaged(version, _SMALL))
        np.minimum(best, 2.0 - 2.0 * mine @ theirs.T, out=best)
    return np.sqrt(np.maximum(best, 0.0))


def closeness(likeness: FloatArray, among: NDArray[np.intp], beside: NDArray[np.intp]) -> FloatArray:
    """How much closer each image (n,) is to one of those in `among` than to all in `beside`: a ratio of distances.

    Versions of an image in `among` have small ratios; images that are alike because their class is do not. Infinity
    without images to compare with.
    """
    if not len(among) or not len(beside):
        return np.full(len(likeness), np.inf, np.float32)
    others = np.maximum(likeness[:, beside].min(axis=1), np.float32(1e-6))
    return likeness[:, among].min(axis=1) / others


def itself_excluded(likeness: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
    """Set the distance of each image (n,) from itself, column `rows` (n,), to infinity."""
    likeness[np.arange(len(rows)), rows] = np.inf
    return likeness


def _versions(images: FloatArray) -> Iterator[FloatArray]:
    """Yield the images shifted by whole pixels, mirrored and turned by quarters; reflections fill what is missing."""
    side = images.shape[2]
    most = side // _REACH
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="reflect") if most else images
    for down in range(2 * most + 1):
        for along in range(2 * most + 1):
            shifted = padded[:, :, down : down + side, along : along + images.shape[3]]
            for mirrored in (shifted, shifted[..., ::-1]):
                yield from (np.rot90(mirrored, quarters, (2, 3)) for quarters in range(4))


def _standardised(images: FloatArray) -> FloatArray:
    """Vectors (n, d) of mean 0 and length 1."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    least = _FLAT * 255.0 * np.sqrt(flat.shape[1])
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), least)
