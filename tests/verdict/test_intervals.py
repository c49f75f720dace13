"""Intervals hold what they promise: bounds, level, p-values, several claims, and how many images would settle it."""

import numpy as np
import pytest
from scipy.stats import norm, t

from balancegan.verdict.intervals import (
    SMALLEST_P,
    images_to_settle,
    interval,
    measured,
    p_value,
)
from balancegan.verdict.scores import Answers, score


def right_of(rng, labels, arms, seeds=3, shift=0.3):
    """Right answers (arms, S, n): images differ in difficulty, and seeds of an arm in every class.

    `arms` has one expected recall per arm.
    """
    n, classes = len(labels), int(labels.max()) + 1
    spread = (3**2 + 1 + 1 + shift**2) ** 0.5
    easy = 3 * rng.normal(size=(1, 1, n)) + rng.normal(size=(len(arms), 1, n)) + rng.normal(size=(len(arms), seeds, n))
    moved = shift * rng.normal(size=(len(arms), seeds, classes))[:, :, labels]
    return easy + moved + spread * norm.ppf(arms)[:, None, None] > 0


def difference_of(right, labels, tested=None):
    """The difference in balanced accuracy between two arms with these right answers (2, S, n)."""
    classes = int(labels.max()) + 1
    told = np.where(right, labels, (labels + 1) % classes)
    if tested is not None:
        told = np.where(tested, told, -1)
    a, b = score([Answers("a", told[0]), Answers("b", told[1])], labels, classes)
    return a.balanced_accuracy - b.balanced_accuracy


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("counts", "arms"), [((6, 6), (0.9, 0.9)), ((6,) * 5, (0.7, 0.8)), ((80, 9), (0.5, 0.4))])
def test_intervals_hold_the_truth_on_few_images(counts, arms, seeds):
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(len(counts)), counts)
    rows = [interval(difference_of(right_of(rng, labels, arms, seeds), labels)) for _ in range(300)]
    truth = arms[0] - arms[1]
    assert np.mean([row["low"] > truth for row in rows]) <= 0.045  # 0.025 and two standard errors
    assert np.mean([row["high"] < truth for row in rows]) <= 0.045


def test_intervals_of_many_images_are_not_too_wide():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 300)
    made = [interval(difference_of(right_of(rng, labels, (0.8, 0.8)), labels)) for _ in range(200)]
    expected = 2 * 1.96 * np.std([row["value"] for row in made])
    width = np.mean([row["high"] - row["low"] for row in made])
    assert expected <= width < 1.45 * expected


@pytest.mark.parametrize("design", ["folds", "splits"])
def test_intervals_hold_where_seeds_test_different_images(design):
    rng, labels, misses = np.random.default_rng(0), np.repeat([0, 1], [24, 12]), 0
    for _ in range(200):
        turn = np.concatenate([rng.permutation(n) % 3 for n in (24, 12)])
        tested = np.stack([turn == s if design == "folds" else turn != s for s in range(3)])
        row = interval(difference_of(right_of(rng, labels, (0.8, 0.8)), labels, tested))
        misses += not row["low"] <= 0 <= row["high"]
    assert misses / 200 <= 0.08


def test_the_interval_lies_in_what_is_possible():
    labels = np.repeat([0, 1], 5)
    right = np.zeros((2, 3, 10), bool)
    right[0], right[1, 0] = True, True  # one seed of the second arm never fails, two always do
    row = interval(difference_of(right, labels))
    assert row["value"] == pytest.approx(2 / 3) and -1 <= row["low"] < row["value"] < row["high"] == 1
    certain = interval(difference_of(right[:, 1:], labels))
    assert certain["value"] == certain["high"] == 1.0 and 0 < certain["low"] < 1


def test_many_images_leave_the_interval_of_the_seeds():
    n, values = 200_000, np.array([0.6, 0.7, 0.8])
    found = measured(values, np.zeros((3, n)), np.full((3, n), 1 / n), np.zeros(n, int))
    margin = t.ppf(0.975, 2) * values.std(ddof=1) / 3**0.5
    assert interval(found) == pytest.approx({"value": 0.7, "low": 0.7 - margin, "high": 0.7 + margin}, abs=1e-3)
    both = interval(found - measured(values[::-1], found.parts, found.weights, found.classes))
    assert both["high"] == pytest.approx(t.ppf(0.975, 4) * 0.1 * (2 / 3) ** 0.5, abs=1e-3)


