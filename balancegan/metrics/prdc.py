"""Computes precision, recall, density and coverage of synthetic features against real ones.

Each set is represented by balls: one around each image, with the distance to its k-th nearest neighbour within the set
as the radius. The four measures count which balls contain which images.

Precision and recall are those of Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
Models" (NeurIPS 2019), https://arxiv.org/abs/1904.06991, Eq. 1 and 2. Density and coverage are those of Naeem et al.,
"Reliable Fidelity and Diversity Metrics for Generative Models" (ICML 2020), https://arxiv.org/abs/2002.09797, Eq. 3
and 4. They are more robust to outliers: a real outlier has a large ball that inflates precision, while density counts
how many balls contain an image; a synthetic outlier inflates recall, while coverage uses only the real images' balls.

Balls are open: an image exactly on the boundary is outside (`<`), as in the reference implementation of density and
coverage (`prdc`), while Kynkäänniemi's formula uses `≤`. This matters only for repeated images: k + 1 identical images
have a ball of radius 0, which contains nothing, not even another copy of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.rows import blocks

Features = NDArray[np.floating]
Rows = NDArray[np.float64]

NEIGHBOURS = 5
"""k as used by Naeem et al.; Kynkäänniemi et al. use 3."""

_BLOCK = 1024  # rows per side whose distances are in memory at once: 8 MiB per matrix
_SPARE = 4  # extra neighbours beyond k computed exactly, in case rounding changed the order
_PAIRS = 1 << 21  # maximum size of an array of differences: 16 MiB


@dataclass(frozen=True)
class PRDC:
    """The four measures and their k; all except density lie between 0 and 1."""

    precision: float
    """Share of synthetic images inside a real image's ball: do they look real?"""
    recall: float
    """Share of real images inside a synthetic image's ball: is all real variety generated?"""
    density: float
    """Mean number of real balls that contain a synthetic image, divided by k; about 1 for equal sets, may be larger."""
    coverage: float
    """Share of real images whose ball contains a synthetic image."""
    k: int
    """The neighbour whose distance is the ball's radius."""


@dataclass(frozen=True, eq=False)
class _Set:
    """The distinct rows of a set with their multiplicities. Equal rows have equal balls, so each is processed once."""

    rows: Features  # (n, d) unchanged
    centred: Rows  # (n, d) minus a point common to both sets, so that products lose fewer digits
    norms: NDArray[np.float64]  # (n,) squared norms of the centred rows
    counts: NDArray[np.int64]  # (n,)


def prdc(*, feats_real: Features, feats_fake: Features, k: int = NEIGHBOURS) -> PRDC:
    """Precision, recall, density and coverage, with distances in float64.

    Distances whose rounding error could change a result are recomputed exactly: equal rows have distance exactly 0, and
    neither the block size nor the order of rows affects the result. Time grows with (N + M)²·d, memory with
    (N + M)·d.

    Args:
        feats_real: (N, d) features of real images.
        feats_fake: (M, d) features of synthetic images.
        k: the neighbour whose distance is the radius, not counting the image itself. It is reduced to min(N, M) - 1
            if there are too few images; `PRDC.k` gives the value used. Only values with the same k are comparable.

    Raises:
        ValueError: fewer than two rows on a side, different dimensions, k below 1, or non-finite values.
    """
    if feats_real.ndim != 2 or feats_fake.ndim != 2 or feats_real.shape[1] != feats_fake.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), got {feats_real.shape} and {feats_fake.shape}")
    n, m = len(feats_real), len(feats_fake)
    if min(n, m) < 2:
        raise ValueError("a nearest neighbour needs at least two images on each side")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not (np.isfinite(feats_real).all() and np.isfinite(feats_fake).all()):
        raise ValueError("features are not finite")
    k = min(k, n - 1, m - 1)
    centre = feats_real.mean(axis=0, dtype=np.float64)
    real, fake = _distinct(feats_real, centre), _distinct(feats_fake, centre)
    radii_real, radii_fake = _radii(real, k), _radii(fake, k)  # squared
    # How many real balls contain each synthetic image, and so on; integers, so the order of summation does not matter.
    balls_around_fake = np.zeros(len(fake.rows), np.int64)
    fakes_in_ball = np.zeros(len(real.rows), np.int64)
    balls_around_real = np.zeros(len(real.rows), np.int64)
    for i in blocks(len(real.rows), _BLOCK):
        for j in blocks(len(fake.rows), _BLOCK):
            squared, error = _products(real, i, fake, j)
            in_real = _below(squared, error, radii_real[i, None], real.rows[i], fake.rows[j])
            in_fake = _below(squared, error, radii_fake[None, j], real.rows[i], fake.rows[j])
            balls_around_fake[j] += real.counts[i] @ in_real
            fakes_in_ball[i] += in_real @ fake.counts[j]
            balls_around_real[i] += in_fake @ fake.counts[j]
    return PRDC(
        precision=int(fake.counts[balls_around_fake > 0].sum()) / m,
        recall=int(real.counts[balls_around_real > 0].sum()) / n,
        density=int(fake.counts @ balls_around_fake) / (k * m),
        coverage=int(real.counts[fakes_in_ball > 0].sum()) / n,
        k=k,
    )


