"""Losses against references written out from their equations, and their directions."""

import math

import pytest
import torch
from torch import nn

from balancegan.nets import losses


def test_binary_cross_entropies():
    logits = torch.tensor([-2.0, 0.0, 3.0])
    p = [1 / (1 + math.exp(-v)) for v in logits.tolist()]
    assert losses.bce_as_real(logits).item() == pytest.approx(-sum(math.log(q) for q in p) / 3, rel=1e-5)
    assert losses.bce_as_fake(logits).item() == pytest.approx(-sum(math.log(1 - q) for q in p) / 3, rel=1e-5)


def test_cross_entropies_pull_logits_the_right_way():
    logits = torch.zeros(4, requires_grad=True)
    losses.bce_as_real(logits).backward()
    assert (logits.grad < 0).all()  # descent raises the logit of what should be real
    logits.grad = None
    losses.bce_as_fake(logits).backward()
    assert (logits.grad > 0).all()


def test_gradient_penalty_of_a_linear_critic_is_known():
    w = torch.randn(3, 4, 4, dtype=torch.float64)
    critic = lambda x: (x * w.float()).flatten(1).sum(1)  # noqa: E731  (its gradient is w everywhere)
    x, fake = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    expected = (w.norm().item() - 1) ** 2
    assert losses.gradient_penalty(critic, x, fake, torch.rand(5)).item() == pytest.approx(expected, rel=1e-4)


def test_gradient_penalty_interpolates_real_times_alpha():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    real, fake = torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    alpha = torch.tensor([0.0, 0.25, 1.0])
    losses.gradient_penalty(critic, real, fake, alpha)
    torch.testing.assert_close(seen[0][:, 0, 0, 0], alpha)  # x_hat = alpha * real + (1 - alpha) * fake


def test_gradient_penalty_reaches_weights_and_not_the_generator():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    fake = torch.rand(2, 1, 2, 2, requires_grad=True)
    value = losses.gradient_penalty(lambda x: critic(x).squeeze(1), torch.rand(2, 1, 2, 2), fake, torch.rand(2))
    value.backward()
    assert critic[1].weight.grad.abs().sum() > 0 and fake.grad is None


def test_gradient_penalty_is_finite_where_the_gradient_vanishes():
    w = torch.zeros(1, requires_grad=True)
    value = losses.gradient_penalty(
        lambda x: w * x.flatten(1).sum(1), torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2), torch.rand(2)
    )
    value.backward()
    assert value.item() == pytest.approx(1, abs=1e-5) and torch.isfinite(w.grad).all()


def test_kl_against_the_sum_over_latents():
    mu, logvar = torch.tensor([[1.0, -0.5], [0.0, 0.0]]), torch.tensor([[0.3, -1.0], [0.0, 0.0]])
    first = sum(0.5 * (m * m + math.exp(v) - 1 - v) for m, v in ((1.0, 0.3), (-0.5, -1.0)))
    assert losses.kl_to_standard_normal(mu, logvar).item() == pytest.approx(first / 2, rel=1e-5)


def test_image_terms_on_zero_one_images():
    a, x = torch.tensor([[[[0.5, -1.0]]]]), torch.tensor([[[[0.2, -0.8]]]])
    ce = mse = 0.0
    for logit, target in ((0.5, 0.2), (-1.0, -0.8)):
        q, p = (math.tanh(logit) + 1) / 2, (target + 1) / 2
        ce -= p * math.log(q) + (1 - p) * math.log(1 - q)
        mse += (q - p) ** 2
    assert losses.image_cross_entropy(a, x).item() == pytest.approx(ce, rel=1e-5)
    assert losses.image_squared_error(a, x).item() == pytest.approx(mse, rel=1e-5)


def test_image_terms_are_sums_over_pixels_and_means_over_images():
    a, x = torch.randn(4, 3, 8, 8), torch.rand(4, 3, 8, 8) * 2 - 1
    for loss in (losses.image_cross_entropy, losses.image_squared_error):
        single = torch.stack([loss(a[i : i + 1], x[i : i + 1]) for i in range(4)]).mean()
        torch.testing.assert_close(loss(a, x), single)
        torch.testing.assert_close(loss(a.repeat(1, 1, 2, 1), x.repeat(1, 1, 2, 1)), 2 * loss(a, x))


