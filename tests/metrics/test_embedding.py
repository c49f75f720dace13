import json

import numpy as np
import pytest

from balancegan.metrics.embedding import COMPONENTS, equal_shares, feature_embedding, tsne


def clusters(sizes, d=12, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(8 * k, 1, (n, d)).astype(np.float32) for k, n in enumerate(sizes)]


def test_clusters_stay_apart_and_the_seed_repeats():
    a, b = clusters((30, 30))
    layout = tsne(np.concatenate([a, b]), seed=3)
    assert layout.shape == (60, 2) and layout.dtype == np.float32
    distances = np.linalg.norm(layout[:, None] - layout[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert ((distances.argmin(axis=1) < 30) == (np.arange(60) < 30)).all()  # neighbours are of one's own cluster
    assert (tsne(np.concatenate([a, b]), seed=3) == layout).all()


def test_features_are_standardised():
    """A feature in other units, or a constant one, changes nothing."""
    x = np.concatenate(clusters((12, 12)))
    scaled = np.concatenate([x * np.float32(1024), np.full((24, 1), 5.0, np.float32)], axis=1)
    assert tsne(scaled) == pytest.approx(tsne(x), abs=1e-2)


@pytest.mark.parametrize(("n", "d"), [(5, 1), (5, 300), (9, 2), (40, COMPONENTS + 7)])
def test_few_points_and_odd_dimensions(n, d):
    layout = tsne(np.random.default_rng(0).normal(size=(n, d)))
    assert layout.shape == (n, 2) and np.isfinite(layout).all()


def test_equal_rows_and_too_few():
    assert (tsne(np.ones((8, 4), np.float32)) == 0).all()
    with pytest.raises(ValueError, match="4 points"):
        tsne(np.eye(4))


@pytest.mark.parametrize(
    ("counts", "limit", "taken"),
    [
        ([100, 100], 60, [30, 30]),
        ([4, 100, 100], 60, [4, 28, 28]),
        ([4, 3], 60, [4, 3]),
        ([100, 0, 100], 61, [30, 0, 31]),
        ([5, 5, 5], 2, [0, 1, 1]),
        ([], 5, []),
    ],
)
def test_equal_shares(counts, limit, taken):
    assert equal_shares(counts, limit) == taken


def test_real_and_synthetic():
    real, fake = clusters((90, 6, 20)), clusters((0, 90, 20), seed=1)
    found = feature_embedding(("a", "b", "c"), real, fake, seed=1, limit=120, features="Inception features")
    assert found["id"] == "features" and "Inception features" in found["caption"] and "little" in found["caption"]
    pairs = list(zip(found["label"], found["fake"], strict=True))
    assert {pair: pairs.count(pair) for pair in sorted(set(pairs))} == {
        **{(0, False): 40, (1, False): 6, (1, True): 34},
        **{(2, False): 20, (2, True): 20},
    }
    assert len(found["x"]) == len(found["y"]) == 120
    assert max(map(abs, found["x"] + found["y"])) == 1
    json.dumps(found, allow_nan=False)
    again = feature_embedding(("a", "b", "c"), real, fake, seed=1, limit=120, features="Inception features")
    assert found == again


def test_no_picture_of_next_to_nothing():
    assert feature_embedding(("a",), [np.ones((2, 3))], [np.ones((2, 3))]) is None
