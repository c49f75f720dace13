"""The images that the discriminator judged, learned from by the generator."""

import pytest
import torch
from helpers import make_method

from balancegan.core.errors import UsageError
from balancegan.methods import METHODS

X = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
C = torch.tensor([0, 1, 2, 0])
SHARING = [name for name in METHODS if name != "bagan"]


def generator_gradients(method):
    """Of the generator's loss, with the discriminator frozen, on what `made` gives."""
    method.zero_grad()
    torch.manual_seed(7)  # the augmentation's numbers
    sum(method.g_loss(X, C).values()).backward()
    return torch.cat([p.grad.flatten() for p in method.g_parameters()])


@pytest.mark.parametrize("name", SHARING)
def test_gradients_are_those_of_the_same_images_made_again(name, monkeypatch):
    method = make_method(name, shared_fakes=True)
    made = []
    generate = type(method).generate
    monkeypatch.setattr(type(method), "generate", lambda self, c: made.append(generate(self, c)) or made[-1])
    method.keep_fakes = True
    torch.manual_seed(0)
    terms = method.d_loss(X, C)
    sum(terms.values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in method.g_parameters())  # the discriminator's update
    method.keep_fakes = False
    shared = generator_gradients(method)
    assert len(made) == 1

    other = make_method(name, shared_fakes=True)
    if name.startswith(("contrad", "damage-gan", "sndcgan")):  # as many power iterations before
        torch.manual_seed(0)
        other.d_loss(X, C)
    torch.manual_seed(0)
    labels = other.fake_labels(C) if hasattr(other, "fake_labels") else C
    if name in ("sgbgan", "bagan-gp"):
        labels, _ = other.random_labels(4, C.device), other.wrong_labels(C)
    again = generate(other, labels)
    monkeypatch.setattr(type(other), "improved_fakes", lambda self, _: (again, labels))
    torch.testing.assert_close(generator_gradients(other), shared, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SHARING)
def test_without_it_the_generator_draws_for_itself(name):
    method = make_method(name)
    method.d_loss(X, C)
    assert method._kept is None
    method.keep_fakes = True
    method.d_loss(X, C)
    assert method._kept is not None
    method.forget_fakes()
    assert method._kept is None and not method.keep_fakes


def test_bagan_refuses_it():
    with pytest.raises(UsageError, match="fewer images"):
        make_method("bagan", shared_fakes=True)
