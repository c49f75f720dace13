import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from balancegan.evaluation.detail import DETAIL_MEASURES, MIN_IMAGES, measure_detail
from balancegan.evaluation.findings import _detail, _sizes


def textures(n, seed=0, sigma=0.5, noise=0.0):
    """Smooth grey images with the contrast of photographs."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 60, (n, 1, 32, 32)) + rng.normal(0, 20, (n, 1, 1, 1))
    smooth = gaussian_filter(rough, (0, 0, sigma, sigma)) + noise * rng.normal(size=rough.shape)
    return np.clip(128 + smooth, 0, 255).astype(np.uint8)


def judged(fake, real=None, other=None):
    reasons = {}
    row = measure_detail(textures(40) if real is None else real, other, fake, reasons, seed=0)
    assert set(row) == set(DETAIL_MEASURES) and not reasons
    return row


def test_real_images_lack_nothing():
    for seed in range(1, 6):
        row = judged(textures(20, seed))
        assert row["detail"] == {"lacking": [], "noisy": []} and (row["swd_n"], row["swd_floor_of"]) == (20, "halves")
        assert row["swd"]["2-4"] < 1.5 * row["swd_floor"]["2-4"]


def test_blur_lacks_detail_and_noise_has_too_much():
    blurred = judged(textures(20, 1, sigma=0.65), other=textures(30, 2))
    assert blurred["detail"] == {"lacking": ["2-4"], "noisy": []} and blurred["swd_floor_of"] == "train"
    assert blurred["detail_energy"]["2-4"] < 0.6 and _detail(blurred["detail"], blurred["swd"]).endswith(
        "below 4 pixels"
    )
    noisy = judged(textures(20, 1, sigma=0.9, noise=25), real=textures(40, sigma=0.9))
    assert noisy["detail"]["noisy"] == ["2-4"] and "noise" in _detail(noisy["detail"], noisy["swd"])


def test_less_contrast_everywhere_is_not_called_missing_detail():
    pale = (128 + (textures(20, 1).astype(float) - 128) * 0.5).astype(np.uint8)
    row = judged(pale)
    assert row["detail"]["lacking"] == ["2-4", "4-8", "8+"]
    assert _detail(row["detail"], row["swd"]).startswith("have less contrast")


@pytest.mark.parametrize(("real", "fake"), [(2 * MIN_IMAGES - 1, 20), (20, MIN_IMAGES - 1), (0, 9)])
def test_too_few_images_are_a_reason(real, fake):
    reasons = {}
    row = measure_detail(textures(real), None, textures(fake, 1), reasons, seed=0)
    assert set(row.values()) == {None} and f"{real} real, {fake} synthetic" in reasons["swd"]


def test_flat_images():
    flat = np.full((20, 1, 32, 32), 9, np.uint8)
    assert judged(flat, real=flat)["detail"] == {"lacking": [], "noisy": []}
    assert "2-4" in judged(flat)["detail"]["lacking"]


def test_sizes_in_words():
    words = (_sizes(["2-4"]), _sizes(["2-4", "4-8"]), _sizes(["4-8"]), _sizes(["8-16", "16+"]))
    assert words == ("below 4 pixels", "below 8 pixels", "of 4 to 8 pixels", "above 8 pixels")
