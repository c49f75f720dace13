"""The Inception Score against its definition by loops and torch-fidelity, and the logits it is computed from."""

import math

import numpy as np
import pytest
import torch

from balancegan.core.errors import WeightsMissingError
from balancegan.metrics.inception import InceptionExtractor, _inception
from balancegan.metrics.inception_net import TOLERANCE
from balancegan.metrics.inception_score import inception_score


def some_logits(n, k=7, seed=0, scale=3.0):
    return (scale * np.random.default_rng(seed).normal(size=(n, k))).astype(np.float32)


def slow(logits, splits):
    """Probabilities and divergences one by one."""
    rows = [[math.exp(float(v)) for v in row] for row in logits]
    p = [[v / sum(row) for v in row] for row in rows]
    n, k, scores = len(p), len(p[0]), []
    for i in range(splits):
        part = p[i * n // splits : (i + 1) * n // splits]
        q = [sum(row[y] for row in part) / len(part) for y in range(k)]
        kl = [sum(row[y] * math.log(row[y] / q[y]) for y in range(k)) for row in part]
        scores.append(math.exp(sum(kl) / len(kl)))
    mean = sum(scores) / splits
    return mean, math.sqrt(sum((s - mean) ** 2 for s in scores) / splits)


@pytest.mark.parametrize(("n", "splits"), [(20, 1), (20, 4), (23, 5), (5, 5)])
def test_against_the_definition(n, splits):
    logits = some_logits(n)
    assert inception_score(logits, splits=splits, seed=None) == pytest.approx(slow(logits, splits), rel=1e-9)


@pytest.mark.parametrize("n", [200, 203])
def test_against_torch_fidelity(n):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = some_logits(n, k=50)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    expected = (theirs["inception_score_mean"], theirs["inception_score_std"])
    assert inception_score(logits, seed=None) == pytest.approx(expected, rel=1e-9)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    shuffled = logits[np.random.RandomState(2020).permutation(n)]
    expected = (theirs["inception_score_mean"], theirs["inception_score_std"])
    assert inception_score(shuffled, seed=None) == pytest.approx(expected, rel=1e-9)


def test_bounds_are_reached():
    sure = 1000.0 * np.eye(6)[np.arange(60) % 6]  # so sure that the other probabilities are 0 in float64
    assert inception_score(sure, splits=1) == pytest.approx((6.0, 0.0))
    assert inception_score(np.zeros((60, 6)), splits=3) == pytest.approx((1.0, 0.0))
    assert inception_score(some_logits(1), splits=1) == pytest.approx((1.0, 0.0))


def test_logarithms_of_probabilities_do_as_well():
    logits = some_logits(30).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert inception_score(np.log(p)) == pytest.approx(inception_score(logits), rel=1e-9)


def test_images_sorted_by_class_are_shuffled_by_a_seed():
    logits = 8.0 * np.eye(5)[np.repeat(np.arange(5), 20)]
    assert inception_score(logits, splits=5, seed=None)[0] == pytest.approx(1.0)
    assert inception_score(logits, splits=5)[0] > 3
    assert inception_score(logits, splits=5, seed=1) == inception_score(logits, splits=5, seed=1)
    assert inception_score(logits, splits=5, seed=1) != inception_score(logits, splits=5, seed=2)


@pytest.mark.parametrize(
    ("logits", "splits", "match"),
    [
        (np.zeros((9, 4)), 10, "9 images cannot be divided into 10 splits"),
        (np.zeros((9, 4)), 0, "splits"),
        (np.zeros((0, 4)), 1, "0 images"),
        (np.zeros(9), 1, "must be"),
        (np.full((9, 4), np.nan), 1, "finite"),
        (np.full((9, 4), -np.inf), 1, "finite"),
    ],
)
def test_unusable_logits(logits, splits, match):
    with pytest.raises(ValueError, match=match):
        inception_score(logits, splits=splits)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Random weights with and without a classifier, and torch-fidelity's network with those that have one."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        state = _inception({}, "none").state_dict()
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / "whole.pth")
    without = {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(without, folder / "headless.pth")
    return folder


def test_logits_are_torch_fidelitys(networks):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    layers = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3("both", layers, feature_extractor_weights_path=networks / "whole.pth")
    theirs.eval()
    with torch.inference_mode():
        expected_features, expected = (value.numpy() for value in theirs(torch.from_numpy(images)))
    extractor = InceptionExtractor(networks / "whole.pth", batch_size=3)
    features = extractor(images)
    assert np.linalg.norm(features - expected_features) < TOLERANCE * np.linalg.norm(expected_features)
    logits = extractor.classify(features)
    assert extractor.has_head and logits.shape == (3, 1008) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_without_a_classifier_there_are_no_logits(networks):
    extractor = InceptionExtractor(networks / "headless.pth")
    assert not extractor.has_head
    with pytest.raises(WeightsMissingError, match="no classifier"):
        extractor.classify(np.zeros((2, 2048), np.float32))
