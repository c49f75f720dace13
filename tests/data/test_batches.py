"""Batches: class frequencies, coverage, and equality of memory-resident and mapped data."""

import numpy as np
import pytest
import torch

from balancegan.data import batches as module
from balancegan.data.batches import Batches

COUNTS = (80, 16, 4)


def make(sampling="natural", size=500):
    labels = np.repeat([0, 1, 2], COUNTS)
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    order = np.random.default_rng(0).permutation(100)
    return Batches(images, order, labels[order], sampling, torch.device("cpu"), size)


@pytest.mark.parametrize(
    ("sampling", "weights"), [("natural", (80, 16, 4)), ("sqrt", (80**0.5, 4, 2)), ("balanced", (1, 1, 1))]
)
def test_class_frequencies(sampling, weights):
    torch.manual_seed(0)
    expected = torch.tensor(weights, dtype=torch.float32)
    of_data, others = make(sampling), make("natural")
    for draw in (of_data.draw, lambda: others.draw(sampling)):  # another one for a stage
        c = torch.cat([draw()[1] for _ in range(40)])
        share = torch.bincount(c, minlength=3) / len(c)
        torch.testing.assert_close(share, expected / expected.sum(), atol=0.015, rtol=0)


def test_images_belong_to_their_labels_and_all_are_reached():
    torch.manual_seed(0)
    x, c = make("balanced", 4000).draw()
    rows = ((x[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(c, torch.bucketize(rows, torch.tensor([80, 96]), right=True))
    assert set(rows.tolist()) == set(range(100))
    assert x.dtype == torch.float32 and x.min() >= -1 and x.max() <= 1


def test_memory_map_gives_the_same_batches(monkeypatch):
    resident = make()
    monkeypatch.setattr(module, "CPU_SHARE", 0.0)
    mapped = make()
    assert resident._resident is not None and mapped._resident is None
    torch.manual_seed(3)
    a = resident.draw()
    torch.manual_seed(3)
    b = mapped.draw()
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("resident", [True, False])
def test_once_gives_every_image_with_its_label(monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(module, "CPU_SHARE", 0.0)
    data = make(size=7)
    seen = [(x[:, 0, 0, 0], c) for x, c in data.once()]
    values = torch.cat([x for x, _ in seen])
    assert sorted(((values + 1) * 127.5).round().int().tolist()) == list(range(100))
    assert torch.cat([c for _, c in seen]).tolist() == sorted([0] * 80 + [1] * 16 + [2] * 4)
    for x, c in seen:
        for value, label in zip(((x + 1) * 127.5).round().int().tolist(), c.tolist(), strict=True):
            assert label == (0 if value < 80 else 1 if value < 96 else 2)
