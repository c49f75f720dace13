"""The arms of wide residual networks: what they draw, that they learn, and their scores."""

import numpy as np
import pytest
import torch
from helpers import patterns, pool

from balancegan.verdict import converged
from balancegan.verdict.converged import ARMS, SharedArm, rarest, recalls, train_arms

CPU = torch.device("cpu")
REAL = pool((patterns(0, 48), 0), (patterns(1, 6), 1), (patterns(2, 24), 2))
GENERATED = pool((patterns(0, 12, seed=2), 0), (patterns(1, 30, seed=2), 1))  # none of class 2
TEST = pool(*((patterns(label, 12, seed=1), label) for label in range(3)))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(converged, "BATCH", 16)


@pytest.fixture
def drawn(monkeypatch):
    """The draws of every arm; nothing is trained."""
    found = []
    monkeypatch.setattr(converged, "train", lambda network, shelf, draw, **rest: found.append((shelf, draw, rest)))
    outcomes = list(train_arms(REAL, GENERATED, TEST, 3, flips=True, device=CPU, seeds=(0,)))
    return dict(zip((o.arm for o in outcomes), found, strict=True))


@pytest.mark.parametrize(("arm", "share"), [("oversampling", 0), ("half generated", 0.5), ("quarter generated", 0.25)])
def test_classes_are_drawn_equally_often_and_a_share_of_them_is_generated(drawn, arm, share):
    shelf, draw, _ = drawn[arm]
    labels, generated = shelf.labels.numpy()[draw.rows], draw.rows >= len(REAL)
    for label in range(3):
        mine = labels == label
        assert draw.often[mine].sum() == pytest.approx(1 / 3)
        expected = share / 3 if label < 2 else 0  # where nothing was generated all draws are real
        assert draw.often[mine & generated].sum() == pytest.approx(expected)
    assert draw.log_prior is None and not (draw.rows >= len(REAL) + len(GENERATED)).any()


def test_balanced_softmax_draws_images_equally_often_and_adds_the_prior(drawn):
    _, draw, rest = drawn["balanced softmax"]
    assert np.allclose(draw.often[: len(REAL)], 1 / len(REAL)) and not draw.often[len(REAL) :].any()
    np.testing.assert_allclose(draw.log_prior, np.log([48, 6, 24]), rtol=1e-6)
    assert rest["augment"] and rest["flips"] and rest["updates"] == converged.UPDATES


def test_a_classifier_learns_and_its_scores_agree():
    rng = np.random.default_rng(0)
    real, test = (
        pool(*((rng.integers(80 * k, 80 * k + 40, (n, 1, 16, 16), np.uint8), k) for k, n in enumerate((24, 4, 8))))
        for _ in range(2)
    )
    arms = [SharedArm("oversampling"), SharedArm("half generated", 0.5)]
    found = list(train_arms(real, real, test, 3, flips=False, device=CPU, seeds=(0, 1), updates=16, arms=arms))
    assert [(o.arm, o.seed) for o in found] == [(a.name, s) for s in (0, 1) for a in arms]
    for one in found:
        assert one.learned and one.training_accuracy > 0.9 and one.balanced_accuracy > 0.8
        assert one.balanced_accuracy == pytest.approx(np.mean(one.recall)) and one.rare_recall == one.recall[1]


def test_equal_seeds_give_equal_classifiers():
    run = {"flips": True, "device": CPU, "seeds": (3,), "updates": 2, "arms": ARMS[2:3]}
    assert list(train_arms(REAL, GENERATED, TEST, 3, **run)) == list(train_arms(REAL, GENERATED, TEST, 3, **run))


def test_a_classifier_that_has_not_learned_says_so():
    (one,) = train_arms(REAL, GENERATED, TEST, 3, flips=False, device=CPU, seeds=(0,), updates=1, arms=ARMS[:1])
    assert not one.learned


def test_classes_without_test_images_have_no_recall(drawn):
    test = pool((patterns(0, 4, seed=1), 0), (patterns(2, 4, seed=1), 2))
    (one,) = train_arms(REAL, GENERATED, test, 3, flips=False, device=CPU, seeds=(0,), arms=ARMS[:1])
    assert one.recall[1] is None and one.rare_recall is None and 0 <= one.balanced_accuracy <= 1


def test_the_rarest_third_has_at_least_one_class_and_only_classes_with_images():
    assert rarest(np.array([9, 3])).tolist() == [1]
    assert rarest(np.array([0, 5, 4, 3])).tolist() == [3]
    assert rarest(np.arange(10, 0, -1)).tolist() == [7, 8, 9]


def test_recall_is_the_share_of_a_class_that_is_recognised():
    found = recalls(np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), 3)
    np.testing.assert_array_equal(found, [0.5, 0.5, np.nan])
