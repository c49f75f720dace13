"""The U-Net: shapes, the published size, what it depends on, and dropout in parts."""

import pytest
import torch

from balancegan.compute.microbatch import Part, part
from balancegan.nets.unet import Dropout, UNet, sinusoids


def make(**overrides):
    torch.manual_seed(0)
    settings = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": 8, "dropout": 0.0, **overrides}
    network = UNet(4, 3, 16, **settings)
    with torch.no_grad():
        for p in network.parameters():  # its branches start at zero
            p.add_(0.05 * torch.randn(p.shape))
    return network.eval()


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (2, 1, 3)])
def test_output_depends_on_everything_it_is_told(scale_shift, multipliers):
    network = make(scale_shift=scale_shift, multipliers=multipliers, extra=2)
    x, noise, c, extra = torch.randn(5, 3, 16, 16), torch.rand(5), torch.tensor([0, 1, 2, 3, 0]), torch.zeros(5, 2)
    y = network(x, noise, c, extra)
    assert y.shape == x.shape
    for changed in ((x + 0.1, noise, c, extra), (x, noise + 0.3, c, extra), (x, noise, (c + 1) % 4, extra)):
        assert not torch.allclose(network(*changed), y, atol=1e-5)
    assert not torch.allclose(network(x, noise, c, extra + 1), y, atol=1e-5)
    torch.testing.assert_close(network(x[1:3], noise[1:3], c[1:3], extra[1:3]), y[1:3], rtol=1e-4, atol=1e-5)


def test_a_pixel_reaches_every_other():
    network = make(multipliers=(1, 2, 2), attention=0)
    x = torch.randn(1, 3, 16, 16, requires_grad=True)
    network(x, torch.zeros(1), torch.zeros(1, dtype=torch.int64))[0, 0, 0, 0].backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_it_starts_as_zero():
    network = UNet(2, 1, 16, width=8, multipliers=(1, 2), blocks=2, attention=8, dropout=0.1)
    assert network(torch.randn(2, 1, 16, 16), torch.zeros(2), torch.tensor([0, 1])).abs().max() == 0


def test_size_of_edms_network():
    with torch.device("meta"):
        network = UNet(
            10,
            3,
            32,
            width=128,
            multipliers=(2, 2, 2),
            blocks=4,
            attention=16,
            dropout=0.13,
            scale_shift=False,
            extra=9,
        )
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(55.7, abs=0.1)  # 55.7 M, Karras et al.


def test_dropout_keeps_the_mean_and_can_work_in_parts():
    dropout, x = Dropout(0.25), torch.ones(8, 16, 8, 8)
    torch.manual_seed(3)
    whole = dropout(x)
    assert whole.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float((whole == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    parts = []
    for start in (0, 4):
        torch.manual_seed(3)
        with part(Part(start, start + 4, 8)):
            parts.append(dropout(x[:4]))
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(dropout.eval()(x), x) and torch.equal(Dropout(0.0)(x), x)


def test_sinusoids():
    e = sinusoids(torch.tensor([0.0, 0.5]), 8)
    assert e.shape == (2, 8) and torch.equal(e[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert float(e[1, 0]) == pytest.approx(0.87758, abs=1e-5) and float(e[1, 7]) == pytest.approx(0.5e-4, rel=1e-3)
