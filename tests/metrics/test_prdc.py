"""Precision, recall, density and coverage against loops and torch-fidelity, and in which direction they move."""

import math

import numpy as np
import pytest

from balancegan.metrics import prdc as module
from balancegan.metrics.prdc import PRDC, prdc


def cloud(n, d=6, seed=0, scale=1.0, shift=0.0):
    return (scale * np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def slow(real, fake, k):
    """Every distance by itself, every ball against every image."""
    real, fake = [[float(v) for v in row] for row in real], [[float(v) for v in row] for row in fake]

    def radius(rows, i):
        others = sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)
        return others[k - 1]

    radii_real = [radius(real, i) for i in range(len(real))]
    radii_fake = [radius(fake, j) for j in range(len(fake))]
    in_real = [[math.dist(r, f) < radii_real[i] for i, r in enumerate(real)] for f in fake]
    in_fake = [[math.dist(r, f) < radii_fake[j] for j, f in enumerate(fake)] for r in real]
    return PRDC(
        precision=sum(map(any, in_real)) / len(fake),
        recall=sum(map(any, in_fake)) / len(real),
        density=sum(map(sum, in_real)) / (k * len(fake)),
        coverage=sum(any(row[i] for row in in_real) for i in range(len(real))) / len(real),
        k=k,
    )


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 5), (25, 50, 3), (50, 25, 1), (7, 9, 6)])
def test_against_loops(n, m, k):
    real, fake = cloud(n), cloud(m, seed=1, scale=0.8, shift=0.4)
    assert prdc(feats_real=real, feats_fake=fake, k=k) == slow(real, fake, k)


@pytest.mark.parametrize("seed", range(5))
def test_repeats_and_ties_against_loops(seed):
    # Points of a small grid: many equal rows, and distances that tie exactly.
    rng = np.random.default_rng(seed)
    real, fake = rng.integers(0, 4, (40, 2)).astype(np.float32), rng.integers(0, 4, (30, 2)).astype(np.float32)
    for k in (1, 3, 5):
        assert prdc(feats_real=real, feats_fake=fake, k=k) == slow(real, fake, k)


def test_ties_far_from_the_origin():
    # Around 1e6 a difference of products has no digit left for distances of 1.
    grid = np.random.default_rng(3).integers(0, 3, (30, 3)) + 1e6
    real, fake = grid[:18], grid[12:]
    assert prdc(feats_real=real, feats_fake=fake, k=3) == slow(real, fake, 3)


@pytest.mark.parametrize(("n", "m", "k"), [(60, 60, 3), (80, 45, 5)])
def test_against_torch_fidelity(n, m, k):
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    torch = pytest.importorskip("torch")
    real, fake = cloud(n, 32), cloud(m, 32, seed=1, scale=0.9)
    theirs = metric.prc_features_to_metric(
        torch.from_numpy(fake).double(), torch.from_numpy(real).double(), prc_neighborhood=k, verbose=False
    )
    ours = prdc(feats_real=real, feats_fake=fake, k=k)
    assert 0 < ours.recall < 1 or 0 < ours.precision < 1
    assert (ours.precision, ours.recall) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_equal_sets():
    real = cloud(60)
    assert prdc(feats_real=real, feats_fake=real[::-1]) == PRDC(1.0, 1.0, 1.0, 1.0, 5)


def test_collapsed_fakes_are_precise_and_recall_nothing():
    real = cloud(100)
    one = real.mean(axis=0, keepdims=True)
    for fake in (one.repeat(80, axis=0), one + cloud(80, seed=1, scale=1e-3)):
        found = prdc(feats_real=real, feats_fake=fake)
        assert found.precision == 1.0 and found.recall <= 0.01 and found.coverage < 0.7
        assert found.density > 1.5  # the middle is crowded, and density alone would praise that


def test_copies_of_one_real_image():
    found = prdc(feats_real=(real := cloud(50)), feats_fake=real[:1].repeat(20, axis=0))
    assert found.precision == 1.0 and found.recall == 0.0 and 0 < found.coverage < 0.5


def test_far_away_fakes_have_nothing():
    found = prdc(feats_real=cloud(50), feats_fake=cloud(50, seed=1, shift=100.0))
    assert found == PRDC(0.0, 0.0, 0.0, 0.0, 5)


def test_fakes_spread_too_wide_recall_much_and_are_not_precise():
    found = prdc(feats_real=cloud(100, 4), feats_fake=cloud(100, 4, seed=1, scale=5.0))
    assert found.precision < 0.2 and found.recall > 0.8 and found.density < 0.2


def test_roles():
    real, fake = cloud(50), cloud(60, seed=1, scale=0.5)
    there, back = prdc(feats_real=real, feats_fake=fake), prdc(feats_real=fake, feats_fake=real)
    assert (there.precision, there.recall) == (back.recall, back.precision)


@pytest.mark.parametrize("block", [1, 7, 32])
def test_neither_blocks_nor_order_change_the_result(block, monkeypatch):
    # Half of the fakes are real images: their distances are radii too, and must come out equal to the last bit.
    real = cloud(70, 48)
    fake = np.concatenate([real[:30], cloud(25, 48, seed=1)])
    whole = prdc(feats_real=real, feats_fake=fake)
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_PAIRS", 100)
    assert prdc(feats_real=real, feats_fake=fake) == whole == slow(real, fake, 5)
    assert prdc(feats_real=real[::-1], feats_fake=fake[::-1]) == whole


def test_constant_features_have_no_balls():
    flat = np.ones((30, 8), np.float32)
    assert prdc(feats_real=flat, feats_fake=flat) == PRDC(0.0, 0.0, 0.0, 0.0, 5)
    assert prdc(feats_real=flat * 0.0, feats_fake=flat * -0.0).density == 0.0


def test_k_shrinks_and_says_so():
    real, fake = cloud(30), cloud(4, seed=1)
    assert prdc(feats_real=real, feats_fake=fake).k == 3
    assert prdc(feats_real=real, feats_fake=fake) == prdc(feats_real=real, feats_fake=fake, k=3)
    assert prdc(feats_real=real[:2], feats_fake=fake, k=5).k == 1


@pytest.mark.parametrize(
    ("real", "fake", "k", "match"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), 5, "two images"),
        (np.zeros((5, 4)), np.zeros((0, 4)), 5, "two images"),
        (np.zeros((5, 4)), np.zeros((5, 3)), 5, "must be"),
        (np.zeros(5), np.zeros((5, 3)), 5, "must be"),
        (np.full((5, 4), np.nan), np.zeros((5, 4)), 5, "finite"),
        (np.zeros((5, 4)), np.full((5, 4), np.inf), 5, "finite"),
        (np.zeros((5, 4)), np.zeros((5, 4)), 0, "at least 1, got 0"),
    ],
)
def test_unusable_features(real, fake, k, match):
    with pytest.raises(ValueError, match=match):
        prdc(feats_real=real, feats_fake=fake, k=k)
