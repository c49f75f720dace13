"""The augmentation: ranges, independence of images, exact identities, and numerical gradients."""

from dataclasses import replace

import pytest
import torch
import torchvision.transforms.functional as reference

from balancegan.nets.augmentation import SimCLRAugment, _hue

STILL = SimCLRAugment(
    scale=(1.0, 1.0),
    ratio=(1.0, 1.0),
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    grey_probability=0,
    flip_probability=0,
)


def images(n=4, channels=3, size=16, dtype=torch.float32):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype) * 1.8 - 0.9


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_and_independent_images(channels):
    x = images(1, channels).repeat(6, 1, 1, 1)
    torch.manual_seed(0)
    y = SimCLRAugment()(x)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in y}) == 6


def test_without_strength_it_is_the_identity():
    x = images()
    torch.testing.assert_close(STILL(x), x, rtol=0, atol=1e-5)


def test_flip_and_grey_are_exact():
    x = images()
    torch.testing.assert_close(replace(STILL, flip_probability=1)(x), x.flip(3), rtol=0, atol=1e-5)
    expected = reference.rgb_to_grayscale((x + 1) / 2, 3) * 2 - 1
    torch.testing.assert_close(replace(STILL, grey_probability=1)(x), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
    ],
)
def test_jitter_equals_torchvision(field, function, monkeypatch):
    """With the factor fixed at its largest value."""
    monkeypatch.setattr("balancegan.nets.augmentation._uniform", lambda n, b, like: like.new_full((n,), b[1]))
    x = images() * 0.4
    y = replace(STILL, **{field: 0.4}, jitter_probability=2)(x)
    expected = torch.stack([function((image + 1) / 2, 1.4) for image in x]).clamp(0, 1) * 2 - 1
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-3)


def test_hue_turns_keep_grey_and_luma_and_a_whole_turn_is_none():
    turns = torch.tensor([0.0, 0.1, -0.07, 1.0])
    matrices = _hue(turns)
    torch.testing.assert_close(matrices[0], torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrices[3], torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(matrices.sum(2), torch.ones(4, 3), atol=1e-3, rtol=0)  # grey stays grey
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(luma @ matrices, luma.repeat(4, 1), atol=1e-4, rtol=0)
    red = torch.tensor([1.0, 0.0, 0.0])
    assert (matrices[1] @ red)[1] > 0.05  # towards yellow, as torchvision turns
    assert reference.adjust_hue(red.view(3, 1, 1), 0.1)[1] > 0.05


def test_probabilities_and_crop_areas():
    torch.manual_seed(0)
    x = images(2000, 3, 8)
    grey = (SimCLRAugment()(x).std(1).amax((1, 2)) < 1e-5).float().mean()
    assert abs(grey - 0.2) < 0.03
    ramp = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(2000, 1, 64, 64)
    spans = SimCLRAugment(flip_probability=0).crop(ramp)
    share = (spans[..., 0, -1] - spans[..., 0, 0]) / 2  # the crop's width as a share of the image's
    assert share.min() > 0.3 and share.max() <= 1.0 and abs(share.mean() - 0.76) < 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_those_of_finite_differences(channels):
    x = (images(2, channels, 5, torch.float64) * 0.3).requires_grad_(True)

    def augmented(x):
        torch.manual_seed(3)
        return SimCLRAugment()(x)

    assert torch.autograd.gradcheck(augmented, x)


@pytest.mark.parametrize("channels", [1, 3])
def test_half_precision_is_augmented_in_full(channels):
    """Under autocast a generator gives bf16: matrices have no inverse there, and crops would be coarse."""
    x = images(4, channels).bfloat16()
    torch.manual_seed(0)
    expected = SimCLRAugment()(x.float())
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = SimCLRAugment()(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
