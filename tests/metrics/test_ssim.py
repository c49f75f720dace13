import numpy as np
import pytest
from skimage.metrics import structural_similarity

from balancegan.metrics.ssim import mean_ssim, within_ssim


def images(n, channels=3, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def direct(a, b, **options):
    return structural_similarity(a.transpose(1, 2, 0), b.transpose(1, 2, 0), data_range=255, channel_axis=2, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_pairs_of_small_sets(channels):
    real, fake = images(3, channels), images(4, channels, seed=1)
    expected = np.mean([direct(a, b) for a in real for b in fake])
    assert mean_ssim(real, fake) == pytest.approx(expected)


def test_within_uses_every_pair_of_different_images():
    real = images(5)
    expected = np.mean([direct(real[i], real[j]) for i in range(5) for j in range(i)])
    assert within_ssim(real) == pytest.approx(expected)


def test_random_pairs_are_seeded_and_never_pair_an_image_with_itself():
    real, fake = images(40), images(40, seed=1)
    assert mean_ssim(real, fake, pairs=20, seed=3) == mean_ssim(real, fake, pairs=20, seed=3)
    assert mean_ssim(real, fake, pairs=20, seed=3) != mean_ssim(real, fake, pairs=20, seed=4)
    assert within_ssim(real, pairs=200, seed=0) < 0.5  # one self-pair in noise would add 1 / 200


def test_equal_sets_of_one_image_are_fully_similar():
    one = images(1)
    assert mean_ssim(one, one) == pytest.approx(1.0)
    assert within_ssim(np.repeat(one, 10, axis=0)) == pytest.approx(1.0)


@pytest.mark.parametrize(("side", "window"), [(6, 5), (5, 5), (4, 3)])
def test_images_smaller_than_the_window(side, window):
    a, b = images(1, 1, side), images(1, 1, side, seed=1)
    assert mean_ssim(a, b) == pytest.approx(direct(a[0], b[0], win_size=window))


def test_unusable_sets():
    with pytest.raises(ValueError, match="non-empty"):
        mean_ssim(images(0), images(2))
    with pytest.raises(ValueError, match="shape"):
        mean_ssim(images(2, 1), images(2, 3))
    with pytest.raises(ValueError, match="two images"):
        within_ssim(images(1))
