"""Scores against a slow reference, and every branch of the rule."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from balancegan.verdict import intervals
from balancegan.verdict.arms import BASELINE, CANDIDATE, REAL_ARMS
from balancegan.verdict.intervals import LEVEL, interval, measured
from balancegan.verdict.rule import (
    DO_NOT_USE,
    NO_DIFFERENCE,
    USE,
    WEAK_TEST,
    better_real_arm,
    gate,
    headline,
    judge,
    judge_classes,
)
from balancegan.verdict.scores import MIN_TEST, Answers, Scores, arms_json, difference_json, score


def answers_of(labels, right, seeds=3, seed=0, classes=3, arm="real only"):
    """Classifiers that are right with this probability, and wrong at random."""
    rng = np.random.default_rng(seed)
    wrong = (labels + rng.integers(1, classes, size=(seeds, len(labels)))) % classes
    return Answers(arm, np.where(rng.random(wrong.shape) < right, labels, wrong))


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def slow(predicted, labels, classes):
    """Recall of each class, balanced accuracy and macro F1: per seed by scikit-learn, means over the seeds by hand."""
    recalls, balanced, macros = [[] for _ in range(classes)], [], []
    for found in predicted:
        there = found >= 0
        if not there.any():
            continue
        truth, said = labels[there], found[there]
        each = {"labels": range(classes), "average": None, "zero_division": 0}
        recall, f1 = recall_score(truth, said, **each), f1_score(truth, said, **each)
        present = sorted(set(truth.tolist()))
        for k in present:
            recalls[k].append(recall[k])
        tested = labels[(predicted >= 0).any(axis=0)]
        enough = [k for k in range(classes) if (tested == k).sum() >= MIN_TEST]
        counted = [k for k in present if len(enough) < 2 or k in enough]
        balanced.append(np.mean([recall[k] for k in counted]))
        macros.append(np.mean([f1[k] for k in counted]))
    return [np.mean(values) if values else np.nan for values in recalls], np.mean(balanced), np.mean(macros)


def holes(answers, seed=0, share=0.5):
    """The same where each seed tests other images."""
    gone = np.random.default_rng(seed).random(answers.predicted.shape) < share
    return Answers(answers.arm, np.where(gone, -1, answers.predicted))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("counts", [(30, 9, 4), (9, 6, 5), (12, 0, 7)])
def test_the_estimate_is_scikit_learns(split, counts):
    labels = labels_of(*counts)
    answers = answers_of(labels, 0.6)
    if split:
        answers = holes(answers, seed=sum(counts))
    (found,) = score([answers], labels, 3)
    recall, balanced, macro = slow(answers.predicted, labels, 3)
    np.testing.assert_allclose([np.nan if of.value is None else of.value for of in found.recall], recall)
    assert found.balanced_accuracy.value == pytest.approx(balanced)
    assert found.macro_f1.value == pytest.approx(macro)


def test_macro_f1_of_one_seed_is_scikit_learns_own_mean():
    labels = labels_of(20, 10, 5)
    answers = answers_of(labels, 0.5, seeds=1)
    (found,) = score([answers], labels, 3)
    assert found.macro_f1.value == pytest.approx(f1_score(labels, answers.predicted[0], average="macro"))
    assert found.balanced_accuracy.value == pytest.approx(recall_score(labels, answers.predicted[0], average="macro"))
    of_rows = confusion_matrix(labels, answers.predicted[0], normalize="true")
    np.testing.assert_allclose(found.confusion, of_rows)


def test_the_confusion_is_the_mean_over_the_seeds():
    labels = labels_of(8, 5)
    answers = answers_of(labels, 0.5, classes=2)
    (found,) = score([answers], labels, 2)
    each = [confusion_matrix(labels, said, normalize="true") for said in answers.predicted]
    np.testing.assert_allclose(found.confusion, np.mean(each, axis=0))


def test_the_standard_error_is_the_bootstraps(monkeypatch):
    """Rows are drawn again within their class; without the imaginary image and the seeds' lower bound, both agree."""
    monkeypatch.setattr(intervals, "IMAGINARY", 0.0)
    monkeypatch.setattr(intervals, "LEAST_BETWEEN", 0.0)
    labels, classes = labels_of(40, 25), 2
    said = holes(answers_of(labels, 0.7, seeds=1, classes=classes), share=0.2)
    (found,) = score([said], labels, classes)
    rng, drawn = np.random.default_rng(1), []
    members = [np.flatnonzero((labels == k) & (said.predicted[0] >= 0)) for k in range(classes)]
    for _ in range(200):
        rows = np.concatenate([rng.choice(mine, len(mine)) for mine in members])
        drawn.append(slow(said.predicted[:, rows], labels[rows], classes)[1:])
    for of, plain in zip((found.balanced_accuracy, found.macro_f1), np.std(drawn, axis=0), strict=True):
        row = interval(of, 0.6827)
        assert (row["high"] - row["low"]) / 2 == pytest.approx(plain, rel=0.15)


