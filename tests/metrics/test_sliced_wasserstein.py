import numpy as np
import pytest
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.stats import wasserstein_distance

from balancegan.metrics import sliced_wasserstein as module
from balancegan.metrics.sliced_wasserstein import Detail, detail, energy_ratio, level_names, sliced_wasserstein


def textures(n, side=32, seed=0, channels=1):
    return np.random.default_rng(seed).integers(60, 196, (n, channels, side, side), dtype=np.uint8)


def blurred(images, sigma):
    return np.round(gaussian_filter(images.astype(float), (0, 0, sigma, sigma))).astype(np.uint8)


def test_levels_are_named_for_sizes_in_pixels():
    assert level_names(8, 8) == ("2+",) and level_names(16, 16) == ("2-4", "4+")
    assert level_names(28, 28) == level_names(32, 40) == ("2-4", "4-8", "8+")
    assert level_names(64, 64) == level_names(512, 512) == ("2-4", "4-8", "8-16", "16+")


@pytest.mark.parametrize("side", [15, 16, 28])
def test_levels_add_up_to_the_image_and_follow_the_definition(side):
    x = textures(2, side).astype(np.float32)
    fine, coarse = module._pyramid(x, 2)
    kernel = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32
    slow = x.astype(float)
    for axis in (2, 3):
        slow = correlate1d(slow, kernel, axis=axis, mode="mirror")
    assert coarse == pytest.approx(slow[:, :, ::2, ::2], abs=1e-3)
    grown = module._expand(module._reduce(side)) @ coarse @ module._expand(module._reduce(side)).T
    assert fine + grown == pytest.approx(x, abs=1e-3)
    flat, _ = module._pyramid(np.full((1, 1, side, side), 9, np.float32), 2)
    assert flat == pytest.approx(0.0, abs=1e-5)


def test_a_wave_has_its_energy_in_the_level_of_its_length():
    for length, name in ((2.5, "2-4"), (6, "4-8"), (12, "8-16"), (40, "16+")):
        wave = np.sin(2 * np.pi * np.arange(64) / length)
        images = np.round(128 + 100 * wave)[None, None, None].repeat(64, axis=2).astype(np.uint8)
        found = detail(images, seed=0)
        assert found.names[found.energy[:, 0].argmax()] == name


def test_the_distance_is_that_of_sorted_projections(monkeypatch):
    ours, theirs = (np.random.default_rng(s).normal(s, 1 + s, (500, 49)).astype(np.float32) for s in (0, 1))
    sides = [Detail(("2+",), (patches,), np.ones((1, 1))) for patches in (ours, theirs)]
    directions = np.random.default_rng(7).normal(size=(module.DIRECTIONS, 49)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    a, b = ((patches - ours.mean()) / ours.std() for patches in (ours, theirs))
    slow = np.mean([wasserstein_distance(a @ d, b @ d) for d in directions])
    assert sliced_wasserstein(*sides, seed=7)["2+"] == pytest.approx(slow, rel=1e-4)


def test_blur_and_noise_show_in_the_finest_level():
    real, other = (detail(blurred(textures(60, seed=s), 0.5), seed=s) for s in (0, 1))
    floor = sliced_wasserstein(real, other, seed=0)
    soft = detail(blurred(blurred(textures(60, seed=2), 0.5), 0.8), seed=2)
    assert sliced_wasserstein(real, soft, seed=0)["2-4"] > 5 * floor["2-4"]
    assert energy_ratio(real, soft)["2-4"] < 0.4 and energy_ratio(real, other)["2-4"] == pytest.approx(1, abs=0.1)
    noisy = detail(textures(60, seed=2), seed=2)
    assert energy_ratio(real, noisy)["2-4"] > 1.5


def test_same_images_flat_images_and_other_sizes():
    real = detail(textures(20, channels=3), seed=0)
    assert set(sliced_wasserstein(real, real, seed=0).values()) == {0.0}
    flat = detail(np.full((20, 3, 32, 32), 7, np.uint8), seed=0)
    assert all(np.isfinite(v) for side in (real, flat) for v in sliced_wasserstein(flat, side, seed=0).values())
    assert all(np.isfinite(v) for v in energy_ratio(flat, real).values())
    few = detail(textures(5, seed=3, channels=3), seed=0)
    assert sliced_wasserstein(real, few, seed=0)["2-4"] < 0.2
    with pytest.raises(ValueError, match="different shapes"):
        sliced_wasserstein(real, detail(textures(20), seed=0), seed=0)


def test_cost_is_bounded():
    assert detail(textures(10), seed=0).patches[0].shape == (1280, 49)
    assert len(detail(textures(1000, 16), seed=0).patches[0]) <= module.DESCRIPTORS
