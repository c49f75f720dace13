"""How alike images are, compared with how alike different objects of their class are.

Thumbnails become descriptors: brightness, colour and edges on small grids, each without the mean of its class and
whitened, so that what all images of a class share counts nothing. Distances become counts: how many images of other
objects are expected within that distance of an image. The count is extrapolated from the image's neighbours number
40 to 160, whose number grows like a power of the distance (as in the estimate of intrinsic dimension by Levina and
Bickel, 2004), so that one threshold serves data sets whose images are more or less alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SIDE = 32
NEAR, FAR = 40, 160
"""Ranks of the neighbours that show how many images of other objects lie how near; siblings are fewer than NEAR."""
BACKGROUND = 100
"""Images to compare with; images of other classes join those of a smaller class."""
CANDIDATES = 256
KEPT = 1.0
"""Pairs are kept if fewer than ten images of other objects are expected to be as near."""
_BLOCK = 256
_EDGES = 8


class View(NamedTuple):
    """A window of an image: its side and centre in sides of the image, and whether it is mirrored."""

    zoom: float = 1.0
    down: float = 0.0
    right: float = 0.0
    mirror: bool = False


PLAIN = View()
SHIFTED = [PLAIN, *(View(1.0, *shift) for shift in ((0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03)))]
ALIGNED = [
    View(zoom, down * zoom, right * zoom, mirror)
    for mirror, zoom in product((False, True), (1.0, 0.94, 0.88))
    for down, right in product((-0.06, -0.03, 0.0, 0.03, 0.06), repeat=2)
]


# Descriptors ----------------------------------------------------------------------------------------------------------


def planes(thumbs: NDArray[np.uint8]) -> Floats:
    """(N, 32, 32, 3) -> (N, 3, 32, 32): logarithms of brightness, and of red and blue over green.

    A longer exposure adds a constant to the first and leaves the others.
    """
    levels = thumbs.astype(np.float32)
    logs = np.log(levels + 8)
    grey = np.log(levels @ np.array([0.299, 0.587, 0.114], np.float32) + 8)
    return np.stack([grey, logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., 1]], axis=1)


def edges(grey: Floats) -> Floats:
    """(N, 32, 32) -> (N, 8, 32, 32): strength of edges in eight directions."""
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, right) + 1e-6
    angles = np.arange(_EDGES, dtype=np.float32) * (2 * np.pi / _EDGES)
    turns = [np.maximum(right * np.cos(a) + down * np.sin(a), 0) / strength for a in angles]
    return np.stack([strength * turn**4 for turn in turns], axis=1).astype(np.float32)


def _sampler(out: int, blur: float, zoom: float = 1.0, shift: float = 0.0, mirror: bool = False) -> Floats:
    """(out, 32) weights that take `out` blurred samples (in pixels of the thumbnail) along one side of a view."""
    at = (SIDE - 1) / 2 + shift * SIDE + (np.arange(out) - (out - 1) / 2) * zoom * SIDE / out
    at = at[::-1] if mirror else at
    places = np.arange(-SIDE, 2 * SIDE)
    weights = np.exp(-0.5 * ((places - at[:, None]) / blur) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    folded = np.zeros((out, SIDE))
    np.add.at(folded.T, np.clip(places, 0, SIDE - 1), weights.T)  # what lies outside looks like the border
    return folded.astype(np.float32)


def _sample(image: Floats, out: int, blur: float, view: View) -> Floats:
    rows = _sampler(out, blur, view.zoom, view.down)
    columns = _sampler(out, blur, view.zoom, view.right, view.mirror)
    return np.asarray(rows @ image @ columns.T)


def _flat(x: Floats) -> Floats:
    return x.reshape(len(x), -1)


def brightness(x: Floats, view: View = PLAIN) -> Floats:
    """(N, 3, 32, 32) -> (N, 256): logarithms of brightness at 16 x 16."""
    return _flat(_sample(x[:, 0], 16, 1.0, view))


def picture(x: Floats, view: View = PLAIN) -> Floats:
    """(N, 3, 32, 32) -> (N, 384): brightness at 16 x 16 without its mean and spread, colour at 8 x 8."""
    grey = brightness(x, view)
    grey = grey - grey.mean(axis=1, keepdims=True)
    grey /= grey.std(axis=1, keepdims=True) + 0.05
    return np.concatenate([grey, 3 * _flat(_sample(x[:, 1:], 8, 1.5, view))], axis=1)


def outline(x: Floats, view: View = PLAIN) -> Floats:
    """(N, 3, 32, 32) -> (N, 512): edges in eight directions at 8 x 8, without their strength as a whole."""
    found = edges(x[:, 0])
    if view.mirror:
        found = found[:, (_EDGES // 2 - np.arange(_EDGES)) % _EDGES]
    found = _flat(_sample(found, 8, 2.0, view))
    size = np.sqrt(np.mean(np.square(found), axis=1, keepdims=True))
    return np.asarray(found / (size + 0.05))


def unit(x: Floats) -> Floats:
    """Give the rows of (N, D) length 1; rows of zeros stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6))


