"""Detects copies by measuring how near an image is to a generator's training images.

Distances are computed between small, area-averaged versions of the images, in units of the pixel range: 0 means
identical, 1 means black against white everywhere, and 0.02 is a root-mean-square difference of about five grey levels
of 256. The small size makes the measure insensitive to grain, by which copies usually differ. Copies that are mirrored,
shifted or recoloured count as different images and are not found.

This module does not import torch, so `augment` can use it to filter while sampling, and the report to measure
afterwards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import blocks

MAX_SIDE = 16
"""Images are averaged down to this many pixels per side before they are compared."""

FALLBACK_THRESHOLD = 0.02
"""Copy threshold for a class with fewer than three distinct images, too few for a distance distribution."""

MEDIAN_FRACTION = 0.1
"""The copy threshold is never lower than this fraction of the median nearest distance."""

MIN_HOLDOUT = 20
"""With fewer held-out images, the base rate of near-copies is estimated from training images instead."""

SIGNIFICANCE = 0.01
"""Level of the one-sided test for any copies."""

MOST_LOOKED_AT = 5000
"""Maximum number of images per class, evenly spaced, for which the nearest other image is searched.

Each is compared with all images of the class. More would hardly change a percentile of the distances, while the cost of
comparing all with all grows quadratically.
"""

_BLOCK = 512  # queries compared at once; bounds the memory for the distance table
_DIMENSION_ROWS = 1000  # enough for a stable estimate, few enough for a full distance table
_CANDIDATES = 4  # neighbours whose distance is recomputed exactly

FloatArray = NDArray[np.float32]


def pixel_features(images: NDArray[np.uint8]) -> FloatArray:
    """Turn images into vectors whose Euclidean distance is the RMS pixel difference as a share of the pixel range.

    Args:
        images: uint8 (N, C, H, W), grey or colour, any size.

    Returns:
        float32 (N, C·h·w) with h, w ≤ `MAX_SIDE`. Flips are not considered: a mirrored copy is distant.
    """
    small = area_averaged(images, MAX_SIDE)
    features = small.reshape(len(images), int(np.prod(small.shape[1:])))
    features *= np.float32(1.0 / (255.0 * np.sqrt(features.shape[1])))
    return features


def area_averaged(images: NDArray[Any], side: int) -> FloatArray:
    """Reduce images (N, C, H, W) to at most `side` pixels per side, averaging over equal areas; float32."""
    n, channels, height, width = images.shape
    rows, cols = _area_matrix(height, side), _area_matrix(width, side)
    small = np.empty((n, channels, len(rows), len(cols)), np.float32)
    for some in blocks(n, _BLOCK):
        small[some] = rows @ images[some].astype(np.float32) @ cols.T
    return small


def nearest(
    query: FloatArray,
    reference: FloatArray,
    *,
    exclude_self: bool = False,
    own: NDArray[np.integer] | None = None,
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Euclidean distance from every query to its nearest reference, and that reference's index.

    Args:
        query: float32 (N, d).
        reference: float32 (M, d).
        exclude_self: query and reference are the same rows in the same order, and a row is not its own neighbour.
        own: (N,) the index of each query among the references, where it is not its own neighbour.

    Returns:
        `(distances (N,), indices (N,))`; infinity and -1 if there is nothing to compare with.

    Raises:
        ValueError: dimensions differ, or `exclude_self` with different numbers of rows.
    """
    if query.ndim != 2 or reference.ndim != 2 or query.shape[1] != reference.shape[1]:
        raise ValueError(f"query {query.shape} and reference {reference.shape} must be (N, d) and (M, d)")
    if exclude_self and len(query) != len(reference):
        raise ValueError("exclude_self needs the same rows on both sides")
    own = np.arange(len(query)) if exclude_self else own
    distances = np.full(len(query), np.inf, np.float32)
    indices = np.full(len(query), -1, np.int64)
    if len(reference) <= int(own is not None):
        return distances, indices
    # Centring on the reference's mean keeps the norms small, so the matrix product below loses few digits.
    centre = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    ref = reference - centre
    ref_norms = np.einsum("md,md->m", ref, ref)
    for some in blocks(len(query), _BLOCK):
        q = query[some]
        rank = (q - centre) @ ref.T  # (B, M)
        rank *= -2.0
        rank += ref_norms  # squared distance minus |q|²
        if own is not None:
            rank[np.arange(len(q)), own[some]] = np.inf
        distances[some], indices[some] = _exact_winner(q, reference, rank)
    return distances, indices


