"""The conditional variant: labels affect the image and the logit head, but not the trunk."""

import torch
from helpers import DATA, make_method
from torch.nn import functional

from balancegan.nets.layers import ConditionalBatchNorm2d

NARROW = {"width": 8, "d_width": 8}


def images(n=6):
    x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return x, torch.tensor([0, 1, 2] * (n // 3))


def test_conditional_batch_norm_against_a_loop():
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(3, 4)
    torch.nn.init.normal_(layer.shift.weight)
    x, c = torch.randn(5, 4, 2, 2), torch.tensor([0, 2, 1, 1, 0])
    z = functional.batch_norm(x, None, None, training=True)
    expected = torch.stack(
        [
            torch.stack([z[i, k] * layer.gain.weight[c[i], k] + layer.shift.weight[c[i], k] for k in range(4)])
            for i in range(5)
        ]
    )
    torch.testing.assert_close(layer(x, c), expected, atol=1e-5, rtol=1e-4)


def test_generated_labels_are_uniform_and_real_ones_kept(monkeypatch):
    method = make_method("damage-gan-c", **NARROW)
    seen = []
    logit = method.D.logit
    monkeypatch.setattr(method.D, "logit", lambda features, c: seen.append(c) or logit(features, c))
    monkeypatch.setattr(method, "random_labels", lambda n, device: torch.full((n,), 2))
    x, c = images()
    method.d_loss(x, c)
    assert seen[0].tolist() == [*c.tolist(), *[2] * 6]
    method.g_loss(x, c)
    assert seen[1].tolist() == [2] * 6


def test_the_projection_term():
    method = make_method("damage-gan-c", **NARROW)
    method.D.eval()
    features, c = torch.randn(4, method.D.trunk.features), torch.tensor([0, 1, 2, 1])
    dense, activation, last = method.D.logit_head
    h = activation(dense(features))
    expected = [last(h[i]).squeeze() + h[i] @ method.D.class_embedding.weight[c[i]] for i in range(4)]
    torch.testing.assert_close(method.D.logit(features, c), torch.stack(expected))


def test_what_labels_alone_decide_is_taken_out_of_the_head():
    """A class with frequency q_c in real batches and 1/K in generated ones adds log(K q_c) to the logit."""
    for sampling, frequency in (
        ("natural", torch.tensor(DATA.class_counts).float()),
        ("sqrt", torch.tensor(DATA.class_counts).float().sqrt()),
        ("balanced", torch.ones(3)),
    ):
        method = make_method("damage-gan-c", **NARROW, sampling=sampling)
        torch.testing.assert_close(method.log_frequency, torch.log(frequency / frequency.sum()))
        method.eval()
        features, c = torch.randn(3, method.D.trunk.features), torch.tensor([0, 1, 2])
        torch.testing.assert_close(
            method.judged(features, c), method.D.logit(features, c) + (3 * frequency / frequency.sum()).log()
        )


def test_the_adversarial_loss_leaves_the_trunk_alone():
    method = make_method("damage-gan-c", detached=True, **NARROW)
    terms = method.d_loss(*images())
    (terms["real"] + terms["fake"]).backward()
    with_gradient = {name for name, p in method.D.named_children() if any(q.grad is not None for q in p.parameters())}
    assert with_gradient == {"logit_head", "class_embedding"}


def test_it_can_be_sampled_without_an_evaluator():
    assert make_method("damage-gan-c", **NARROW).ready and not make_method("damage-gan", **NARROW).ready
