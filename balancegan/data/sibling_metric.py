"""Learn from the siblings found first what tells objects apart, and find more of them.

What varies among siblings (the exposure of one set, the distance to the camera in another) should count little, and
what differs between objects much. So features are projected by linear discriminant analysis (Fisher 1936) with the
groups found so far as classes, images that are near in the projection are joined, and both steps are repeated: the
frames of a film, whose first and last may look different, are joined one to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancegan.data.sibling_looks import (
    Floats,
    Ints,
    Projection,
    brightness,
    class_columns,
    class_means,
    components,
    in_blocks,
    outline,
    picture,
    principal,
    row_blocks,
    sampled,
    unit,
)

ENOUGH_GROUPS, ENOUGH_SHARE = 20, 0.1
"""There must be 20 groups of siblings, with a tenth of all images in them, to learn from."""
LIMIT = 0.7
"""Siblings are nearer than this, in units of the distance at which images of other groups begin."""
RANK, PART = 10, 30
"""That distance is taken to the tenth nearest image of other groups, or to one in thirty of a small class: a few nearer
ones may be siblings not yet found."""
ROUNDS = 8
COMPONENTS, DIMS = 600, 64
RIDGE = 0.01
"""Added to the variance within groups, in units of the mean variance: a few groups may not vary in some direction."""
_PARTS = (256, 512, 640)  # where the features' brightness, its pattern, colour, and edges meet


def more_siblings(thumbs: NDArray[np.uint8], labels: Ints, groups: Ints) -> Ints:
    """Join those groups of N images (N, 32, 32, 3) that a learned measure finds to be siblings: numbers (N,).

    Returns `groups` unchanged where too few siblings are known to learn from.
    """
    sizes = np.bincount(groups)
    if (sizes > 1).sum() < ENOUGH_GROUPS or (sizes[groups] > 1).mean() < ENOUGH_SHARE:
        return groups
    features = _features(thumbs, labels)
    for _ in range(ROUNDS):
        one, other = _near(_discriminants(features, groups), labels, groups)
        if not len(one):
            break
        groups = components(int(groups.max()) + 1, groups[one], groups[other])[groups]
    return groups


def _features(thumbs: NDArray[np.uint8], labels: Ints) -> Floats:
    """Principal components (N, at most 600) of brightness, its pattern, colour and edges, without their class's means.

    The first look leaves brightness out. Here it stays: where siblings share it, it tells objects apart.
    """

    def parts(x: Floats) -> Floats:
        return np.concatenate([brightness(x), picture(x), outline(x)], axis=1)

    sample = sampled(len(thumbs))
    seen = in_blocks(thumbs[sample], lambda x, at: parts(x))
    means = class_means(seen, labels[sample])
    rest = seen - means[labels[sample]]
    same = [np.full_like(part[0], 1 / np.linalg.norm(part)) for part in np.split(rest, _PARTS, axis=1)]
    scale = np.concatenate(same) * np.sqrt(len(rest), dtype=np.float32)  # every part counts the same
    _, directions = principal(rest * scale, COMPONENTS)
    project = Projection(means, scale[:, None] * directions)
    return in_blocks(thumbs, lambda x, at: project(parts(x), labels[at]))


def _discriminants(features: Floats, groups: Ints) -> Floats:
    """Directions (N, 64), of unit length, in which groups differ most compared with the images of one group."""
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), features.shape[1]))
    np.add.at(sums, groups, features)
    several = sizes[groups] > 1
    of = groups[several]
    apart = (features[several] - sums[of] / sizes[of, None]) * np.sqrt(sizes[of] / (sizes[of] - 1))[:, None]
    within, total = apart.T @ apart / len(apart), features.T @ features / len(features)
    within += RIDGE * np.trace(total) / len(total) * np.eye(len(total))
    spread, directions = np.linalg.eigh(within)
    whiten = directions / np.sqrt(spread)
    _, best = np.linalg.eigh(whiten.T @ total @ whiten)
    return unit(features @ (whiten @ best[:, ::-1][:, :DIMS]).astype(np.float32))


def _near(points: Floats, labels: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """Pairs of images of one class, but of different groups, that are nearer than `LIMIT`."""
    begin = np.empty(len(points), np.float32)
    rows, columns, distances = [], [], []
    for own, others in class_columns(labels):
        for at in row_blocks(own, others):
            similarity = points[at] @ points[others].T
            similarity[groups[at][:, None] == groups[others]] = -np.inf
            rank = min(RANK, max(len(others) // PART, 1))
            nearest = np.argpartition(-similarity, rank - 1, axis=1)[:, :rank]
            distance = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(similarity, nearest, axis=1), 1e-6))
            farthest = distance.max(axis=1)
            begin[at] = np.where(np.isfinite(farthest), farthest, 0)  # nothing is near where there are too few others
            found = others[nearest]
            k, column = np.nonzero((labels[found] == labels[own[0]]) & np.isfinite(distance))
            rows.append(at[k])
            columns.append(found[k, column])
            distances.append(distance[k, column])
    one, other, distance = np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)
    near = distance < LIMIT * np.sqrt(begin[one] * begin[other])
    return one[near], other[near]
