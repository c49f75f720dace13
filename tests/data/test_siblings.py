"""Siblings are found however they were photographed, and images that only look alike are left alone."""

import subprocess
import sys

import numpy as np
import pytest
from photographs import TEXTURES, photograph, photographs, surface

from balancegan.data.sibling_names import name_hints
from balancegan.data.siblings import SIDE, THUMB_BYTES, sibling_groups, sibling_thumbnail

CHANGES = {
    "exposure": {"exposure": 0.5},
    "contrast": {"contrast": 0.5},
    "gamma": {"gamma": 1.6},
    "shift": {"shift": (0.03, -0.03)},
    "crop": {"zoom": 0.88},
    "mirror": {"mirror": True},
    "jpeg": {"quality": 40},
    "all of them": {"exposure": 0.7, "contrast": 0.8, "shift": (-0.03, 0.03), "zoom": 0.93, "mirror": True,
                    "quality": 60},
}  # fmt: skip


def thumbs(images):
    return np.stack([np.frombuffer(sibling_thumbnail(x), np.uint8) for x in images])


def nothing(count):
    """Names that tell nothing."""
    return [f"{k * 2654435761 % 2**32:08x}".translate(str.maketrans("0123456789", "ghijklmnop")) for k in range(count)]


@pytest.fixture(scope="module")
def shots():
    return photographs(16, most=5, sides=(48, 96, 256), seed=3)


@pytest.fixture(scope="module")
def others():
    """One photograph each of 40 objects of every texture, with labels."""
    rng = np.random.default_rng(5)
    images = [photograph(surface(kind, rng), rng, 64) for kind in TEXTURES for _ in range(40)]
    return images, np.repeat(np.arange(3), 40)


def test_every_sibling_of_a_made_set_is_found_and_no_group_holds_two_objects(shots):
    groups = sibling_groups(thumbs(shots.images), shots.labels, shots.names)
    assert len(set(groups)) == len(set(shots.objects)) == len(set(zip(groups, shots.objects, strict=True)))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_joins_its_original_alone(others, change):
    images, labels = others
    rng = np.random.default_rng(7)
    pairs = []
    for label, kind in enumerate(TEXTURES):
        scene = surface(kind, rng)
        pairs += [(photograph(scene, rng, 64), label), (photograph(scene, rng, 96, **CHANGES[change]), label)]
    groups = sibling_groups(
        thumbs([*images, *(p for p, _ in pairs)]), np.array([*labels, *(k for _, k in pairs)]), nothing(126)
    )
    added = groups[120:]
    assert added[0] == added[1] and added[2] == added[3] and added[4] == added[5]
    assert len(set(groups)) == 123


def test_one_exposure_each_gives_no_groups(others):
    images, labels = others
    assert len(set(sibling_groups(thumbs(images), labels, nothing(120)))) == 120


def test_progress_grows_to_the_number_of_images(others):
    images, labels = others
    seen = []
    sibling_groups(thumbs(images), labels, nothing(120), progress=lambda *call: seen.append(call))
    done = [call[1] for call in seen]
    assert {call[0::2] for call in seen} == {("siblings", 120)} and done == sorted(done)
    assert done[0] == 0 and done[-1] == 120 and any(0 < k < 120 for k in done)


def test_the_order_of_the_images_does_not_matter(shots):
    order = np.random.default_rng(0).permutation(len(shots.images))
    small = thumbs(shots.images)
    first = sibling_groups(small, shots.labels, shots.names)
    again = sibling_groups(small, shots.labels, shots.names)
    mixed = sibling_groups(small[order], shots.labels[order], [shots.names[k] for k in order])
    assert (first == again).all() and first[0] == 0
    assert len(set(zip(first[order], mixed, strict=True))) == len(set(first)) == len(set(mixed))


def test_flat_images_stay_alone(others):
    images, labels = others
    flat = [np.zeros((40, 40), np.uint8)] * 5 + [np.full((40, 40, 3), 255, np.uint8)] * 5
    groups = sibling_groups(thumbs([*images, *flat]), np.array([*labels, *[0] * 10]), nothing(130))
    assert len(set(groups)) == 130


@pytest.mark.parametrize("count", range(5))
def test_few_images_are_no_problem(others, count):
    images, labels = others
    found = sibling_groups(thumbs(images)[:count], labels[:count], nothing(count))
    assert found.tolist() == list(range(count)) and found.dtype == np.int64


def test_copies_are_joined_across_classes_and_other_siblings_are_not(others):
    images, labels = others
    rng = np.random.default_rng(9)
    scene = surface("grain", rng)
    one, copy = photograph(scene, rng, 64), photograph(scene, rng, 64, quality=90)
    sibling = photograph(scene, rng, 64, exposure=0.6, shift=(0.04, 0))
    groups = sibling_groups(thumbs([*images, one, one, copy, sibling]), np.array([*labels, 1, 1, 0, 2]), nothing(124))
    assert groups[120] == groups[121] == groups[122] != groups[123]


def test_names_support_what_the_content_says_and_never_join_by_themselves(others):
    images, labels = others
    names = [f"{TEXTURES[k]}/run3_item_{i}.png" for i, k in enumerate(labels)]
    assert len(set(sibling_groups(thumbs(images), labels, names))) == 120


def test_runs_and_numbers_are_read_from_names():
    names = ["a/run3_item_101.jpg", "a/run3_item_102.jpg", "a/run3_item_200.jpg", "a/img_1.png", "a/img_2.png",
             "a/img_9.png", "b/img_3.png", "a/x.png", "a/x.jpg"]  # fmt: skip
    hints = name_hints(names, np.array([0] * 6 + [1] + [0] * 2))
    pairs = np.array([(0, 1), (0, 2), (3, 4), (4, 5), (4, 6), (7, 8)])
    assert hints.partners(*pairs.T).tolist() == [2, 2, 2, np.inf, np.inf, np.inf]


def test_thumbnails_have_one_size_whatever_the_pixels_are():
    grey = np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8)
    deep = grey.astype(np.uint16) * 257
    deep[0, :2] = 0, 65535
    grey[0, :2] = 0, 255
    assert sibling_thumbnail(grey) == sibling_thumbnail(deep) == sibling_thumbnail(np.stack([grey] * 3, -1))
    assert len(sibling_thumbnail(np.zeros((1, 1), np.float32))) == THUMB_BYTES == SIDE * SIDE * 3


def test_siblings_are_found_without_torch():
    code = "import sys, balancegan.data.siblings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
