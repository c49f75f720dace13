"""Log loss, calibration error and areas under curves against slow references."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from balancegan.verdict.probabilities import BINS, areas, probability_scores


def drawn(seeds=3, n=60, classes=4, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    logits = rng.normal(size=(seeds, n, classes)) + 1.5 * np.eye(classes)[labels]
    p = np.exp(logits)
    p = p / p.sum(axis=2, keepdims=True)
    return (p if digits is None else p.round(digits)), labels


@pytest.mark.parametrize("digits", [None, 1])
def test_areas_are_scikit_learns_also_with_ties(digits):
    p, labels = drawn(seeds=1, digits=digits)
    for k in range(4):
        roc, precision_recall = areas(p[0, :, k], labels == k)
        assert roc == pytest.approx(roc_auc_score(labels == k, p[0, :, k]))
        assert precision_recall == pytest.approx(average_precision_score(labels == k, p[0, :, k]))


def test_the_roc_area_is_the_share_of_pairs_in_the_right_order():
    p, labels = drawn(seeds=1, n=40, digits=1)
    scores, positive = p[0, :, 0], labels == 0
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert areas(scores, positive)[0] == pytest.approx(np.mean(pairs))


def test_areas_of_known_orders():
    assert areas(np.array([0.9, 0.8, 0.1]), np.array([True, True, False])) == (1.0, 1.0)
    assert areas(np.array([0.1, 0.9]), np.array([True, False])) == (0.0, 0.5)
    assert areas(np.full(4, 0.3), np.array([True, False, False, False])) == (0.5, 0.25)
    for nothing in (np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)):
        assert areas(np.arange(len(nothing)) / 5, nothing) == (None, None)


def slow(p, labels, counted):
    """Log loss and calibration error of one seed, image by image."""
    used = [k for k in counted if (labels == k).any()]
    loss, bins = 0.0, [[0.0, 0.0] for _ in range(BINS)]
    for row, label in zip(p, labels, strict=True):
        if label not in used:
            continue
        weight = 1 / (labels == label).sum() / len(used)
        loss -= weight * math.log(row[label])
        sure = max(row)
        b = next(i for i in range(BINS) if i / BINS < sure <= (i + 1) / BINS + 1e-12)
        bins[b][0] += weight * sure
        bins[b][1] += weight * (list(row).index(sure) == label)
    return loss, sum(abs(a - b) for a, b in bins)


@pytest.mark.parametrize("counted", [range(4), (1, 3)])
def test_log_loss_and_calibration_error_are_means_over_classes_and_seeds(counted):
    p, labels = drawn()
    found = probability_scores(p, labels, np.isin(np.arange(4), list(counted)))
    losses, errors = zip(*(slow(rows, labels, counted) for rows in p), strict=True)
    assert found["log_loss"] == pytest.approx(np.mean(losses))
    assert found["calibration_error"] == pytest.approx(np.mean(errors))


def test_small_classes_count_as_much_as_large_ones():
    """90 images of one class predicted with 0.8, ten of the other with 0.6 and wrong."""
    labels = np.repeat([0, 1], [90, 10])
    p = np.where(labels[:, None] == 0, [[0.8, 0.2]], [[0.6, 0.4]])[None]
    found = probability_scores(p, labels)
    assert found["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert found["calibration_error"] == pytest.approx((0.2 + 0.6) / 2)
    assert found["auroc"] == [1.0, 1.0]


def test_seeds_that_do_not_test_an_image_leave_it_out():
    p, labels = drawn(seeds=2, n=40)
    p[0, :20] = np.nan
    p[1, 20:] = np.nan
    found = probability_scores(p, labels)
    alone = [probability_scores(p[:1, 20:], labels[20:]), probability_scores(p[1:, :20], labels[:20])]
    for name in ("log_loss", "calibration_error"):
        assert found[name] == pytest.approx(np.mean([one[name] for one in alone]))
    assert found["auroc"] == pytest.approx(np.mean([one["auroc"] for one in alone], axis=0))
    assert found["auprc"] == pytest.approx(np.mean([one["auprc"] for one in alone], axis=0))


def test_nothing_to_tell_is_none_and_json():
    p, labels = drawn(seeds=2, n=12, classes=2)
    found = probability_scores(p, np.zeros(12, int))
    assert found["auroc"] == found["auprc"] == [None, None] and found["log_loss"] is not None
    untested = probability_scores(np.full((1, 12, 2), np.nan), labels)
    assert untested == {"log_loss": None, "calibration_error": None, "auroc": [None] * 2, "auprc": [None] * 2}
    json.dumps([found, untested], allow_nan=False)


def test_a_probability_of_zero_costs_much_but_not_everything():
    found = probability_scores(np.array([[[0.0, 1.0]]]), np.array([0]))
    assert 20 < found["log_loss"] < 40 and found["calibration_error"] == 1.0
