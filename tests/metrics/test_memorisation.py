import numpy as np
import pytest

from balancegan.metrics import memorisation
from balancegan.metrics.memorisation import (
    FALLBACK_THRESHOLD,
    MAX_SIDE,
    MEDIAN_FRACTION,
    MIN_HOLDOUT,
    copy_rate,
    copy_threshold,
    crowded_threshold,
    intrinsic_dimension,
    nearest,
    pixel_features,
    spacing,
)


def real_near_counts(train, holdout, threshold):
    away = np.empty(0, np.float32) if holdout is None else nearest(holdout, train)[0]
    return memorisation.real_near_counts(spacing(train), away, threshold)


def random_images(n, channels=3, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def brute_force(query, reference):
    table = np.sqrt(((query[:, None].astype(np.float64) - reference[None]) ** 2).sum(axis=2))
    return table.min(axis=1), table.argmin(axis=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 24, 32, 50])
def test_features_are_rms_differences_of_the_pixel_range(channels, side):
    black = np.zeros((1, channels, side, side), np.uint8)
    grey, white = np.full_like(black, 51), np.full_like(black, 255)
    features = pixel_features(np.concatenate([black, grey, white]))
    assert features.dtype == np.float32
    assert features.shape == (3, channels * MAX_SIDE**2)
    assert np.linalg.norm(features[2] - features[0]) == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(features[1] - features[0]) == pytest.approx(0.2, abs=1e-5)


def test_features_average_areas():
    image = np.zeros((1, 1, 32, 32), np.uint8)
    image[0, 0, 0, 0] = 200  # one of the four pixels behind the first small pixel
    assert pixel_features(image)[0, 0] == pytest.approx(50 / 255 / MAX_SIDE)


def test_images_smaller_than_the_comparison_size_keep_their_pixels():
    image = random_images(1, 1, 8)
    assert pixel_features(image)[0] * 255 * 8 == pytest.approx(image.ravel(), abs=1e-3)


def test_nearest_is_brute_force_across_blocks():
    query, reference = pixel_features(random_images(700, 1, 16, 1)), pixel_features(random_images(90, 1, 16, 2))
    distances, indices = nearest(query, reference)
    expected, winners = brute_force(query, reference)
    assert distances == pytest.approx(expected, rel=1e-6)
    assert (indices == winners).all()


def test_nearest_finds_an_exact_copy_among_close_neighbours():
    base = np.full((1, 1, 16, 16), 250, np.uint8)
    reference = np.repeat(base, 200, axis=0)
    for i in range(200):
        reference[i, 0, i // 16, i % 16] += 1  # all within one grey level of one pixel
    features = pixel_features(reference)
    distances, indices = nearest(features[77:78], features)
    assert distances[0] == 0.0
    assert indices[0] == 77


def test_exclude_self():
    features = pixel_features(random_images(600, 1, 16))
    features[599] = features[0]
    distances, indices = nearest(features, features, exclude_self=True)
    assert (indices != np.arange(600)).all()
    assert indices[0] == 599 and distances[0] == 0.0
    with pytest.raises(ValueError, match="same rows"):
        nearest(features[:3], features, exclude_self=True)


@pytest.mark.parametrize(("m", "exclude_self"), [(0, False), (1, True)])
def test_nothing_to_compare_with(m, exclude_self):
    features = pixel_features(random_images(m, 1, 16))
    query = features if exclude_self else pixel_features(random_images(2, 1, 16))
    distances, indices = nearest(query, features, exclude_self=exclude_self)
    assert np.isinf(distances).all() and (indices == -1).all()


def test_no_queries():
    distances, indices = nearest(np.empty((0, 256), np.float32), pixel_features(random_images(3, 1, 16)))
    assert distances.shape == indices.shape == (0,)


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match="must be"):
        nearest(np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32))


def test_threshold_is_a_low_percentile_of_real_distances():
    features = pixel_features(random_images(200, 1, 16))
    distances, _ = nearest(features, features, exclude_self=True)
    assert copy_threshold(features) == pytest.approx(np.percentile(distances, 1.0))
    assert copy_threshold(features, 50.0) == pytest.approx(np.median(distances))


def test_duplicates_among_real_images_do_not_lower_the_threshold():
    features = pixel_features(random_images(30, 1, 16))
    assert copy_threshold(np.concatenate([features, features[:5]])) == copy_threshold(features)


def test_near_duplicates_do_not_switch_the_threshold_off():
    features = pixel_features(random_images(30, 1, 16))
    close = features[:1] + np.float32(1e-6)
    with_close = np.concatenate([features, close])
    distances, _ = nearest(with_close, with_close, exclude_self=True)
    assert np.percentile(distances, 1.0) < 1e-3
    assert copy_threshold(with_close) == pytest.approx(MEDIAN_FRACTION * np.median(distances), rel=1e-5)


@pytest.mark.parametrize("distinct", [0, 1, 2])
def test_too_few_distinct_images_fall_back(distinct):
    features = pixel_features(random_images(distinct, 1, 16))
    assert copy_threshold(np.repeat(features, 3, axis=0)) == FALLBACK_THRESHOLD


