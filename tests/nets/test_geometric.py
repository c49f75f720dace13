"""Each transformation alone does what its label says."""

import math

import pytest
import torch

from balancegan.nets import geometric


def only(monkeypatch, which, number=0.8, angle=0.0):
    """Make only one of the six transformations happen, with this normal number and this angle."""

    def rand(n, *shape, device):
        if shape == (6,):
            return 1.0 - torch.eye(6)[which].expand(n, 6)  # below the share only where it happens
        if shape == (3,):
            return torch.tensor([0.25 if which == 0 else 0.75, 0.25, 0.75]).expand(n, 3)  # heads below a half
        return torch.full((n, *shape), 0.5 + angle / (2 * math.pi))

    monkeypatch.setattr(geometric.batch_random, "rand", rand)
    monkeypatch.setattr(geometric.batch_random, "randn", lambda n, *shape, device: torch.full((n, *shape), number))


def bar(side=16):
    x = -torch.ones(1, 1, side, side)
    x[..., 2:5, 9:14] = 1.0
    return x


def centre(x):
    """Mean position of the bright part, in pixels: row, column."""
    w = (x[0, 0] + 1) / (x[0, 0] + 1).sum()
    at = torch.arange(x.shape[-1], dtype=torch.float32)
    return float(w.sum(1) @ at), float(w.sum(0) @ at)


def test_only_mirroring_at_share_0():
    torch.manual_seed(0)
    x = torch.rand(64, 3, 16, 16) * 2 - 1
    y, labels = geometric.augmented(x, 0.0)
    mirrored = labels[:, 0].bool()
    assert labels.shape == (64, geometric.LABELS) and labels[:, 1:].abs().max() == 0 and 20 < mirrored.sum() < 44
    torch.testing.assert_close(y, torch.where(mirrored[:, None, None, None], x.flip(3), x), rtol=0, atol=1e-5)


def test_coordinates_keep_their_precision_under_autocast():
    x = torch.rand(16, 3, 32, 32) * 2 - 1
    found = []
    for amp in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            found.append(geometric.augmented(x, 1.0)[0])
    assert torch.equal(*found)


def test_flips(monkeypatch):
    x = bar()
    for which, dim in ((0, 3), (1, 2)):
        only(monkeypatch, which)
        y, labels = geometric.augmented(x, 0.5)
        torch.testing.assert_close(y, x.flip(dim), rtol=0, atol=1e-5)
        assert labels[0].tolist() == [float(which == 0), float(which == 1)] + [0.0] * 7


def test_scale_stretch_and_shift(monkeypatch):
    x = bar()
    only(monkeypatch, 2, number=2.0)
    y, labels = geometric.augmented(x, 0.5)
    assert float(labels[0, 2]) == 2.0
    assert float((y + 1).sum()) == pytest.approx(float((x + 1).sum()) * 2 ** (0.4 * 2), rel=0.15)
    only(monkeypatch, 4, number=2.0, angle=0.0)
    x = bar().roll(5, 2)  # away from the border
    y, labels = geometric.augmented(x, 0.5)  # wider by 2^0.4, lower by as much
    assert labels[0, 5:7].tolist() == [2.0, 0.0]
    assert float((y + 1).sum()) == pytest.approx(float((x + 1).sum()), rel=0.15)
    assert centre(y)[1] - 7.5 == pytest.approx((centre(x)[1] - 7.5) * 2**0.4, rel=0.1)
    only(monkeypatch, 5, number=0.5)
    y, labels = geometric.augmented(x, 0.5)  # a sixteenth of the side, in both directions
    assert labels[0, 7:].tolist() == [0.5, 0.5]
    assert centre(y) == pytest.approx([p + 1 for p in centre(x)], abs=0.1)


def test_rotation(monkeypatch):
    x = bar()
    only(monkeypatch, 3, angle=math.pi / 2)
    y, labels = geometric.augmented(x, 0.5)
    assert labels[0, 3:5].tolist() == pytest.approx([-1.0, 1.0], abs=1e-5)
    torch.testing.assert_close(y, torch.rot90(x, 1, (2, 3)), rtol=0, atol=1e-4)


def test_a_shift_is_seen_as_it_is_whatever_else_happens(monkeypatch):
    x = bar().roll(5, 2)
    only(monkeypatch, 5, number=0.5)
    monkeypatch.setattr(geometric, "_rotation", lambda angle: torch.tensor([[0.0, -1.0], [1.0, 0.0]]).expand(1, 2, 2))
    turned = geometric.augmented(x, 0.5)[0]  # three quarter turns, then the shift
    monkeypatch.setattr(geometric.batch_random, "randn", lambda n, *shape, device: torch.zeros(n, *shape))
    still = geometric.augmented(x, 0.5)[0]
    assert centre(turned) == pytest.approx([p + 1 for p in centre(still)], abs=0.1)
