"""`shared_fakes`: the generator update reuses the discriminator's fakes."""

import pytest
import torch
from helpers import GANS, make_method

from balancegan.compute.microbatch import Part, part, step_in_parts
from balancegan.core.errors import UsageError

X = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
C = torch.tensor([0, 1, 2, 0])


def shares(name):
    try:
        make_method(name, shared_fakes=True)
    except UsageError:
        return False
    return True


SHARING = [name for name in GANS if shares(name)]


def watched(method):
    """Return the method and a list of the labels of everything that it generates."""
    labels, generate = [], method.generate

    def generated(c):
        labels.append(c)
        return generate(c)

    method.generate = generated
    return method, labels


def judged(name):
    """Return a method after its discriminator's loss, the fakes that it kept, and the labels of all its fakes."""
    method, labels = watched(make_method(name, shared_fakes=True))
    torch.manual_seed(0)
    sum(method.d_loss(X, C).values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in method.g_parameters())  # the discriminator's update
    return method, method._kept, labels


def g_loss(method):
    torch.manual_seed(7)  # the augmentation's numbers
    return sum(method.g_loss(X, C).values())


@pytest.mark.parametrize("name", SHARING)
def test_gradients_are_those_of_the_judged_images(name):
    """The chain rule in two steps: loss w.r.t. the images (as leaves), then images w.r.t. the weights."""
    method, _, labels = judged(name)
    parameters = list(method.g_parameters())
    shared = torch.autograd.grad(g_loss(method), parameters)
    assert len(labels) == 1  # the generator made none
    other, (images, of), _ = judged(name)
    assert torch.equal(of, labels[0])
    leaf = images.detach().requires_grad_()
    other.fakes_for_g = lambda _: (leaf, of)
    (by_images,) = torch.autograd.grad(g_loss(other), leaf)
    expected = torch.autograd.grad(images, list(other.g_parameters()), by_images)
    for a, b in zip(shared, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SHARING)
def test_without_it_the_generator_draws_for_itself(name):
    method, labels = watched(make_method(name, shared_fakes=False))
    method.d_loss(X, C)
    assert method._kept is None
    method.g_loss(X, C)
    assert len(labels) == 2


@pytest.mark.parametrize("name", SHARING)
def test_in_parts_nothing_is_shared(name):
    method, _, labels = judged(name)
    with part(Part(0, 2, 4, piece=True)):
        method.g_loss(X[:2], C[:2])  # memory ran out here: what was kept is for the whole batch
    assert len(labels[-1]) == 2 and method._kept is None
    with step_in_parts(True):
        method.d_loss(X, C)
    assert method._kept is None  # the generator could not use it
    method, _, _ = judged(name)
    with part(Part(0, 2, 4, piece=True)):
        method.d_loss(X[:2], C[:2])
    assert method._kept is None


def test_bagan_refuses_it():
    with pytest.raises(UsageError, match="fewer images"):
        make_method("bagan", shared_fakes=True)
