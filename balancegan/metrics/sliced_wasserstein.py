"""Compares the detail of two sets of images, size by size: sliced Wasserstein distance on Laplacian pyramid levels.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (2018, arXiv 1710.10196,
section 5). An image is split into levels (Burt & Adelson 1983), each with the structure of one range of sizes; random
7 x 7 patches of a level are projected onto random directions, and the sorted projections of the two sets are compared.
It needs no network, and it finds missing fine detail, which features of a classifier may ignore.

Deviations from the paper: the sets have tens to thousands of images instead of 16,384, so the number of patches is
limited instead of fixed; levels end at 7 pixels instead of 16, and at four of them; both sets are divided by the
standard deviation of the reference instead of each by its own, which would hide that one of them is blurred; and the
filter is a half-band one instead of a binomial one, because it separates sizes where the levels' names say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import blocks

Images = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

PATCH = 7  # px
PATCHES = 128
"""Patches per image and level, at most."""

DESCRIPTORS = 4096
"""Patches per set and level, at most: more would hardly change a distance, because patches of an image are alike."""

DIRECTIONS = 512
MOST_LEVELS = 4
MOST_IMAGES = 1024
"""Maximum number of images per set."""

_HALF_BAND = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32  # passes half the amplitude at 4 pixels per period
_BLOCK = 256  # images split into levels at once
_QUANTISED = np.float32(1 / 12 / 255**2)  # variance of rounding to uint8: below it, energy means nothing


def level_names(height: int, width: int) -> tuple[str, ...]:
    """Names of the levels of images of this size, finest first: the size in pixels of what they show.

    "2-4" is structure that repeats every 2 to 4 pixels, "4-8" and "8-16" follow, and the last ("16+", or less for small
    images) is all that is larger.
    """
    count = 1
    while count < MOST_LEVELS and min(height, width) / 2**count >= PATCH:
        count += 1
    return (*(f"{2**level}-{2 ** (level + 1)}" for level in range(1, count)), f"{2**count}+")


@dataclass(frozen=True)
class Detail:
    """The levels of a set of images, finest first; from `detail`."""

    names: tuple[str, ...]
    patches: tuple[FloatArray, ...]
    """Per level (descriptors, C·7·7)."""

    energy: NDArray[np.float64]
    """(levels, images) mean square of each image's level, in shares of the pixel range squared; of the last level, its
    variance within the image."""

    @property
    def logs(self) -> NDArray[np.float64]:
        """Logarithms of the energies (levels, images), finite for flat images too."""
        return np.log(self.energy + _QUANTISED)


def detail(images: Images, *, seed: int) -> Detail:
    """Split images into levels, and draw patches from each.

    Args:
        images: uint8 (N, C, H, W), at least one.
        seed: of the patches' places.
    """
    names = level_names(*images.shape[2:])
    rng = np.random.default_rng(seed)
    each = max(1, min(PATCHES, DESCRIPTORS // len(images)))
    patches: list[list[FloatArray]] = [[] for _ in names]
    energy: list[list[FloatArray]] = [[] for _ in names]
    for some in blocks(len(images), _BLOCK):
        for level, x in enumerate(_pyramid(images[some].astype(np.float32) / np.float32(255), len(names))):
            patches[level].append(_patches(x, each, rng))
            middle = x.mean(axis=(2, 3), keepdims=True) if level == len(names) - 1 else np.float32(0)
            energy[level].append(np.square(x - middle).mean(axis=(1, 2, 3)))
    joined = tuple(np.concatenate(of_level) for of_level in patches)
    return Detail(names, joined, np.array([np.concatenate(of_level) for of_level in energy], np.float64))


def sliced_wasserstein(reference: Detail, other: Detail, *, seed: int) -> dict[str, float]:
    """Distance between two sets of images per level, in standard deviations of the reference's level.

    Sets of different sizes can be compared, but the distance grows as sets get smaller: compare only values from sets
    of equal size.

    Args:
        reference: from `detail`, of real images.
        other: from `detail`, of images of the same shape.
        seed: of the directions.

    Returns:
        By level name, at least 0.

    Raises:
        ValueError: the images of the two sets differ in shape.
    """
    if [p.shape[1] for p in reference.patches] != [p.shape[1] for p in other.patches]:
        raise ValueError(f"images of different shapes: levels {reference.names} and {other.names}")
    rng = np.random.default_rng(seed)
    found = {}
    for name, ours, theirs in zip(reference.names, reference.patches, other.patches, strict=True):
        directions = rng.normal(size=(DIRECTIONS, ours.shape[1])).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        centre, scale = _normalisation(ours)
        sides = [np.sort(directions @ ((patches - centre) / scale).T, axis=1) for patches in (ours, theirs)]
        found[name] = float(np.abs(np.subtract(*_of_equal_length(*sides))).mean(dtype=np.float64))
    return found


def energy_ratio(reference: Detail, other: Detail) -> dict[str, float]:
    """Energy of the other set over that of the reference per level, as a ratio of geometric means over the images."""
    ratios = np.exp(other.logs.mean(axis=1) - reference.logs.mean(axis=1))
    return dict(zip(reference.names, ratios.tolist(), strict=True))


def _pyramid(x: FloatArray, count: int) -> list[FloatArray]:
    """NCHW -> Laplacian levels, finest first, and what is left."""
    levels: list[FloatArray] = []
    for _ in range(count - 1):
        rows, columns = (_reduce(side) for side in x.shape[2:])
        small: FloatArray = np.matmul(rows @ x, columns.T, dtype=np.float32)
        levels.append(x - np.matmul(_expand(rows) @ small, _expand(columns).T, dtype=np.float32))
        x = small
    return [*levels, x]


def _reduce(side: int) -> FloatArray:
    """Matrix (ceil(side / 2), side): filter with `_HALF_BAND`, mirrored at the borders, and keep every second pixel."""
    matrix = np.zeros(((side + 1) // 2, side), np.float32)
    for row in range(len(matrix)):
        for offset, weight in enumerate(_HALF_BAND, -(len(_HALF_BAND) // 2)):
            at = abs(2 * row + offset)
            matrix[row, at if at < side else 2 * (side - 1) - at] += weight
    return matrix


def _expand(reduce: FloatArray) -> FloatArray:
    """The matrix that interpolates back: the transpose, with rows that sum to 1."""
    matrix = reduce.T
    return matrix / matrix.sum(axis=1, keepdims=True)


def _patches(x: FloatArray, each: int, rng: np.random.Generator) -> FloatArray:
    """`each` random patches of every image, NCHW -> (N·each, C·49)."""
    n, channels, height, width = x.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (PATCH, PATCH), axis=(2, 3))  # NChw77
    rows, columns = (rng.integers(0, side - PATCH + 1, n * each) for side in (height, width))
    return windows[np.repeat(np.arange(n), each), :, rows, columns].reshape(n * each, channels * PATCH * PATCH)


def _normalisation(patches: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each channel, repeated for every pixel of a patch."""
    by_channel = patches.reshape(len(patches), -1, PATCH * PATCH)
    centre, scale = by_channel.mean(axis=(0, 2)), by_channel.std(axis=(0, 2))
    scale = np.maximum(scale, np.sqrt(_QUANTISED))
    return np.repeat(centre, PATCH * PATCH), np.repeat(scale, PATCH * PATCH)


def _of_equal_length(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sorted rows of two lengths, both read at the ranks of the shorter one."""
    size = min(first.shape[1], second.shape[1])
    picked = [(np.arange(size) + 0.5) * side.shape[1] / size for side in (first, second)]
    return first[:, picked[0].astype(int)], second[:, picked[1].astype(int)]
