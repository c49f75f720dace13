"""Activations that work in place give the very images and gradients of those that do not."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from helpers import GANS, make_method
from torch import nn

from balancegan.methods import load_method


def results(network, *inputs):
    """Output, and gradients by the input and by the weights."""
    first, *rest = inputs
    first = first.clone().requires_grad_()
    out = network(first, *rest)
    if isinstance(out, tuple):
        out = torch.cat([part.flatten() for part in out])
    (by_input,) = torch.autograd.grad(out.square().sum(), first, retain_graph=True)
    return [out, by_input, *torch.autograd.grad(out.square().sum(), list(network.parameters()), allow_unused=True)]


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize("trunk", ["sndcgan", "snresnet18"])
def test_networks_compute_the_same_without_working_in_place(name, trunk, monkeypatch):
    config = load_method(name).Config
    flags = {key: value for key, value in {"trunk": trunk, "dropout": 0.0}.items() if hasattr(config, key)}
    method = make_method(name, **flags)
    x, c = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    z = method.latent(4)
    labelled = "c" in inspect.signature(method.D.forward).parameters
    inputs = {"G": (x if method.uses_sources else z, c), "D": (x, c) if labelled else (x,)}
    plain = copy.deepcopy(method)
    for module in plain.modules():
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            assert module.inplace
            module.inplace = False
    mine = [results(getattr(method, key), *given) for key, given in inputs.items()]
    monkeypatch.setattr(F, "leaky_relu_", F.leaky_relu)
    theirs = [results(getattr(plain, key), *given) for key, given in inputs.items()]
    for a, b in zip((t for some in mine for t in some), (t for some in theirs for t in some), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