def _distinct(features: Features, centre: Rows) -> _Set:
    where: dict[bytes, int] = {}  # the first row with these bytes
    times: dict[int, int] = {}
    for index, row in enumerate(features):
        first = where.setdefault((row + 0.0).tobytes(), index)  # + 0.0: -0 equals 0
        times[first] = times.get(first, 0) + 1
    rows = features[list(times)]
    centred = rows.astype(np.float64) - centre
    return _Set(rows, centred, np.einsum("nd,nd->n", centred, centred), np.array(list(times.values()), np.int64))


def _radii(rows: _Set, k: int) -> NDArray[np.float64]:
    """Squared distance of each distinct row to its k-th neighbour; 0 for a row with k duplicates."""
    n = len(rows.rows)
    kept = min(n, k + 1 + _SPARE)
    radii = np.empty(n)
    for i in blocks(n, _BLOCK):
        squared = np.empty((i.stop - i.start, 0))
        columns = np.empty((i.stop - i.start, 0), np.int64)
        for j in blocks(n, _BLOCK):  # keep only the nearest after each block
            near, _ = _products(rows, i, rows, j)
            squared = np.concatenate([squared, near], axis=1)
            columns = np.concatenate([columns, np.broadcast_to(np.arange(j.start, j.stop), near.shape)], axis=1)
            if squared.shape[1] > kept:
                best = np.argpartition(squared, kept - 1, axis=1)[:, :kept]
                squared, columns = (np.take_along_axis(a, best, axis=1) for a in (squared, columns))
        here = np.repeat(np.arange(i.start, i.stop), columns.shape[1])
        exact = _exact(rows.rows, here, rows.rows, columns.ravel()).reshape(columns.shape)
        order = np.argsort(exact, axis=1)
        # The row itself comes first, at distance 0, so the k-th neighbour is the (k + 1)-th image.
        images = rows.counts[np.take_along_axis(columns, order, axis=1)].cumsum(axis=1)
        kth = (images > k).argmax(axis=1)[:, None]
        radii[i] = np.take_along_axis(exact, np.take_along_axis(order, kth, axis=1), axis=1)[:, 0]
    return radii


def _products(a: _Set, i: slice, b: _Set, j: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distances by fast matrix products, and a bound on the error of each."""
    norms = a.norms[i, None] + b.norms[None, j]
    squared = norms - 2.0 * (a.centred[i] @ b.centred[j].T)
    # A product of d terms has an error of at most d·ε|x||y|; subtracting the centre adds ε per coordinate.
    return squared, (4.0 * np.finfo(np.float64).eps * (a.rows.shape[1] + 8)) * norms


def _below(
    squared: NDArray[np.float64], error: NDArray[np.float64], limit: NDArray[np.float64], a: Features, b: Features
) -> NDArray[np.bool_]:
    """`squared < limit`, with pairs too close to call recomputed from the rows."""
    below = squared < limit
    left, right = np.nonzero(np.abs(squared - limit) <= error)
    if len(left):
        below[left, right] = _exact(a, left, b, right) < np.broadcast_to(limit, squared.shape)[left, right]
    return below


def _exact(a: Features, left: NDArray[np.intp], b: Features, right: NDArray[np.intp]) -> NDArray[np.float64]:
    """Squared distances of the pairs (a[left], b[right]) from differences; deterministic for each pair."""
    result = np.empty(len(left))
    step = max(1, _PAIRS // max(1, a.shape[1]))
    for some in blocks(len(left), step):
        difference = a[left[some]].astype(np.float64) - b[right[some]]
        result[some] = np.square(difference, out=difference).sum(axis=1)
    return result
