"""Wide residual networks: the published sizes, and features that do not grow with the images."""

import pytest
import torch

from balancegan.nets.wide_resnet import SIDE, Block, WideResNet


@pytest.mark.parametrize(("depth", "width", "millions"), [(16, 8, 11.0), (40, 1, 0.6), (28, 10, 36.5)])
def test_the_number_of_parameters_is_the_published_one(depth, width, millions):
    """Tables 4 and 5 of the paper."""
    with torch.device("meta"):
        network = WideResNet(3, 10, 32, depth=depth, width=width)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("side", [16, 28, 32, 48, 64, 100, 128])
def test_large_images_make_no_larger_features(side):
    network, seen = WideResNet(1, 3, side).eval(), []
    next(m for m in network if isinstance(m, Block)).register_forward_hook(lambda m, x, y: seen.append(y.shape[2:]))
    assert network(torch.zeros(2, 1, side, side)).shape == (2, 3)
    assert seen[0][0] == seen[0][1] and min(side, SIDE) // 2 < seen[0][0] <= SIDE


def test_every_pixel_counts():
    network = WideResNet(1, 2, 128).eval()
    x = torch.zeros(1, 1, 128, 128, requires_grad=True)
    (slope,) = torch.autograd.grad(network[0](x).square().sum() + network[0](x).sum(), x)
    assert (slope[..., :-1, :-1] != 0).all()  # the last column and row may miss out
