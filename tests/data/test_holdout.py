"""The held-out part: stratified, grouped, reproducible."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from balancegan.data.holdout import choose_holdout

LABELS = np.repeat([0, 1, 2, 3], [100, 20, 5, 4])


def test_every_class_of_five_or_more_gives_at_least_one():
    held = choose_holdout(LABELS, range(len(LABELS)), 0.2, 0)
    assert np.bincount(LABELS[held], minlength=4).tolist() == [20, 4, 1, 0]
    tiny = choose_holdout(LABELS, range(len(LABELS)), 0.01, 0)
    assert np.bincount(LABELS[tiny], minlength=4).tolist() == [1, 1, 1, 0]


def test_reproducible_by_seed():
    a, b, c = (choose_holdout(LABELS, range(len(LABELS)), 0.2, s) for s in (0, 0, 1))
    assert (a == b).all() and (a != c).any()
    assert not choose_holdout(LABELS, range(len(LABELS)), 0.0, 0).any()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80),
    st.floats(0.01, 0.9),
    st.integers(0, 5),
)
def test_groups_stay_whole_and_no_class_is_emptied(items, fraction, seed):
    labels = np.array([c for c, _ in items])
    groups = [g for _, g in items]
    held = choose_holdout(labels, groups, fraction, seed)
    for g in set(groups):
        members = [held[i] for i in range(len(items)) if groups[i] == g]
        assert all(members) or not any(members)
    assert set(labels[~held]) == set(labels)
    small = [c for c in set(labels) if (labels == c).sum() < 5]
    assert not held[np.isin(labels, small)].any()


def test_large_groups_are_held_out_whole_rather_than_nothing():
    labels, patients = np.repeat([0, 1], 20), np.repeat([0, 1, 2, 3], 10)
    held = choose_holdout(labels, patients.tolist(), 0.2, 0)
    assert np.bincount(labels[held], minlength=2).tolist() == [10, 10]


def test_classes_of_fewer_images_can_give_some_too():
    held = choose_holdout(LABELS, range(len(LABELS)), 0.2, 0, least=2)
    assert np.bincount(LABELS[held], minlength=4).tolist() == [20, 4, 1, 1]
