"""KID against its definition and torch-fidelity, and its directions."""

import numpy as np
import pytest
import torch

from balancegan.metrics import kid
from balancegan.metrics.kid import kernel_distance


def features(n, shift=0.0, seed=0, dim=6):
    return (np.random.default_rng(seed).normal(size=(n, dim)) + shift).astype(np.float32)


def slow(real, fake):
    """The unbiased estimate by loops over pairs."""
    d = real.shape[1]
    k = lambda a, b: (float(a @ b) / d + 1) ** 3  # noqa: E731
    n, m = len(real), len(fake)
    rr = sum(k(real[i], real[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    ff = sum(k(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return rr + ff - 2 * sum(k(a, b) for a in real for b in fake) / (n * m)


def test_whole_sets_equal_the_definition():
    real, fake = features(7), features(7, 0.5, seed=1)
    mean, std, size = kernel_distance(feats_real=real, feats_fake=fake)
    assert mean == pytest.approx(slow(real.astype(float), fake.astype(float)), rel=1e-9)
    assert std == 0 and size == 7  # exactly: there is one subset only


def test_subsets_equal_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = features(300, dim=16), features(260, 0.3, seed=1, dim=16)
    mean, std, _ = kernel_distance(feats_real=real, feats_fake=fake, subsets=200, subset_size=100)
    theirs = kid_features_to_metric(
        torch.from_numpy(real),
        torch.from_numpy(fake),
        kid_subsets=200,
        kid_subset_size=100,
        kid_degree=3,
        kid_gamma=None,
        kid_coef0=1,
        rng_seed=3,
        verbose=False,
    )
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=0.05)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.3)


def test_grows_with_the_distance_and_is_about_zero_for_equal_distributions():
    real = features(200)
    same, near, far = (
        kernel_distance(feats_real=real, feats_fake=features(200, s, seed=5))[0] for s in (0.0, 0.3, 1.0)
    )
    assert abs(same) < 0.1 * near < near < far


def test_does_not_depend_on_the_number_of_images():
    large = kernel_distance(feats_real=features(2000), feats_fake=features(2000, 0.5, seed=1))[0]
    small = [
        kernel_distance(feats_real=features(20, seed=s), feats_fake=features(500, 0.5, seed=99 + s))[0]
        for s in range(60)
    ]
    assert np.mean(small) == pytest.approx(large, rel=0.15)


def test_same_seed_same_value():
    sets = {"feats_real": features(50), "feats_fake": features(90, 1.0, seed=1)}
    assert kernel_distance(**sets, seed=4) == kernel_distance(**sets, seed=4)
    assert kernel_distance(**sets, seed=4)[0] != kernel_distance(**sets, seed=5)[0]


def test_bad_input_is_refused():
    good = features(5)
    for bad in (good[:1], good[:, :3], np.full((5, 6), np.nan, np.float32), good[0]):
        with pytest.raises(ValueError):
            kernel_distance(feats_real=good, feats_fake=bad)


def plain(real, fake, subsets, size, seed=0):
    """All kernels in double precision, and rows and columns picked out of them."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    k_rr, k_ff, k_rf = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((real, real), (fake, fake), (real, fake)))
    rng, values = np.random.default_rng(seed), []
    for _ in range(subsets):
        r, f = (rng.permutation(n)[:size] for n in (len(real), len(fake)))
        within = sum(k.sum() - k.trace() for k in (k_rr[np.ix_(r, r)], k_ff[np.ix_(f, f)]))
        values.append(within / (size * (size - 1)) - 2 * k_rf[np.ix_(r, f)].mean())
    return np.mean(values), np.std(values)


@pytest.mark.parametrize("subsets", [3, 40])  # where the subsets cost less, and where all kernels do
@pytest.mark.parametrize(("size", "tolerance"), [(60, 1e-12), (300, 1e-7)])  # in double and in single precision
def test_blocks_equal_the_plain_way(monkeypatch, subsets, size, tolerance):
    monkeypatch.setattr(kid, "_BLOCK", 128)
    real, fake = features(700, dim=16), features(500, 0.1, seed=1, dim=16)
    mean, std, _ = kernel_distance(feats_real=real, feats_fake=fake, subsets=subsets, subset_size=size)
    assert (mean, std) == pytest.approx(plain(real, fake, subsets, size), abs=tolerance)