@dataclass(frozen=True, eq=False)
class Spacing:
    """Distances between the images of one class; from `spacing`."""

    distinct: FloatArray
    """(n,) distance of each distinct image to the nearest other one."""

    within: FloatArray
    """(m,) distance of each image, duplicates included, to the nearest other one; 0 for duplicates."""

    def threshold(self, percentile: float = 1.0) -> float:
        """The `copy_threshold` of these images."""
        if len(self.distinct) < 3:
            return FALLBACK_THRESHOLD
        low = float(np.percentile(self.distinct, percentile))
        return max(low, MEDIAN_FRACTION * float(np.median(self.distinct)))


def spacing(reference: FloatArray) -> Spacing:
    """Compare the images of one class with each other.

    Args:
        reference: float32 (M, d) from `pixel_features`. If there are more than `MOST_LOOKED_AT` distinct images, only
            that many are compared with all others.
    """
    first, times = _distinct(reference)
    rows = reference if len(first) == len(reference) else reference[first]
    looked = spread_evenly(len(rows))
    distances, _ = nearest(rows[looked], rows, own=looked)
    within = np.where(times[looked] > 1, np.float32(0), distances)
    return Spacing(distances, np.repeat(within, times[looked]))


def spread_evenly(n: int) -> NDArray[np.int64]:
    """At most `MOST_LOOKED_AT` evenly spaced indices from 0 … n - 1, in order."""
    return np.arange(n) if n <= MOST_LOOKED_AT else np.linspace(0, n - 1, MOST_LOOKED_AT).astype(np.int64)


def copy_threshold(reference: FloatArray, percentile: float = 1.0) -> float:
    """The distance below which an image counts as a copy of one of these images.

    It is a low percentile of the distances from each real image to its nearest real neighbour: a copy is nearer to a
    training image than real images almost ever are to each other. Exact duplicates among the reference images count
    once, because a distance of 0 between them says nothing about copies. A few near-duplicates (one photograph saved
    twice) would pull the percentile towards 0 and let copies of all other images pass, so the threshold is at least
    `MEDIAN_FRACTION` of the median nearest distance.

    Args:
        reference: float32 (M, d) from `pixel_features`, the training images of one class.
        percentile: of the nearest distances, 0 to 100.

    Returns:
        A distance; `FALLBACK_THRESHOLD` if there are fewer than three distinct images.
    """
    return spacing(reference).threshold(percentile)


def intrinsic_dimension(reference: FloatArray, neighbours: int = 10) -> float:
    """Maximum-likelihood estimate of the images' intrinsic dimension from neighbour distances.

    Levina & Bickel (2004), averaged over the images as MacKay & Ghahramani propose: with T_j the distance to the j-th
    of k neighbours, 1/d is the mean of log(T_k / T_j). Exact duplicates count once.

    Args:
        reference: float32 (M, d) from `pixel_features`.
        neighbours: k; capped at M - 1.

    Returns:
        At least 1; infinity if there are too few distinct images (fewer than four).
    """
    distinct = reference[_distinct(reference)[0][:_DIMENSION_ROWS]].astype(np.float64)
    k = min(neighbours, len(distinct) - 1)
    if k < 3:
        return float("inf")
    norms = np.square(distinct).sum(axis=1)
    squared = norms[:, None] + norms[None] - 2 * distinct @ distinct.T
    np.fill_diagonal(squared, np.inf)
    nearest_first = np.sqrt(np.maximum(np.sort(squared, axis=1)[:, :k], 1e-12))  # (M, k)
    inverse = np.log(nearest_first[:, -1:] / nearest_first[:, :-1]).mean()
    return max(1.0, float(1 / inverse)) if inverse > 0 else float("inf")


def crowded_threshold(threshold: float, reference: FloatArray, total: int) -> float:
    """Adjust the copy `threshold` computed from `reference` images for a set of `total` images.

    Nearest distances shrink as a set grows, in d dimensions like count^(-1/d). Without this correction even a perfect
    generator could not turn 20 images into 5,600, because most would be nearer to one another than the threshold.
    """
    if total <= len(reference) or not len(reference):
        return threshold
    return threshold * (len(reference) / total) ** (1 / intrinsic_dimension(reference))


