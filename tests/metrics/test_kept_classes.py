"""Which changes keep the class of an image: on shapes where the answer is known."""

from functools import partial

import numpy as np
import pytest

from balancegan.data.variations import Changes
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.kept_classes import MIRRORED, TILTED, TURNED, divided, kept_classes, safe_changes

SIDE = 16
Y, X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=40, batch_size=32))


def drawn(*shapes, n=60):
    """Images of each class: its shape in white, a little shifted, on noise."""
    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        images = rng.integers(0, 60, (n, 1, SIDE, SIDE), dtype=np.uint8)
        for image in images:
            image[0, np.roll(shape, rng.integers(-1, 2, 2), (0, 1))] = 255
        found.append(images)
    return found


def bar(degrees):
    angle = np.deg2rad(degrees)
    return (np.abs(Y * np.cos(angle) - X * np.sin(angle)) < 1.2) & (np.hypot(X, Y) < 8)


RING, DISC = (np.hypot(X, Y) < 6) & (np.hypot(X, Y) > 3.5), np.hypot(X, Y) < 3
L = ((np.abs(X + 3.5) < 1.5) & (np.abs(Y) < 6)) | ((np.abs(Y - 4.5) < 1.5) & (np.abs(X) < 5))


@pytest.mark.parametrize(
    ("shapes", "kept"),
    [
        ((RING, DISC), {MIRRORED: True, TURNED: True, TILTED: True}),
        ((L, L[:, ::-1]), {MIRRORED: False, TILTED: True}),
        ((bar(0), bar(90)), {MIRRORED: True, TURNED: False, TILTED: True}),
        ((bar(0), bar(12)), {TILTED: False}),
    ],
    ids=["ring and disc", "L and J", "upright and lying", "straight and tilted"],
)
def test_a_change_is_harmless_if_it_keeps_the_class(shapes, kept):
    found = kept_classes(*divided(drawn(*shapes)), 2, "cpu", list(kept))
    assert {name: finding.kept for name, finding in zip(kept, found, strict=True)} == kept
    for name, finding in zip(kept, found, strict=True):
        assert name in finding.found and "recognises" in finding.found
        assert ("recall clearly falls" in finding.found) == (not finding.kept)


def test_safe_changes_names_them_all_and_is_the_same_twice():
    images = drawn(bar(0), bar(90), n=40)
    found = safe_changes(images)
    assert found == safe_changes(images) == Changes(flips=True, turns=False, tilts=True)


def test_too_few_images_tell_nothing(monkeypatch):
    monkeypatch.setattr(OwnExtractor, "fit", partial(pytest.fail, "trained"))
    assert divided(drawn(RING, DISC, n=4)) is None and safe_changes(drawn(RING, DISC, n=4)) == Changes()


def test_one_in_five_is_set_aside():
    images, labels = divided([np.zeros((n, 1, 8, 8), np.uint8) for n in (10, 400)])
    assert np.bincount(labels[1]).tolist() == [2, 50] and np.bincount(labels[0]).tolist() == [8, 200]
    assert [len(x) for x in images] == [len(y) for y in labels]
