"""Langevin steps: a density they must reach, the prior's support, and seeds that name images."""

import numpy as np
import pytest
import torch
from helpers import make_method

from balancegan.core.errors import UsageError
from balancegan.sampling import langevin
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers
from balancegan.sampling.samplers import CHUNK, LangevinSampler, Patience, Sampler, latents

CPU = torch.device("cpu")


def walk(n=4000, steps=400, step_size=0.05, energy=None, **options):
    noise = torch.randn(steps, n, 2, generator=torch.Generator().manual_seed(0))
    return langevin.walk(torch.zeros(n, 2), energy, noise, step_size=step_size, **options)


def test_the_walk_reaches_the_density_of_the_energy():
    """exp(-E) with E = |z - m|²/(2 s²) is a Gaussian around m with deviation s."""
    mean = torch.tensor([0.7, -0.3])
    z = walk(energy=lambda z: ((z - mean) ** 2).sum(1) / (2 * 0.5**2))
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.full((2,), 0.5), atol=0.03, rtol=0)
    assert not z.requires_grad


def test_no_step_leaves_the_support():
    z = walk(steps=50, energy=lambda z: -10 * z.sum(1), support=(-1.0, 1.0))
    assert z.max() <= 1 and z.min() >= -1 and (z == 1).float().mean() > 0.5


def test_one_step_by_hand():
    z, n = torch.tensor([[0.2, -0.4]]), torch.tensor([[1.0, -2.0]])
    moved = langevin.walk(z, lambda z: (z**3).sum(1), [n], step_size=0.01)
    expected = z - 0.005 * 3 * z**2 + 0.1 * n
    torch.testing.assert_close(moved, expected)


@pytest.fixture(scope="module")
def method():
    """An unconditional method whose evaluator looks at the features' projection on a few directions."""
    method = make_method("damage-gan", d_width=8).eval()
    generator = torch.Generator().manual_seed(0)
    weight = method.evaluator.weight
    weight.copy_(torch.randn(weight.shape, generator=generator))
    with torch.no_grad():
        features = method.D.features(method.sample(latents(method, range(200)), torch.zeros(200, dtype=torch.int64)))
    method.evaluator.shift.copy_(features.mean(0))
    method.evaluator.scale.copy_(features.std(0))
    method.evaluator.fitted.fill_(True)
    return method


def test_the_energy_is_that_of_the_paper(method):
    z, c = latents(method, range(6)), torch.tensor([0, 1, 2, 0, 1, 2])
    x = method.sample(z, c)
    features = method.D.features(x)
    p = torch.softmax((features - method.evaluator.shift) / method.evaluator.scale @ method.evaluator.weight.T, dim=1)
    p = p * method.log_frequency.exp()  # for classes as frequent as D saw them
    expected = [-(method.D(x)[i] + 3 * (p[i, c[i]] / p[i].sum()).log()) for i in range(6)]
    torch.testing.assert_close(method.energy(z, c, 3.0), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_the_walk_makes_more_images_of_the_class(method):
    sampler, walks = Sampler(method, CPU), LangevinSampler(method, CPU)
    shares = np.bincount(sampler.likeliest(0), minlength=3)
    rare = int(shares.argmin())
    _, mine = walks.of_class(rare, 0)
    assert mine.sum() > 2 * shares[rare] + 5


def test_a_walk_is_known_by_class_and_seed_alone(method):
    walks = LangevinSampler(method, CPU)
    images, _ = walks.of_class(1, 3)
    again, _ = LangevinSampler(method, CPU).of_class(1, 3)
    assert (images == again).all()
    assert not (images == walks.of_class(2, 3)[0]).all()
    seeds, of_seeds = walks.of_seeds(1, [3 * CHUNK + 5, 3 * CHUNK + 9])
    for seed, image in zip(seeds, of_seeds, strict=True):
        assert (image == images[seed % CHUNK]).all()


def test_a_walk_starts_where_the_seeds_sample_is(method, monkeypatch):
    monkeypatch.setattr(langevin, "STEPS", 0)
    start = LangevinSampler(method, CPU)._latents(torch.zeros(CHUNK, dtype=torch.int64), range(CHUNK))
    assert torch.equal(start, latents(method, range(CHUNK)))


def test_images_found_in_two_ways_have_different_seeds(method, monkeypatch):
    monkeypatch.setattr(Sampler, "patience", Patience(1, 1.0, 100))  # never content
    monkeypatch.setattr(langevin, "STEPS", 1)
    label = int(Sampler(method, CPU).likeliest(0)[0])
    seeds, images = first_images(make_samplers(method, CPU), label, CHUNK)
    assert len(set(seeds)) == len(seeds) == len(images) and max(seeds) >= 5_000_000 and min(seeds) < CHUNK


def test_no_gradient_is_left_behind(method):
    LangevinSampler(method, CPU).of_class(0, 0)
    assert all(p.grad is None for p in method.parameters())


def test_which_samplers_there_are(method):
    assert [s.name for s in make_samplers(method, CPU)] == ["rejection", "langevin"]
    assert [s.name for s in make_samplers(method, CPU, "langevin")] == ["langevin"]
    conditional = make_method("sgbgan")
    assert len(make_samplers(conditional, CPU)) == 1
    for choice, kind in (("fast", method), ("langevin", conditional), ("rejection", conditional)):
        with pytest.raises(UsageError, match="--sampler"):
            make_samplers(kind, CPU, choice)