def test_intervals_hold_the_estimate_and_shrink_with_the_images():
    widths = []
    for seed, times in itertools.product(range(9), (1, 16)):
        labels = labels_of(20 * times, 10 * times)
        (found,) = score([answers_of(labels, 0.7, seed=seed, classes=2)], labels, 2)
        for of in (found.balanced_accuracy, found.macro_f1, found.recall[0]):
            row = interval(of)
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        row = interval(found.balanced_accuracy)
        widths.append(row["high"] - row["low"])
    assert np.median(widths[1::2]) < 0.4 * np.median(widths[::2])


def test_a_wider_level_is_a_wider_interval():
    labels = labels_of(20, 10)
    (found,) = score([answers_of(labels, 0.7, classes=2)], labels, 2)
    narrow, wide = interval(found.balanced_accuracy, 0.5), interval(found.balanced_accuracy, 0.99)
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_equal_answers_on_few_images_do_not_mean_equal_arms():
    labels = labels_of(20, 3)
    same = answers_of(labels, 0.7, classes=2)
    first, again = score([same, Answers("twin", same.predicted)], labels, 2)
    row = difference_json("a", "b", {"a": first, "b": again}, ["x", "y"])
    for part in (row["balanced_accuracy"], row["macro_f1"], *row["recall"].values()):
        assert part["value"] == 0.0 and part["low"] == -part["high"] < 0
    assert row["recall"]["y"]["high"] > 0.9  # three images


def test_pairing_makes_a_difference_surer():
    """Both arms fail on the same images but for a few: the difference is far surer than each of the scores."""
    labels = labels_of(60, 60)
    base = answers_of(labels, 0.6, seeds=1, classes=2).predicted
    better = base.copy()
    wrong = np.flatnonzero(base[0] != labels)[::6]
    better[0, wrong] = labels[wrong]
    a, b = score([Answers("a", better), Answers("b", base)], labels, 2)
    paired = interval(a.balanced_accuracy - b.balanced_accuracy)
    assert paired["low"] > 0
    alone = interval(a.balanced_accuracy)
    assert paired["high"] - paired["low"] < 0.6 * (alone["high"] - alone["low"])


def test_a_class_without_test_images_is_null_and_counts_nowhere():
    names, labels = ["a", "b", "c"], labels_of(9, 0, 5)
    arms = [answers_of(labels, 0.7), answers_of(labels, 0.5, seed=1, arm=BASELINE)]
    arms.append(answers_of(labels, 0.5, seed=2, arm=CANDIDATE))
    scores = dict(zip((a.arm for a in arms), score(arms, labels, 3), strict=True))
    rows = arms_json(list(scores), list(scores.values()), names)
    difference = difference_json(CANDIDATE, BASELINE, scores, names)
    classes = judge_classes(scores, names, [9, 0, 5], [9, 9, 9])
    nothing = {"value": None, "low": None, "high": None}
    assert rows[0]["recall"]["b"] == difference["recall"]["b"] == classes[1]["difference"] == nothing
    assert classes[1]["verdict"] is None and classes[1]["weak"]
    assert all(np.isfinite([s.balanced_accuracy.values, s.macro_f1.values]).all() for s in scores.values())
    recall = [rows[0]["recall"][name]["value"] for name in "ac"]
    assert rows[0]["balanced_accuracy"]["value"] == pytest.approx(np.mean(recall))


def test_the_rows_are_json_even_without_images_of_a_class():
    labels = labels_of(9, 0, 5)
    (found,) = score([answers_of(labels, 0.7)], labels, 3)
    json.dumps(arms_json(["real only"], [found], ["a", "b", "c"]), allow_nan=False)