def test_cross_entropy_stays_finite_at_saturation():
    a = torch.full((1, 1, 2, 2), 200.0, requires_grad=True)
    value = losses.image_cross_entropy(a, -torch.ones(1, 1, 2, 2))
    value.backward()
    assert torch.isfinite(value) and (a.grad > 0).all()


def test_wasserstein_terms_are_means_of_opposite_sign():
    logits = torch.tensor([1.0, 2.0, 6.0])
    assert losses.wasserstein_as_fake(logits).item() == pytest.approx(3.0)
    assert losses.wasserstein_as_real(logits).item() == pytest.approx(-3.0)


def test_cross_entropies_against_the_definition():
    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1, 1, 2])
    slow = [
        -math.log(math.exp(row[k]) / sum(map(math.exp, row)))
        for row, k in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(losses.cross_entropies(logits, labels), torch.tensor(slow))


def test_autoencoder_errors_against_loops():
    a, b = torch.rand(2, 1, 3, 3) * 2 - 1, torch.rand(2, 1, 3, 3) * 2 - 1
    differences = [p - q for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    assert losses.mean_absolute_error(a, b).item() == pytest.approx(sum(map(abs, differences)) / 18, rel=1e-5)
    assert losses.mean_squared_error(a, b).item() == pytest.approx(sum(d * d for d in differences) / 18, rel=1e-5)


def unit(v):
    return [a / math.sqrt(sum(b * b for b in v)) for a in v]


def similarity(a, b, temperature):
    return math.exp(sum(p * q for p, q in zip(unit(a), unit(b), strict=True)) / temperature)


def test_nt_xent_against_loops():
    view1, view2 = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    z, t, total = [*view1.tolist(), *view2.tolist()], 0.5, 0.0
    for i in range(8):
        partner = (i + 4) % 8
        total -= math.log(similarity(z[i], z[partner], t) / sum(similarity(z[i], z[k], t) for k in range(8) if k != i))
    assert losses.nt_xent(view1, view2, t).item() == pytest.approx(total / 8, rel=1e-5)
    assert losses.nt_xent(view1, view1, 0.1) < losses.nt_xent(view1, view2, 0.1)


def test_supcon_fake_against_loops():
    generator = torch.Generator().manual_seed(1)
    real1, real2, fake = (torch.randn(n, 5, generator=generator) for n in (4, 4, 3))
    f, r, t, total = fake.tolist(), [*real1.tolist(), *real2.tolist()], 0.5, 0.0
    for i in range(3):
        below = sum(similarity(f[i], o, t) for k, o in enumerate(f) if k != i) + sum(similarity(f[i], o, t) for o in r)
        total -= sum(math.log(similarity(f[i], f[j], t) / below) for j in range(3) if j != i) / 2
    assert losses.supcon_fake(real1, real2, fake, t).item() == pytest.approx(total / 3, rel=1e-5)


def test_contrasts_do_not_depend_on_the_length_of_projections():
    view1, view2, fake = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(losses.nt_xent(3 * view1, view2), losses.nt_xent(view1, 0.1 * view2))
    torch.testing.assert_close(losses.supcon_fake(view1, view2, 7 * fake), losses.supcon_fake(view1, view2, fake))


def test_supcon_pulls_fakes_together_and_away_from_real_views():
    fake = torch.tensor([[1.0, 0.2], [1.0, -0.2]], requires_grad=True)
    real = torch.tensor([[1.0, 0.0]])
    losses.supcon_fake(real, real, fake).backward()
    step = fake.detach() - 0.01 * fake.grad
    far = losses.supcon_fake(-real, -real, fake.detach())
    assert losses.supcon_fake(real, real, step) < losses.supcon_fake(real, real, fake.detach()) and far < 0.1


def test_contrasts_are_computed_in_full_precision_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(6, 8, generator=generator) for _ in range(3))
    expected = losses.nt_xent(a, b), losses.supcon_fake(a, b, c)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.nt_xent(a, b), losses.supcon_fake(a, b, c)
    assert found == expected and found[0].dtype == torch.float32
