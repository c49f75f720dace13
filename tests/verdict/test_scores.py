"""Scores against a slow reference, intervals, and every branch of the rule."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from balancegan.verdict import scores
from balancegan.verdict.arms import BASELINE, CANDIDATE, REAL_ARMS
from balancegan.verdict.rule import DO_NOT_USE, NO_DIFFERENCE, USE, WEAK_TEST, gate, headline, judge, judge_classes
from balancegan.verdict.scores import LEVEL, MIN_TEST, Answers, Scores, arms_json, difference_json, interval, score


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
    np.testing.assert_allclose([np.nan if np.isnan(of).all() else np.nanmean(of) for of in found.recall[0].T], recall)
    assert found.balanced_accuracy[0].mean() == pytest.approx(balanced)
    assert found.macro_f1[0].mean() == pytest.approx(macro)


def test_macro_f1_of_one_seed_is_scikit_learns_own_mean():
    labels = labels_of(20, 10, 5)
    answers = answers_of(labels, 0.5, seeds=1)
    (found,) = score([answers], labels, 3)
    assert found.macro_f1[0] == pytest.approx(f1_score(labels, answers.predicted[0], average="macro"))
    assert found.balanced_accuracy[0] == pytest.approx(recall_score(labels, answers.predicted[0], average="macro"))
    of_rows = confusion_matrix(labels, answers.predicted[0], normalize="true")
    np.testing.assert_allclose(found.confusion, of_rows)


def test_the_confusion_is_the_mean_over_the_seeds():
    labels = labels_of(8, 5)
    answers = answers_of(labels, 0.5, classes=2)
    (found,) = score([answers], labels, 2)
    each = [confusion_matrix(labels, said, normalize="true") for said in answers.predicted]
    np.testing.assert_allclose(found.confusion, np.mean(each, axis=0))


def test_the_bootstrap_is_a_loop_over_images():
    """The same distribution from a plain resampling of rows: mean and width agree."""
    labels, classes = labels_of(15, 6), 2
    answers = holes(answers_of(labels, 0.7, classes=classes), share=0.3)
    (found,) = score([answers], labels, classes)
    rng, drawn = np.random.default_rng(1), []
    members = [np.flatnonzero(labels == k) for k in range(classes)]
    for _ in range(200):
        rows = np.concatenate([rng.choice(mine, len(mine)) for mine in members])
        drawn.append(slow(answers.predicted[:, rows], labels[rows], classes)[1:])
    balanced, macro = np.array(drawn).T
    for fast, plain in ((found.balanced_accuracy[1:].mean(1), balanced), (found.macro_f1[1:].mean(1), macro)):
        assert fast.mean() == pytest.approx(plain.mean(), abs=0.02)
        assert fast.std() == pytest.approx(plain.std(), rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_hold_the_estimate_and_shrink_with_the_images(seed):
    widths = []
    for times in (1, 16):
        labels = labels_of(20 * times, 10 * times)
        (found,) = score([answers_of(labels, 0.7, seed=seed, classes=2)], labels, 2)
        for draws in (found.balanced_accuracy, found.macro_f1, found.recall[:, :, 0]):
            row = interval(draws)
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        row = interval(found.balanced_accuracy)
        widths.append(row["high"] - row["low"])
    assert widths[1] < 0.5 * widths[0]


def test_a_wider_level_is_a_wider_interval():
    labels = labels_of(20, 10)
    (found,) = score([answers_of(labels, 0.7, classes=2)], labels, 2)
    narrow, wide = interval(found.balanced_accuracy, 0.5), interval(found.balanced_accuracy, 0.99)
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_an_arm_does_not_differ_from_itself():
    labels = labels_of(20, 3)
    same = answers_of(labels, 0.7, classes=2)
    first, again, other = score(
        [same, Answers("twin", same.predicted), answers_of(labels, 0.7, seed=1, classes=2)], labels, 2
    )
    row = difference_json("a", "b", {"a": first, "b": again}, ["x", "y"])
    for part in (row["balanced_accuracy"], row["macro_f1"], *row["recall"].values()):
        assert part == {"value": 0.0, "low": 0.0, "high": 0.0}
    unlike = difference_json("a", "b", {"a": first, "b": other}, ["x", "y"])["balanced_accuracy"]
    assert unlike["low"] < unlike["high"]


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


def test_nineteen_in_twenty_intervals_hold_the_truth(monkeypatch):
    """Trainings that differ in chance only, and images drawn from the same source."""
    monkeypatch.setattr(scores, "_DRAWS", 300)
    rng, hits, runs = np.random.default_rng(0), 0, 150
    labels = labels_of(60, 30)
    for i in range(runs):
        recognised = rng.beta(3, 1, len(labels))  # how often: images differ in that
        right = rng.random((3, len(labels))) < recognised
        (found,) = score([Answers("a", np.where(right, labels, 1 - labels))], labels, 2, seed=i)
        row = interval(found.balanced_accuracy)
        hits += row["low"] <= 0.75 <= row["high"]  # the mean of that beta distribution
    assert 0.88 < hits / runs <= 0.995


def test_the_seed_decides_everything():
    labels = labels_of(9, 4)
    arms = [answers_of(labels, 0.6, classes=2), answers_of(labels, 0.7, seed=1, classes=2)]
    first, again, other = (score(arms, labels, 2, seed=s)[1].balanced_accuracy for s in (0, 0, 1))
    assert (first == again).all() and (first[1:] != other[1:]).any() and (first[0] == other[0]).all()


def test_a_class_without_test_images_is_null_and_counts_nowhere():
    names, labels = ["a", "b", "c"], labels_of(9, 0, 5)
    arms = [answers_of(labels, 0.7), answers_of(labels, 0.5, seed=1, arm=BASELINE)]
    arms.append(answers_of(labels, 0.5, seed=2, arm=CANDIDATE))
    scores = dict(zip((a.arm for a in arms), score(arms, labels, 3), strict=True))
    rows = arms_json(list(scores), list(scores.values()), names)
    difference = difference_json(CANDIDATE, BASELINE, scores, names)
    classes = judge_classes(scores, names, [9, 0, 5])
    nothing = {"value": None, "low": None, "high": None}
    assert rows[0]["recall"]["b"] == difference["recall"]["b"] == classes[1]["difference"] == nothing
    assert classes[1]["verdict"] is None and classes[1]["weak"]
    assert all(np.isfinite(s.balanced_accuracy).all() and np.isfinite(s.macro_f1).all() for s in scores.values())
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
    return {"arm": arm, "against": against, "balanced_accuracy": row, "macro_f1": row, "recall": {}}


BETTER, WORSE, UNSURE, TINY = (0.01, 0.04, 0.07), (-0.07, -0.04, -0.01), (-0.01, 0.05, 0.11), (0.001, 0.004, 0.007)
NONE = (None, None, None)


@pytest.mark.parametrize(
    ("real", "over", "softmax", "expected"),
    [
        (BETTER, BETTER, BETTER, USE),
        (UNSURE, BETTER, UNSURE, USE),
        (BETTER, UNSURE, BETTER, NO_DIFFERENCE),  # what counts is oversampling
        (BETTER, TINY, BETTER, NO_DIFFERENCE),
        (BETTER, WORSE, BETTER, DO_NOT_USE),
        (WORSE, BETTER, BETTER, DO_NOT_USE),
        (BETTER, BETTER, WORSE, DO_NOT_USE),
        (UNSURE, UNSURE, WORSE, DO_NOT_USE),
        (BETTER, tuple(-x for x in reversed(TINY)), BETTER, NO_DIFFERENCE),
        (BETTER, tuple(-x for x in reversed(UNSURE)), BETTER, NO_DIFFERENCE),
        (BETTER, (0.0, 0.05, 0.1), BETTER, NO_DIFFERENCE),  # above zero, not at it
        (BETTER, NONE, BETTER, NO_DIFFERENCE),
    ],
)
def test_the_rule(real, over, softmax, expected):
    rows = [difference(arm, *row) for arm, row in zip(REAL_ARMS, (real, over, softmax), strict=True)]
    assert judge(rows) == expected
    others = [difference(arm, *BETTER, arm="synthetic only") for arm in REAL_ARMS]
    assert judge([*others, *rows]) == expected and judge([*rows, *others], "synthetic only") == USE
    assert judge(rows[1:]) == (expected if real is not WORSE else USE)  # an arm that was not trained


def scores_of(recall):
    """Scores of one seed with these draws of the recall (1 + B, K)."""
    recall = np.asarray(recall, float)[:, None]
    return Scores(recall, recall.mean(2), recall.mean(2), np.eye(recall.shape[2]))


def test_few_trainings_that_differ_make_a_wide_interval():
    """Images without end: what is left is the t interval of three trainings."""
    values = np.array([0.6, 0.7, 0.8])
    row = interval(np.tile(values, (40_001, 1)))
    half = 4.303 * values.std(ddof=1) / np.sqrt(3)
    assert (row["low"], row["value"], row["high"]) == pytest.approx((0.7 - half, 0.7, 0.7 + half), abs=0.02)


def test_trainings_that_differ_by_chance_on_few_images_do_not_count_twice():
    labels, widths = labels_of(40, 40), []
    for i in range(30):
        (found,) = score([answers_of(labels, 0.7, seed=i, classes=2)], labels, 2)
        row = interval(found.balanced_accuracy)
        widths.append((row["high"] - row["low"]) / 2)
    expected = 1.96 * np.sqrt(0.7 * 0.3 / (80 * 3))
    assert np.median(widths) == pytest.approx(expected, rel=0.25)


def test_classes_are_judged_by_their_own_recall():
    draws = np.linspace(-1, 1, 2001)[:, None] * 0.02  # an interval of ± 0.019
    draws = np.concatenate([draws[1000:1001], draws])
    gains = [0.1, -0.1, 0.01, 0.003, 0.1]
    scores = {CANDIDATE: scores_of(0.5 + np.array(gains) + draws), BASELINE: scores_of(np.full((2002, 5), 0.5))}
    n_test = [WEAK_TEST, WEAK_TEST - 1, 100, 100, MIN_TEST - 1]
    rows = judge_classes(scores, list("abcde"), n_test)
    assert [row["verdict"] for row in rows] == [USE, DO_NOT_USE, NO_DIFFERENCE, NO_DIFFERENCE, None]
    assert [row["weak"] for row in rows] == [False, True, False, False, True]
    assert [row["n_test"] for row in rows] == n_test and rows[0]["difference"]["value"] == pytest.approx(0.1)


def test_intervals_of_classes_are_widened_for_the_number_that_is_judged():
    rng = np.random.default_rng(0)
    draws = np.concatenate([[0.0], rng.normal(0, 0.05, 20_000)])
    widths = []
    for classes, tested in ((1, 1), (10, 10), (10, 1)):
        scores = {CANDIDATE: scores_of(np.tile(draws[:, None], (1, classes))), BASELINE: scores_of([[0.0] * classes])}
        n_test = [50] * tested + [MIN_TEST - 1] * (classes - tested)
        row = judge_classes(scores, [str(k) for k in range(classes)], n_test)[0]["difference"]
        widths.append((row["high"] - row["low"]) / 2 / 0.05)
    assert widths == pytest.approx([1.96, 2.807, 1.96], rel=0.04)  # 95% and 99.5% of a normal


def test_a_surely_better_class_may_be_unsure_among_many():
    draws = np.concatenate([[0.1], np.random.default_rng(0).normal(0.1, 0.045, 5000)])  # 2.2 deviations above 0
    for classes, expected in ((1, USE), (20, NO_DIFFERENCE)):
        scores = {CANDIDATE: scores_of(np.tile(draws[:, None], (1, classes))), BASELINE: scores_of([[0.0] * classes])}
        rows = judge_classes(scores, [str(k) for k in range(classes)], [50] * classes)
        assert {row["verdict"] for row in rows} == {expected}


def test_the_headline_names_the_arm_that_decided():
    worst = (-0.2, -0.15, -0.1)
    rows = [difference(arm, *row) for arm, row in zip(REAL_ARMS, (WORSE, BETTER, worst), strict=True)]
    others = [difference(arm, -0.9, -0.8, -0.7, arm="synthetic only") for arm in REAL_ARMS]
    text = headline(judge(rows), [*others, *rows])
    assert "balanced softmax" in text and "-15.0 points" in text and "-20.0 to -10.0" in text and "worse" in text
    rows = [difference(arm, *BETTER) for arm in REAL_ARMS]
    text = headline(judge(rows), rows)
    assert "+4.0 points" in text and "oversampling" in text and "better" in text and f"{LEVEL:.0%}" in text
    rows = [difference(arm, *row) for arm, row in zip(REAL_ARMS, (BETTER, UNSURE, BETTER), strict=True)]
    assert "No clear difference" in headline(judge(rows), rows) and "+5.0 points" in headline(judge(rows), rows)


def utility(verdict, gain=0.02):
    rows = [difference(BASELINE, 0.9, 0.9, 0.9, arm="synthetic only"), difference("real only", 0.8, 0.8, 0.8)]
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


def test_any_of_three_arms_has_to_be_surer_to_speak_against_the_images():
    """2.2 deviations: enough for one comparison, not for one of three."""
    draws = np.concatenate([[-0.1], np.random.default_rng(0).normal(-0.1, 0.0455, 5000)])
    scores = {CANDIDATE: scores_of(np.tile(draws[:, None], (1, 2))), BASELINE: scores_of([[0.0, 0.0]])}
    row = difference_json(CANDIDATE, BASELINE, scores, ["a", "b"])
    assert row["balanced_accuracy"]["high"] < 0 < row["balanced_accuracy_widened"]["high"]
    assert judge([row]) == NO_DIFFERENCE
    assert judge([{**row, "balanced_accuracy_widened": row["balanced_accuracy"]}]) == DO_NOT_USE