def test_the_rows_are_json():
    labels = labels_of(9, 1)
    scores = score([answers_of(labels, 0.7, classes=2)] * 2, labels, 2)
    rows = arms_json(["x", "y"], scores, ["a", "b"])
    json.dumps([rows, difference_json("x", "y", dict(zip("xy", scores, strict=True)), ["a", "b"])], allow_nan=False)


# --- the rule ---------------------------------------------------------------------------------------------------------


def difference(against, low, value, high, arm=CANDIDATE):
    row = {"value": value, "low": low, "high": high}
    sure = {"p_better": 0.001 if (low or 0) > 0 else 0.5, "p_worse": 0.001 if (high or 0) < 0 else 0.5}
    return {"arm": arm, "against": against, "balanced_accuracy": row, "macro_f1": row, "recall": {}, **sure}


BETTER, WORSE, UNSURE, TINY = (0.01, 0.04, 0.07), (-0.07, -0.04, -0.01), (-0.01, 0.04, 0.09), (0.001, 0.004, 0.007)
NONE, WIDE = (None, None, None), (-0.99, -0.57, 0.2)


@pytest.mark.parametrize(
    ("real", "over", "softmax", "expected"),
    [
        (BETTER, BETTER, BETTER, USE),
        (UNSURE, BETTER, UNSURE, USE),
        (BETTER, UNSURE, BETTER, NO_DIFFERENCE),  # what counts is oversampling
        (BETTER, TINY, BETTER, NO_DIFFERENCE),
        (BETTER, WORSE, BETTER, DO_NOT_USE),
        (WORSE, BETTER, BETTER, USE),  # another way of training on real images is named, no more
        (BETTER, BETTER, WORSE, USE),
        (UNSURE, UNSURE, WORSE, NO_DIFFERENCE),
        (BETTER, tuple(-x for x in reversed(TINY)), BETTER, NO_DIFFERENCE),
        (BETTER, tuple(-x for x in reversed(UNSURE)), BETTER, NO_DIFFERENCE),
        (BETTER, (0.0, 0.05, 0.1), BETTER, NO_DIFFERENCE),  # above zero, not at it
        (BETTER, (-0.05, 0.05, 0.15), BETTER, None),
        (BETTER, WIDE, BETTER, None),
        (BETTER, NONE, BETTER, None),
    ],
)
def test_the_rule(real, over, softmax, expected):
    arms = ("real only", BASELINE, "balanced softmax")
    rows = [difference(arm, *row) for arm, row in zip(arms, (real, over, softmax), strict=True)]
    assert judge(rows) == expected
    others = [difference(arm, *BETTER, arm="generated only") for arm in arms]
    assert judge([*others, *rows]) == expected and judge([*rows, *others], "generated only") == USE
    assert judge(rows[1:]) == expected  # an arm that was not trained
    better = [arm for arm, row in zip(arms, (real, over, softmax), strict=True) if row is WORSE and arm != BASELINE]
    assert better_real_arm(rows) == (better[0] if better else None)
    assert ("is clearly better than" in headline(judge(rows), rows)) == bool(better)


@pytest.fixture
def images_only(monkeypatch):
    monkeypatch.setattr(intervals, "IMAGINARY", 0.0)
    monkeypatch.setattr(intervals, "LEAST_BETWEEN", 0.0)


def scores_of(recall, error):
    """Scores of one seed: each class has this recall, with the same standard error in all."""
    n = 10_000
    parts = np.where(np.arange(n) % 2, 1.0, -1.0)[None] * error / n**0.5
    made = [measured(np.array([value]), parts, np.full((1, n), 1 / n), np.full(n, k)) for k, value in enumerate(recall)]
    balanced = measured(np.array([np.mean(recall)]), parts, np.full((1, n), 1 / n), np.zeros(n, int))
    return Scores(tuple(made), balanced, balanced, np.eye(len(recall)))