def test_seeds_that_differ_by_chance_on_few_images_do_not_count_twice():
    rng, labels, widths = np.random.default_rng(0), np.repeat([0, 1], 40), []
    for _ in range(40):  # independent images and seeds
        row = interval(difference_of(rng.random((2, 3, 80)) < 0.7, labels))
        widths.append((row["high"] - row["low"]) / 2)
    assert 1 < np.median(widths) / (1.96 * np.sqrt(2 * 0.7 * 0.3 / (80 * 3))) < 1.4


def test_without_an_estimate_there_is_nothing():
    nothing = measured(np.array([np.nan]), np.zeros((1, 0)), np.zeros((1, 0)), np.zeros(0, int))
    assert interval(nothing) == {"value": None, "low": None, "high": None}
    assert p_value(nothing, 1) == 1.0 and images_to_settle(nothing) is None


# --- p-values and several claims --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_p_values_say_what_the_interval_says(seed):
    rng, labels = np.random.default_rng(seed), np.repeat([0, 1], [20, 10])
    found = difference_of(right_of(rng, labels, (0.6 + 0.03 * (seed % 10), 0.6)), labels)
    better, worse = p_value(found, 1), p_value(found, -1)
    assert better + worse == pytest.approx(1)
    level = 1 - 2 * min(better, worse)
    row = interval(found, level)
    assert min(abs(row["low"]), abs(row["high"])) == pytest.approx(0, abs=1e-9)
    assert (interval(found)["low"] > 0) == (better < 0.025) and (interval(found)["high"] < 0) == (worse < 0.025)


def test_p_values_have_a_floor():
    labels = np.repeat([0, 1], 500)
    right = np.repeat([True, False], 3000).reshape(2, 3, 1000)
    assert p_value(difference_of(right, labels), 1) == SMALLEST_P


def test_p_values_of_arms_that_do_not_differ_are_not_too_small():
    rng, labels = np.random.default_rng(1), np.repeat([0, 1, 2], 15)
    p = np.array([p_value(difference_of(right_of(rng, labels, (0.8, 0.8)), labels), 1) for _ in range(400)])
    for level in (0.01, 0.025, 0.1):
        assert (p <= level).mean() <= level + 2 * np.sqrt(level / 400)


# --- how many images --------------------------------------------------------------------------------------------------


def test_so_many_more_images_settle_it():
    """Test sets of the size that it asks for have about the interval that it promises."""
    rng, before, widths, totals = np.random.default_rng(0), (60, 40, 15), [], []
    for _ in range(80):
        labels = np.repeat([0, 1, 2], before)
        more = images_to_settle(difference_of(right_of(rng, labels, (0.8, 0.8), shift=0.0), labels), 0.05)
        if more is None:  # three seeds may differ too much by chance
            continue
        again = np.repeat([0, 1, 2], [n + more.get(k, 0) for k, n in enumerate(before)])
        row = interval(difference_of(right_of(rng, again, (0.8, 0.8), shift=0.0), again))
        widths.append((row["high"] - row["low"]) / 2)
        totals.append([more.get(k, 0) for k in range(3)])
    assert len(widths) > 60 and np.median(widths) == pytest.approx(0.05, rel=0.15)
    assert np.median(totals, axis=0).argmax() == 2 and np.median(totals, axis=0)[2] > 10  # the smallest class


def test_fewer_images_or_other_classes_would_not_do():
    rng, labels = np.random.default_rng(3), np.repeat([0, 1, 2], [60, 40, 15])
    found = difference_of(right_of(rng, labels, (0.8, 0.8), shift=0.0), labels)
    more = images_to_settle(found, 0.06)
    widest, total = images_to_settle(found, 0.03), sum(more.values())
    assert sum(widest.values()) > 3 * total and images_to_settle(found, 0.9) == {}

    def margin(extra):
        """Half the interval when every image of a class stands for more of them."""
        factor = (np.array([60, 40, 15]) + extra) / np.array([60, 40, 15])
        parts = found.parts.mean(axis=0) / np.sqrt(factor[labels])
        return (parts**2).sum() ** 0.5

    least = margin(np.array([more.get(k, 0) for k in range(3)]))
    assert all(least <= 1.02 * margin(total * np.array(share)) for share in ([1, 0, 0], [0, 1, 0], [1 / 3] * 3))


def test_no_number_of_images_settles_what_training_runs_do_not_agree_on():
    labels = np.repeat([0, 1], 100)
    right = np.zeros((2, 3, 200), bool)
    right[0], right[1, 0] = True, True
    assert images_to_settle(difference_of(right, labels)) is None
