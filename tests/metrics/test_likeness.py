"""Likeness of images that may be changed versions of each other, and the guard that is built on it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from balancegan.data.variations import Changes, variations
from balancegan.metrics.likeness import closeness, likeness
from balancegan.verdict.copy_guard import CopyGuard
from balancegan.verdict.material import Material, Pool, SplitPlan


def blobs(n, seed, channels=3, side=32):
    """Smooth random images (n, C, S, S): no two are alike."""
    noise = np.random.default_rng(seed).normal(size=(n, channels, side, side))
    smooth = gaussian_filter(noise, (0, 0, side / 8, side / 8), mode="wrap")
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x[..., ::-1],
        lambda x: np.rot90(x, 1, (2, 3)),
        lambda x: (40 + x.astype(float) * 0.6).astype(np.uint8),
        lambda x: np.pad(x, ((0, 0), (0, 0), (4, 0), (0, 2)), mode="reflect")[:, :, : x.shape[2], 2:],
    ],
    ids=["same", "mirrored", "turned", "darker", "shifted"],
)
def test_changed_versions_are_closest_to_their_source(change):
    real = blobs(30, seed=1)
    found = likeness(change(real), real)
    assert found.shape == (30, 30) and (found.argmin(axis=1) == np.arange(30)).all()
    own = np.diag(found)
    assert own.max() < 0.5 * np.sort(found, axis=1)[:, 1].min()


def test_constant_images_are_no_versions_of_anything():
    flat = np.full((2, 1, 16, 16), 90, np.uint8)
    assert np.isfinite(likeness(flat, blobs(3, 2, channels=1))).all()


def test_closeness_needs_others_to_compare_with():
    found = np.array([[0.1, 1.0, 1.0], [0.9, 1.0, 1.0], [1.0, 0.1, 1.0]], np.float32)
    first, others, none = np.array([0]), np.array([1, 2]), np.array([], int)
    assert closeness(found, first, others).tolist() == pytest.approx([0.1, 0.9, 10.0])
    assert np.isinf(closeness(found, first, none)).all() and np.isinf(closeness(found, none, others)).all()


def test_a_memorised_fold_is_kept_out_and_new_images_are_not():
    real = blobs(60, seed=3)
    plan = SplitPlan(np.arange(20, 60), np.arange(20))
    made = variations(real, np.arange(60), 300, Changes(flips=True), seed=4)[0]
    fresh = blobs(300, seed=5)

    def kept(images):
        fake = Pool(images, np.zeros(len(images), np.int64))
        pool = Pool(real, np.zeros(len(real), np.int64))
        return len(
            CopyGuard(Material(["a"], pool, fake, None, "folds", [300], may_have_seen=True), pool, fake).allowed(plan)
        )

    assert kept(made) <= 215  # 200 are versions of training images
    assert kept(fresh) >= 285
