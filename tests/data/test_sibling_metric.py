"""A measure learned from some siblings finds the others, and learns nothing from too few."""

import numpy as np
import pytest
from photographs import photographs

from balancegan.data.sibling_metric import ENOUGH_GROUPS, more_siblings
from balancegan.data.siblings import SIDE, sibling_thumbnail


@pytest.fixture(scope="module")
def shots():
    return photographs(16, most=6, sides=(48, 96), seed=4)


@pytest.fixture(scope="module")
def thumbs(shots):
    small = [np.frombuffer(sibling_thumbnail(image), np.uint8) for image in shots.images]
    return np.stack(small).reshape(-1, SIDE, SIDE, 3)


def known(shots, objects, each=2):
    """Groups that hold the first `each` images of these objects; every other image is alone."""
    groups = np.arange(len(shots.images))
    for thing in objects:
        members = np.flatnonzero(shots.objects == thing)
        groups[members[:each]] = members[0]
    return np.unique(groups, return_inverse=True)[1]


def test_siblings_of_known_ones_are_found_and_other_objects_are_left_alone(shots, thumbs):
    several = [thing for thing, count in enumerate(np.bincount(shots.objects)) if count > 2]
    groups = known(shots, several)
    found = more_siblings(thumbs, shots.labels, groups)
    together = {(g, thing) for g, thing in zip(found.tolist(), shots.objects.tolist(), strict=True)}
    assert len(together) < len(set(groups)) * 0.75  # most lone siblings joined theirs
    assert len(together) <= len(set(found)) + 1  # hardly a group holds two objects
    kept = {(a, b) for a, b in zip(groups.tolist(), found.tolist(), strict=True)}
    assert len(kept) == len(set(groups))  # nothing that was joined is taken apart


def test_images_of_different_classes_stay_apart(shots, thumbs):
    several = [thing for thing, count in enumerate(np.bincount(shots.objects)) if count > 2]
    found = more_siblings(thumbs, shots.labels, known(shots, several))
    assert len({(g, label) for g, label in zip(found.tolist(), shots.labels.tolist(), strict=True)}) == len(set(found))


def test_too_few_groups_change_nothing(shots, thumbs):
    several = [thing for thing, count in enumerate(np.bincount(shots.objects)) if count > 2]
    groups = known(shots, several[: ENOUGH_GROUPS - 1])
    assert more_siblings(thumbs, shots.labels, groups) is groups


def test_where_one_group_holds_nearly_all_nothing_is_joined(shots, thumbs):
    groups = np.zeros(len(thumbs), np.int64)
    pairs = np.arange(2 * ENOUGH_GROUPS) // 2 + 1
    groups[: len(pairs)] = pairs
    alone = np.flatnonzero(groups == 0)[-4:]
    groups[alone] = pairs.max() + 1 + np.arange(4)
    labels = np.zeros(len(thumbs), np.int64)
    found = more_siblings(thumbs, labels, groups)
    assert len(set(found)) > 1