class Projection(NamedTuple):
    """Takes the mean of its class from a feature and projects it."""

    means: Floats  # (classes, D)
    matrix: Floats  # (D, dims)

    def __call__(self, features: Floats, labels: Ints) -> Floats:
        """Project features (N, D) of images of these classes: (N, dims)."""
        return np.asarray((features - self.means[labels]) @ self.matrix)


def class_means(features: Floats, labels: Ints) -> Floats:
    """Means (classes, D) of features (N, D); that of a class with few images lies near that of all.

    Otherwise a class of one object would be lost.
    """
    overall = features.mean(axis=0)
    means = np.tile(overall, (int(labels.max()) + 1, 1))
    for c in np.unique(labels).tolist():
        own = features[labels == c]
        means[c] += (own.mean(axis=0) - overall) * (len(own) / (len(own) + 20))
    return np.asarray(means, np.float32)


def principal(features: Floats, dims: int) -> tuple[Floats, Floats]:
    """Variances (d,) of features (N, D) about 0, the largest first, and their directions (D, d); d is at most `dims`.

    Few features give fewer directions, because more would be noise.
    """
    dims = min(dims, max(len(features) // 3, 8))
    spread, directions = np.linalg.eigh(features.T @ features / len(features))
    return spread[::-1][:dims], directions[:, ::-1][:, :dims]


def whitening(features: Floats, labels: Ints, dims: int, floor: float = 1e-3) -> Projection:
    """Fit to features (N, D) and labels a projection that gives every direction the same spread.

    Directions of little spread, below `floor` of the largest, stay small.
    """
    means = class_means(features, labels)
    spread, directions = principal(features - means[labels], dims)
    scale = np.sqrt(np.maximum(spread, 0) + floor * spread[0] + 1e-3)
    return Projection(means, (directions / scale).astype(np.float32))


def in_blocks(thumbs: NDArray[np.uint8], describe: Callable[[Floats, Ints], Floats], size: int = 1000) -> Floats:
    """Describe N thumbnails a thousand at a time: `describe` gets planes and their places."""
    starts = range(0, len(thumbs), size)
    places = [np.arange(start, min(start + size, len(thumbs))) for start in starts]
    return np.concatenate([describe(planes(thumbs[at]), at) for at in places])


# Neighbours -----------------------------------------------------------------------------------------------------------


class Pairs(NamedTuple):
    """Pairs of images, `one` < `other`, and the logarithm (base 10) of how many others are expected as near."""

    one: Ints
    other: Ints
    expected: NDArray[np.float64]


class Crowd:
    """Collects near pairs, and for each image how the number of its neighbours grows with distance."""

    def __init__(self, count: int) -> None:
        self.near, self.power, self.rank = np.full(count, np.nan), np.full(count, np.nan), np.ones(count)
        self._rows: list[Ints] = []
        self._columns: list[Ints] = []
        self._distances: list[Floats] = []

    def add(self, rows: Ints, columns: Ints, similarity: Floats, allowed: NDArray[np.bool_]) -> None:
        """Take cosines of rows (R,) and columns, (R, K) each; pairs that are not `allowed` are background only."""
        distance = np.sqrt(np.maximum(2 - 2 * similarity, 1e-6))
        far = min(FAR, distance.shape[1] - 1)
        near = max(min(NEAR, 2 * far // 3), 1)
        ordered = np.partition(distance, (near - 1, far - 1), axis=1)
        self.near[rows], self.rank[rows] = ordered[:, near - 1], near
        growth = np.log(np.maximum(ordered[:, far - 1] / ordered[:, near - 1], 1.001))
        self.power[rows] = np.clip(np.log(far / near) / growth, 2, 200)
        limit = ordered[:, near - 1][:, None]
        keep = np.nonzero(allowed & (distance <= limit))
        self._rows.append(rows[keep[0]])
        self._columns.append(columns[keep])
        self._distances.append(distance[keep])

    def pairs(self, labels: Ints) -> Pairs:
        """Pairs of images of which each is much nearer to the other than images of other objects are expected."""
        power = self.power.copy()
        for c in np.unique(labels).tolist():
            own = labels == c
            if np.isfinite(power[own]).any():
                power[own] = (power[own] + np.nanmedian(power[own])) / 2
        if not self._rows:
            none = np.empty(0, np.int64)
            return Pairs(none, none, np.empty(0))
        rows, columns = np.concatenate(self._rows), np.concatenate(self._columns)
        count = len(labels)
        key = np.minimum(rows, columns) * count + np.maximum(rows, columns)
        order = np.lexsort((np.concatenate(self._distances), key))
        key, first = np.unique(key[order], return_index=True)
        distance = np.concatenate(self._distances)[order][first].astype(np.float64)
        one, other = key // count, key % count
        expected = np.maximum(*(
            np.log10(self.rank[k]) + power[k] * np.log10(distance / self.near[k]) for k in (one, other)
        ))  # fmt: skip
        keep = expected < KEPT
        return Pairs(one[keep], other[keep], expected[keep])


def components(count: int, one: Ints, other: Ints) -> Ints:
    """Number the sets (count,) of images that pairs of them connect."""
    from scipy.sparse import coo_matrix  # slow to import, and storing images does not need it
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def class_columns(labels: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Give the images of each class, and those to compare them with: of all classes where the class is small."""
    for c in np.unique(labels).tolist():
        own = np.flatnonzero(labels == c)
        others = np.flatnonzero(labels != c)
        lacking = min(max(BACKGROUND - len(own), 0), len(others))
        extra = others[np.linspace(0, len(others) - 1, lacking).astype(int)] if lacking else others[:0]
        yield own, np.concatenate([own, extra])


def plain_look(rows: list[Floats], labels: Ints, tick: Callable[[int], None]) -> Pairs:
    """Compare descriptors (N, dims) of unit length as they are; of several views of the rows, the best counts.

    `tick` is told how many images have been compared since the last time.
    """
    crowd = Crowd(len(labels))
    for own, columns in class_columns(labels):
        for at in row_blocks(own, columns):
            similarity = rows[0][at] @ rows[0][columns].T
            for view in rows[1:]:
                np.maximum(similarity, view[at] @ rows[0][columns].T, out=similarity)
            _candidates_of(crowd, at, own, columns, similarity)
            tick(len(at))
    return crowd.pairs(labels)


def aligned_look(
    thumbs: NDArray[np.uint8],
    labels: Ints,
    both: tuple[Floats, Floats],
    tick: Callable[[int], None],
    dims: int = 96,
) -> Pairs:
    """Compare views of each image (shifted, nearer, mirrored) with the images that look alike at first.

    `both`: descriptors of the images and of their mirror images, which choose the candidates.
    """
    features = in_blocks(thumbs, lambda x, at: picture(x))
    sample = sampled(len(thumbs))
    whiten = whitening(features[sample], labels[sample], dims)
    described = unit(whiten(features, labels))
    crowd = Crowd(len(labels))
    for own, columns in class_columns(labels):
        for at in row_blocks(own, columns):
            similarity = both[0][at] @ both[0][columns].T
            np.maximum(similarity, both[1][at] @ both[0][columns].T, out=similarity)
            chosen = _nearest(at, columns, similarity)
            x = planes(thumbs[at])
            views = np.stack([unit(whiten(picture(x, view), labels[at])) for view in ALIGNED], axis=1)  # (R, V, dims)
            best = np.stack([(v @ described[j].T).max(axis=0) for v, j in zip(views, chosen, strict=True)])
            crowd.add(at, chosen, best, labels[chosen] == labels[at][:, None])
            tick(len(at))
    return crowd.pairs(labels)


def sampled(count: int, most: int = 8000) -> Ints:
    """Places of at most 8,000 of `count` images, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def row_blocks(own: Ints, columns: Ints) -> list[Ints]:
    """Split the images of a class into blocks to compare with the columns; none where there is nothing to compare."""
    return [own[k : k + _BLOCK] for k in range(0, len(own), _BLOCK)] if len(columns) > 2 else []


def _nearest(at: Ints, columns: Ints, similarity: Floats) -> Ints:
    """(R, K) images that are most alike, without the image itself."""
    similarity[columns == at[:, None]] = -2
    most = min(CANDIDATES, len(columns) - 1)
    return np.asarray(columns[np.argpartition(-similarity, most - 1, axis=1)[:, :most]])


def _candidates_of(crowd: Crowd, at: Ints, own: Ints, columns: Ints, similarity: Floats) -> None:
    similarity[columns == at[:, None]] = -2
    most = min(CANDIDATES, len(columns) - 1)
    order = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
    chosen = columns[order]
    allowed = np.isin(chosen, own)
    crowd.add(at, chosen, np.take_along_axis(similarity, order, axis=1), allowed)