def test_a_noisy_copy_is_below_the_threshold_and_a_new_image_is_not():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (40, 1, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    train = pixel_features(smooth[:30].astype(np.uint8))
    copies = np.clip(smooth[:10] + rng.normal(0, 10, smooth[:10].shape), 0, 255).astype(np.uint8)
    threshold = copy_threshold(train)
    assert (nearest(pixel_features(copies), train)[0] < threshold).all()
    assert (nearest(pixel_features(smooth[30:].astype(np.uint8)), train)[0] > 0.5 * threshold).all()


@pytest.mark.parametrize("dimension", [2, 6])
def test_intrinsic_dimension_of_a_cube_inside_many_dimensions(dimension):
    rng = np.random.default_rng(0)
    cube = rng.uniform(size=(600, dimension))
    turned = (cube @ np.linalg.qr(rng.normal(size=(50, dimension)))[0].T).astype(np.float32)
    assert intrinsic_dimension(turned) == pytest.approx(dimension, rel=0.2)


def test_intrinsic_dimension_needs_images():
    features = pixel_features(random_images(3))
    assert intrinsic_dimension(features) == float("inf")
    assert intrinsic_dimension(np.repeat(features, 10, axis=0)) == float("inf")


def test_the_threshold_shrinks_as_nearest_distances_do():
    """Drawing many more points from the same square: the corrected threshold refuses as few of them."""
    rng = np.random.default_rng(1)
    few, many = (rng.uniform(size=(n, 2)).astype(np.float32) for n in (100, 3000))
    threshold = copy_threshold(few, percentile=5)
    share = (nearest(many, many, exclude_self=True)[0] < threshold).mean()
    corrected = (nearest(many, many, exclude_self=True)[0] < crowded_threshold(threshold, few, 3000)).mean()
    assert share > 0.9 and corrected < 0.25
    assert crowded_threshold(threshold, few, 100) == threshold


def near(query, train, threshold):
    return int((nearest(query, train)[0] < threshold).sum()), len(query)


def test_two_halves_of_one_set_hold_no_copies():
    """Smooth images are often near each other; what synthetic and held-out images share is no copying."""
    features = np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32)
    train, holdout, fake = np.split(features, 3)
    threshold = copy_threshold(train, 20)
    near_real, n_real, of = real_near_counts(train, holdout, threshold)
    assert of == "holdout" and n_real == 300 and near_real > 20
    assert copy_rate(*near(fake, train, threshold), near_real, n_real) == 0.0
    assert copy_rate(*near(fake, train, threshold), *real_near_counts(train, None, threshold)[:2]) == 0.0


def test_only_copies():
    train = pixel_features(random_images(100, 1, 16))
    threshold = copy_threshold(train)
    near_real, n_real, of = real_near_counts(train, None, threshold)
    assert of == "train" and n_real == 100 and near_real <= 1
    assert copy_rate(*near(train + np.float32(1e-6), train, threshold), near_real, n_real) == 1.0


@pytest.mark.parametrize("usual", [0, 15, 45])
def test_every_tenth_image_a_copy(usual):
    """50 copies among 500, the others near as often as real images are (`usual` of 300)."""
    near_fake = 50 + round(450 * usual / 300)
    assert copy_rate(near_fake, 500, usual, 300) == pytest.approx(0.1, abs=0.005)


def test_few_images_show_nothing():
    assert copy_rate(1, 5, 0, 20) == 0.0
    assert copy_rate(2, 100, 1, 100) == 0.0
    assert copy_rate(5, 5, 0, 20) == 1.0


def test_fewer_near_ones_than_usual_and_empty_sides():
    assert copy_rate(3, 100, 30, 100) == 0.0
    assert copy_rate(0, 0, 3, 10) == copy_rate(5, 5, 0, 0) == 0.0
    with pytest.raises(ValueError, match="not valid counts"):
        copy_rate(6, 5, 0, 10)


def test_every_real_image_has_another_one_near():
    base = pixel_features(random_images(30, 1, 16))
    train = np.concatenate([base, base + np.float32(1e-6)])
    near_real, n_real, _ = real_near_counts(train, None, copy_threshold(train) + 1e-3)
    assert near_real == n_real == 60
    assert copy_rate(60, 60, near_real, n_real) == 0.0


def test_real_images_to_count():
    train = pixel_features(random_images(40, 1, 16))
    repeated = np.concatenate([train, train[:15]])
    assert real_near_counts(repeated, train[: MIN_HOLDOUT - 1], 1e-3) == (0, 40, "train")
    assert real_near_counts(train, train[:MIN_HOLDOUT], 1e-3) == (MIN_HOLDOUT, MIN_HOLDOUT, "holdout")
    assert real_near_counts(train[:1], None, 1e-3) == (0, 1, "train")
    assert real_near_counts(train[:0], None, 1e-3) == (0, 0, "train")


def test_spacing_is_that_of_all_with_all():
    train = pixel_features(random_images(40, 1, 16))
    train = np.concatenate([train, train[:15], train[:3]])
    found = spacing(train)
    np.testing.assert_array_equal(found.distinct, nearest(train[:40], train[:40], exclude_self=True)[0])
    np.testing.assert_array_equal(np.sort(found.within), np.sort(nearest(train, train, exclude_self=True)[0]))


def test_of_many_images_some_are_compared_with_all(monkeypatch):
    train = pixel_features(random_images(300, 1, 16))
    everything = spacing(train)
    monkeypatch.setattr(memorisation, "MOST_LOOKED_AT", 100)
    found = spacing(train)
    assert len(found.distinct) == len(found.within) == 100
    assert set(found.distinct.tolist()) <= set(everything.distinct.tolist())
    assert found.threshold(50) == pytest.approx(everything.threshold(50), rel=0.05)
