"""Three ways to attend that give the same images and gradients."""

import pytest
import torch

from balancegan.nets import attention
from balancegan.nets.layers import SelfAttention2d

N, L, D, V = 5, 12, 3, 7


@pytest.fixture(params=[1, 2, 8])
def at_once(request, monkeypatch):
    """Images whose matrices fit into the cache: one, less than all with a rest, more than all."""
    monkeypatch.setattr(attention, "CACHE", request.param * 4 * L * L)


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = ((N, D, L), (N, D, L), (N, V, L))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def derivatives(attend):
    """Result, gradients, and gradients of a penalty on the gradients, along random directions."""
    inputs = tensors()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(N, V, L, generator=generator).requires_grad_()
    o = attend(*inputs)
    first = torch.autograd.grad(o, inputs, direction, create_graph=True)
    towards = [torch.randn(g.shape, generator=generator) for g in first]
    second = torch.autograd.grad(first, [*inputs, direction], towards)
    return [o, *first, *second]


def test_in_cache_equals_written_out_to_the_second_derivative(at_once):
    for mine, plain in zip(derivatives(attention.in_cache), derivatives(attention.written_out), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_its_derivatives_are_those_of_finite_differences(at_once):
    inputs = [t.detach()[:3, :, :5].requires_grad_() for t in tensors(torch.float64)]
    assert torch.autograd.gradcheck(attention.in_cache, inputs)
    assert torch.autograd.gradgradcheck(attention.in_cache, inputs)


def test_fused_equals_written_out():
    results = []
    for attend in (attention.fused, attention.written_out):
        inputs = tensors()
        o = attend(*inputs)
        results.append([o, *torch.autograd.grad(o.square().sum(), inputs)])
    for mine, plain in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_not_all_inputs_need_gradients():
    query, key, value = tensors()
    (alone,) = torch.autograd.grad(attention.in_cache(query.detach(), key, value.detach()).square().sum(), key)
    (among,) = torch.autograd.grad(attention.in_cache(query, key, value).square().sum(), key)
    assert torch.equal(alone, among)


@pytest.mark.parametrize("twice, expected", [(True, "written_out"), (False, "fused")])
def test_other_devices_take_the_fused_kernel_unless_it_must_be_differentiated_twice(twice, expected, monkeypatch):
    used = []
    for name in ("in_cache", "written_out", "fused"):
        monkeypatch.setattr(attention, name, lambda q, k, v, name=name: used.append(name) or v)
    x = torch.empty(1, 16, 4, 4, device="meta")
    SelfAttention2d(16, twice_differentiable=twice).to("meta")(x)
    SelfAttention2d(16, twice_differentiable=twice)(torch.zeros(1, 16, 4, 4))
    assert used == [expected, "in_cache"]