def copy_rate(near_fake: int, n_fake: int, near_real: int, n_real: int) -> float:
    """Share of copies among synthetic images, beyond what occurs among real images by chance.

    Real images are sometimes near to a training image too. If synthetic images are a mixture of copies, which are
    always near, and new images, which are near as often as real ones, then the share of copies is
    (p_fake - p_real) / (1 - p_real). The result is 0 unless p_fake is significantly above p_real (one-sided Fisher's
    exact test at `SIGNIFICANCE`). With n < `MIN_HOLDOUT` real images, p_real is at least 1 / (n + 1), and the test is
    binomial.

    Args:
        near_fake: synthetic images nearer to a training image than the threshold.
        n_fake: synthetic images compared.
        near_real: real images nearer to a training image than the threshold; see `real_near_counts`.
        n_real: real images compared.

    Returns:
        0 to 1; 0 if a side has no images, or if every real image is near a training image.

    Raises:
        ValueError: a count is negative or exceeds its number of images.
    """
    from scipy.stats import binomtest, fisher_exact

    if not (0 <= near_fake <= n_fake and 0 <= near_real <= n_real):
        raise ValueError(f"{near_fake} of {n_fake} and {near_real} of {n_real} are not valid counts")
    if near_fake * n_real <= near_real * n_fake:  # also covers empty sides
        return 0.0
    share = near_real / n_real
    if n_real < MIN_HOLDOUT:
        # The threshold is about the smallest of these few distances; a new image lies below it once in n + 1 times.
        share = max(share, 1 / (n_real + 1))
        p = binomtest(near_fake, n_fake, share, alternative="greater").pvalue
    else:
        table = [[near_fake, n_fake - near_fake], [near_real, n_real - near_real]]
        p = fisher_exact(table, alternative="greater").pvalue
    return (near_fake / n_fake - share) / (1 - share) if p <= SIGNIFICANCE else 0.0


def real_near_counts(train: Spacing, away: FloatArray, threshold: float) -> tuple[int, int, str]:
    """How many real images are nearer to a training image than the threshold, as the base rate without copying.

    Args:
        train: `spacing` of the training images of one class.
        away: (H,) distances of held-out images to their nearest training image; may be empty.
        threshold: from `copy_threshold`.

    Returns:
        `(near, n, of)`. `of` is "holdout" if there are at least `MIN_HOLDOUT` held-out images, and otherwise "train":
        the distinct training images, each compared with the others.
    """
    of, distances = ("holdout", away) if len(away) >= MIN_HOLDOUT else ("train", train.distinct)
    return int((distances < threshold).sum()), len(distances), of


def _exact_winner(q: FloatArray, reference: FloatArray, rank: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Nearest reference per row among the best-ranked few, computed from differences for accuracy."""
    allowed = min(_CANDIDATES, rank.shape[1])
    best = np.argpartition(rank, allowed - 1, axis=1)[:, :allowed]  # (B, k)
    best.sort(axis=1)  # ties go to the lowest index
    squared = ((q[:, None, :] - reference[best]) ** 2).sum(axis=2, dtype=np.float64)  # (B, k)
    squared[np.isinf(np.take_along_axis(rank, best, axis=1))] = np.inf  # excludes the row itself
    column = squared.argmin(axis=1)
    row = np.arange(len(q))
    return np.sqrt(squared[row, column]).astype(np.float32), best[row, column].astype(np.int64)


def _distinct(features: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of each distinct row's first occurrence, in order, and its number of occurrences."""
    where: dict[bytes, int] = {}
    times: dict[int, int] = {}
    for index, row in enumerate(features):
        first = where.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), index)
        times[first] = times.get(first, 0) + 1
    return np.array(list(times), np.int64), np.array(list(times.values()), np.int64)


def _area_matrix(size: int, side: int) -> FloatArray:
    """Matrix (min(size, side), size) that averages a row of pixels over equal areas."""
    target = min(size, side)
    edges = np.linspace(0.0, size, target + 1)
    low = np.maximum(edges[:-1, None], np.arange(size)[None, :])
    high = np.minimum(edges[1:, None], np.arange(1, size + 1)[None, :])
    overlap = np.clip(high - low, 0.0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
