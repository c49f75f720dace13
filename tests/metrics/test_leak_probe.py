import numpy as np
import pytest

from balancegan.metrics import leak_probe as module
from balancegan.metrics.leak_probe import leak_probe, steady_features


def objects(count, shots, *, seed=0, spread=0.02, dim=12):
    """Features of `count` objects, photographed `shots` times each, and their groups."""
    rng = np.random.default_rng(seed)
    feats = rng.normal(size=(count, dim)).repeat(shots, axis=0) + spread * rng.normal(size=(count * shots, dim))
    return feats.astype(np.float32), np.arange(count).repeat(shots)


def probe(feats, groups, test, *, known=True, names=("a",), labels=None):
    labels = np.zeros(len(feats), np.int64) if labels is None else labels
    return leak_probe(
        feats_test=feats[test], feats_train=feats[~test], labels_test=labels[test], labels_train=labels[~test],
        groups=groups[~test] if known else None, groups_test=groups[test] if known else None, names=names,
    )  # fmt: skip


def test_a_random_split_of_siblings_leaks():
    feats, groups = objects(60, 5)
    test = np.random.default_rng(0).random(len(feats)) < 0.2
    found = probe(feats, groups, test)
    assert found["leak"] and found["closer_share"] > 0.9 and found["p_value"] < 1e-6
    assert found["shared"] == np.isin(groups[test], groups[~test]).sum()
    assert f"{found['shared']} of {test.sum()} test images have siblings" in found["text"]
    unknown = leak_probe(
        feats_test=feats[test], feats_train=feats[~test], labels_test=np.zeros(test.sum(), np.int64),
        labels_train=np.zeros((~test).sum(), np.int64), groups=groups[~test], names=("a",),
    )  # fmt: skip
    assert unknown["leak"] and "shared" not in unknown and "--group-by" in unknown["text"]


def test_a_split_by_groups_does_not_leak():
    fired = []
    for seed in range(40):
        feats, groups = objects(60, 5, seed=seed)
        fired.append(probe(feats, groups, np.isin(groups, np.random.default_rng(seed).permutation(60)[:12]))["leak"])
    assert not any(fired)


def test_large_groups_that_happen_to_be_near_do_not_count_as_many():
    """Two objects alike, one on either side: thirty near test images, but no more evidence than one."""
    feats, groups = objects(40, 30, spread=0.001)
    feats[groups == 1] += feats[groups == 0] - feats[groups == 1] + 0.01
    test = np.isin(groups, [1, 7, 8, 9])
    found = probe(feats, groups, test)
    assert found["closer_share"] == pytest.approx(0.25, abs=0.05) and not found["leak"]
    independent = probe(feats, groups, test, known=False)
    assert independent["closer_share"] == 0  # siblings in training hide everything


def test_one_leaking_class_is_named():
    sides = [objects(40, 4, seed=s) for s in range(6)]
    feats = np.concatenate([f for f, _ in sides])
    groups = np.concatenate([g + 100 * k for k, (_, g) in enumerate(sides)])
    labels = np.arange(6).repeat(160)
    test = np.isin(groups % 100, range(8))
    test[labels == 3] = np.random.default_rng(0).random(160) < 0.2
    found = probe(feats, groups, test, labels=labels, names="abcdef")
    assert found["leak"] and found["classes"] == ["d"] and "(d 31)" in found["text"]


def test_copies_across_a_split_are_found_without_groups():
    feats, groups = objects(300, 1)
    feats = np.concatenate([feats, feats[:30] + 0.01])
    found = probe(feats, groups, np.arange(330) >= 270, known=False)
    assert found["leak"] and found["closer_share"] == pytest.approx(0.5, abs=0.1)


def test_known_siblings_are_a_leak_even_if_nothing_can_be_measured():
    feats, groups = objects(3, 4)
    found = probe(feats, groups, np.arange(12) % 4 == 0)
    assert not found["measured"] and found["leak"] and "3 of 3 test images have siblings" in found["text"]
    few = probe(*objects(150, 1), np.arange(150) < 120)
    assert "shared" not in few and not few["leak"]


def test_nothing_to_measure_is_said():
    feats, groups = objects(3, 4)
    found = probe(feats, groups, groups == 0)
    assert not found["measured"] and not found["leak"] and "not measured" in found["text"]
    assert not probe(feats, groups, np.zeros(len(feats), bool))["measured"]


def test_distances_leave_out_the_own_group():
    rng = np.random.default_rng(0)
    feats, groups = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 9, 40)
    slow = [min(np.linalg.norm(f - g) for g, other in zip(feats, groups, strict=True) if other != own)
            for f, own in zip(feats, groups, strict=True)]  # fmt: skip
    assert module._nearest_other(feats, feats, groups, groups) == pytest.approx(slow, abs=1e-5)


def test_features_ignore_exposure_and_survive_flat_images():
    images = np.random.default_rng(0).integers(60, 180, (4, 3, 32, 32), dtype=np.uint8)
    brighter = np.clip(images * 1.2 + 20, 0, 255).astype(np.uint8)
    feats, other = steady_features(images), steady_features(brighter)
    assert np.linalg.norm(feats - other, axis=1).max() < 0.1 < np.linalg.norm(feats[0] - feats[1])
    assert not steady_features(np.full((2, 1, 16, 16), 9, np.uint8)).any()
    assert steady_features(images[:0]).shape == (0, 256)
