"""Variations of real images: what they change, what they keep, and that each depends on its numbers alone."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from balancegan.data.variations import REACH, Changes, generator, order, variations, varied

ALL = Changes(flips=True, turns=True, tilts=True)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """A picture without detail finer than an eighth of its side."""
    return np.asarray(Image.fromarray(noise(8, 8, 3)).resize((width, height), Image.Resampling.BICUBIC))


def many(pixels, changes, n=200, seed=0):
    return [varied(pixels, changes, generator(seed, 3, number)) for number in range(n)]


def test_a_variation_depends_on_seed_row_and_number_alone():
    pixels = noise(16, 16, 3)
    first = varied(pixels, ALL, generator(1, 2, 3))
    assert np.array_equal(first, varied(pixels, ALL, generator(1, 2, 3)))
    for other in ((9, 2, 3), (1, 9, 3), (1, 2, 9), (1, 2, 3, 1)):
        assert not np.array_equal(first, varied(pixels, ALL, generator(*other)))
    assert len({image.tobytes() for image in many(pixels, Changes())}) == 200


@pytest.mark.parametrize("changes", [Changes(), ALL])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3), (9, 21), (21, 9, 3), (1, 1), (2, 7, 3)])
def test_size_and_type_stay(shape, changes):
    for image in many(noise(*shape), changes, 40):
        assert image.shape == shape and image.dtype == np.uint8


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("shape", [(16, 16), (12, 20, 3)])
def test_black_stays_black_and_white_stays_white(shape, value):
    assert all((image == value).all() for image in many(np.full(shape, value, np.uint8), ALL))


def test_half_of_them_are_moved_by_whole_pixels():
    """A picture of black and white has greys only where it was interpolated."""
    pixels = np.where(noise(16, 24) > 127, 255, 0).astype(np.uint8)
    down, right = (int(REACH * side) for side in pixels.shape)
    wide = np.pad(pixels, ((down, down), (right, right)), mode="symmetric")
    moved = {
        wide[top : top + 16, left : left + 24].tobytes() for top in range(2 * down + 1) for left in range(2 * right + 1)
    }
    made = many(pixels, Changes(tilts=True), 400)
    exact = [image for image in made if set(np.unique(image)) == {0, 255}]
    assert 160 < len(exact) < 240 and {image.tobytes() for image in exact} <= moved
    assert len({image.tobytes() for image in exact}) > 0.9 * len(moved)  # as far as that, all ways


def test_what_may_not_be_done_is_not_done():
    """A ramp from left to right runs the other way in the mirror, and up or down when it is turned."""
    ramp = np.tile(np.linspace(20, 235, 32).astype(np.uint8), (32, 1))
    across, down = ([float(np.diff(image[2:-2, 6:-6].astype(int), axis=axis).mean()) for image in many(ramp, Changes())]
                    for axis in (1, 0))  # fmt: skip
    assert min(across) > 3 and np.abs(down).max() < 0.5
    mirrored = [np.diff(image[:, 6:-6].astype(int), axis=1).mean() < 0 for image in many(ramp, Changes(flips=True))]
    assert 0.35 < np.mean(mirrored) < 0.65
    turned = [np.diff(image[6:-6].astype(int), axis=0).mean() for image in many(ramp, Changes(turns=True))]
    assert 0.35 < np.mean(np.abs(turned) > 3) < 0.65 and min(turned) < 0 < max(turned)


def test_a_small_version_is_varied_alike():
    """The classifiers see variations of small images, the folder gets those of large ones."""
    large = smooth(96, 96)
    small = np.asarray(Image.fromarray(large).resize((24, 24), Image.Resampling.BOX))
    alike, others = [], []
    for number in range(40):
        of_large = varied(large, ALL, generator(0, 0, number))
        expected = np.asarray(Image.fromarray(of_large).resize((24, 24), Image.Resampling.BOX)).astype(int)
        found, other = (varied(small, ALL, generator(0, 0, k)).astype(int) for k in (number, number + 1000))
        alike.append(np.abs(found - expected).mean())
        others.append(np.abs(other - expected).mean())
    assert max(alike) < 25 and np.mean(alike) < 0.2 * np.mean(others)


@pytest.mark.parametrize("count", [0, 3, 7, 25])
def test_every_image_is_used_equally_often(count):
    rows = np.array([4, 8, 15, 16, 23, 42, 99])
    pairs = list(order(rows, count, seed=0))
    assert len(set(pairs)) == count == len(pairs) and {row for row, _ in pairs} <= set(rows.tolist())
    used = Counter(row for row, _ in pairs)
    assert not used or max(used.values()) - min(used.get(row, 0) for row in rows.tolist()) <= 1
    assert pairs == list(order(rows, 25, seed=0))[:count]  # fewer are the first of more


def test_nothing_is_made_of_nothing():
    assert list(order(np.array([], int), 5, seed=0)) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_variations_of_an_array_are_those_of_its_images(channels):
    images = noise(5, channels, 16, 16)
    made, rows = variations(images, np.array([1, 4]), 6, ALL, seed=7)
    assert made.shape == (6, channels, 16, 16) and np.bincount(rows).tolist() == [0, 3, 0, 0, 3]
    for image, (row, number) in zip(made, order(np.array([1, 4]), 6, seed=7), strict=True):
        pixels = images[row].transpose(1, 2, 0)
        expected = varied(pixels[..., 0] if channels == 1 else pixels, ALL, generator(7, row, number))
        assert np.array_equal(image.transpose(1, 2, 0).squeeze(), expected)


def test_changes_are_named_and_kept():
    assert str(Changes()) == "shifts, scale, brightness and contrast"
    assert str(Changes(flips=True, tilts=True)).endswith("contrast, flips and tilts")
    assert Changes.from_json(ALL.to_json()) == ALL and Changes.from_json({"flips": True}) == Changes(flips=True)
