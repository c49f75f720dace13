"""Layers against slow references written out from the paper's equations."""

import torch

from balancegan.nets.layers import DenseLabelEmbedding, GLUConv2d, SelfAttention2d


def conv1x1(weight, x):
    """(out, in, 1, 1), (in, positions) -> (out, positions)."""
    return weight[:, :, 0, 0] @ x


def test_self_attention_is_equations_1_to_3():
    torch.manual_seed(0)
    layer = SelfAttention2d(16).double()
    layer.gamma.data.fill_(0.7)
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    y = layer(x)
    for n in range(2):
        flat = x[n].flatten(1)  # (C, N)
        f, g, h = (conv1x1(c.weight, flat) for c in (layer.f, layer.g, layer.h))
        for j in range(12):
            s = torch.stack([f[:, i] @ g[:, j] for i in range(12)])
            beta = s.exp() / s.exp().sum()  # Eq. 1, over i
            o = conv1x1(layer.v.weight, sum(beta[i] * h[:, i] for i in range(12))[:, None])[:, 0]  # Eq. 2
            expected = 0.7 * o + flat[:, j]  # Eq. 3
            torch.testing.assert_close(y[n].flatten(1)[:, j], expected)


def test_self_attention_starts_as_the_identity():
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(SelfAttention2d(8)(x), x)


def test_attention_has_a_double_backward():
    layer = SelfAttention2d(8, twice_differentiable=True).double()
    layer.gamma.data.fill_(0.5)
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_glu_convolution_is_equation_4():
    torch.manual_seed(0)
    layer = GLUConv2d(3, 5)
    x = torch.randn(2, 3, 8, 8)
    both = layer.conv(x)
    expected = both[:, :5] * torch.sigmoid(both[:, 5:])
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape == (2, 5, 4, 4)


def test_dense_label_embedding_distinguishes_labels():
    layer = DenseLabelEmbedding(4, 32)
    out = layer(torch.arange(4))
    assert out.shape == (4, 32)
    assert torch.cdist(out, out).fill_diagonal_(1).min() > 0.1