def test_classes_are_judged_by_their_own_recall(images_only):
    gains = [0.1, -0.1, 0.01, 0.003, 0.1, 0.1]
    scores = {CANDIDATE: scores_of([0.5 + gain for gain in gains], 0.008), BASELINE: scores_of([0.5] * 6, 0.0)}
    n_test = [WEAK_TEST, WEAK_TEST - 1, 100, 100, MIN_TEST - 1, 100]
    rows = judge_classes(scores, list("abcdef"), n_test, [9, 9, 9, 9, 9, 0])
    assert [row["verdict"] for row in rows] == [USE, DO_NOT_USE, NO_DIFFERENCE, NO_DIFFERENCE, None, None]
    assert [row["weak"] for row in rows] == [False, True, False, False, True, False]
    assert [row["n_test"] for row in rows] == n_test and rows[0]["difference"]["value"] == pytest.approx(0.1)


def test_a_surely_better_class_may_be_unsure_among_many(images_only):
    for classes, given, expected in ((1, 1, USE), (20, 20, NO_DIFFERENCE), (20, 1, USE)):  # 2.2 errors above 0
        scores = {CANDIDATE: scores_of([0.54] * classes, 0.018), BASELINE: scores_of([0.5] * classes, 0.0)}
        delivered = [1] * given + [0] * (classes - given)
        rows = judge_classes(scores, [str(k) for k in range(classes)], [50] * classes, delivered)
        assert {row["verdict"] for row in rows[:given]} == {expected}


def test_the_headline_fits_the_number():
    arms = ("real only", BASELINE, "balanced softmax")
    worst = (-0.2, -0.15, -0.1)
    rows = [difference(arm, *row) for arm, row in zip(arms, (WORSE, BETTER, worst), strict=True)]
    others = [difference(arm, -0.9, -0.8, -0.7, arm="generated only") for arm in arms]
    text = headline(judge(rows), [*others, *rows])
    assert "+4.0 points" in text and "better: " in text and "balanced softmax is clearly better" in text
    rows = [difference(arm, *BETTER) for arm in arms]
    text = headline(judge(rows), rows)
    assert "+4.0 points" in text and "oversampling" in text and "better" in text and f"{LEVEL:.0%}" in text
    assert "clearly" not in text
    for row, words in ((UNSURE, "No clear difference"), (WORSE, "worse"), (WIDE, "Too few test images to tell")):
        text = headline(judge([difference(BASELINE, *row)]), [difference(BASELINE, *row)])
        assert words in text and f"{100 * row[1]:+.1f} points" in text
    assert "Too few" in headline(None, [difference(BASELINE, *WIDE)])


def utility(verdict, gain=0.02):
    rows = [difference(BASELINE, 0.9, 0.9, 0.9, arm="generated only"), difference("real only", 0.8, 0.8, 0.8)]
    return {"verdict": verdict, "differences": [*rows, difference(BASELINE, gain, gain, gain)]}


@pytest.mark.parametrize(
    ("found", "least", "passes"),
    [
        (USE, "use", True),
        (NO_DIFFERENCE, "use", False),
        (DO_NOT_USE, "use", False),
        (USE, "no-difference", True),
        (NO_DIFFERENCE, "no-difference", True),
        (DO_NOT_USE, "no-difference", False),
        (NO_DIFFERENCE, 2.0, True),
        (NO_DIFFERENCE, 1.9, True),
        (USE, 2.1, False),
        (DO_NOT_USE, -3, True),
        (None, "use", False),
        (None, "no-difference", False),
        (None, -100.0, False),
    ],
)
def test_the_gate(found, least, passes):
    document = utility(found) if found else {"verdict": None}
    reason = gate(document, least)
    assert (reason is None) == passes
    if not passes and found:
        assert (found in reason) if isinstance(least, str) else ("+2.0" in reason and f"{least:+g}" in reason)


def test_any_of_several_real_arms_has_to_be_surer_to_be_named(images_only):
    """2.2 standard errors: enough for one comparison, not for one of four."""
    others = [arm for arm in REAL_ARMS if arm != BASELINE]
    scores = {CANDIDATE: scores_of([0.4, 0.4], 0.0455), others[0]: scores_of([0.5, 0.5], 0.0)}
    row = difference_json(CANDIDATE, others[0], scores, ["a", "b"])
    assert row["balanced_accuracy"]["high"] < 0 and better_real_arm([row]) == others[0]
    unsure = [difference(arm, *UNSURE) for arm in others[1:]]
    assert better_real_arm([row, *unsure]) is None
