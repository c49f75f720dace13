"""Layers of the SGBGAN paper (doi 10.1007/s00138-023-01506-y), and batch norm that synchronises ranks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.compute import ranks
from balancegan.compute.collectives import all_sum
from balancegan.nets import attention


class SelfAttention2d(nn.Module):
    """Self-attention over the positions of a feature map (SGBGAN Eqs. 1–3, after SAGAN).

    With f, g, h, v 1x1 convolutions and i, j positions: β_{j,i} = softmax_i(f(x_i)ᵀ g(x_j)),
    o_j = v(Σ_i β_{j,i} h(x_i)), y = γ·o + x. γ is learnable and starts at 0, so the layer starts as the identity.
    f and g map to an eighth of the channels, h to a half (SAGAN's choice; the paper gives no widths).

    `twice_differentiable`: for use under a gradient penalty, which the fused kernel does not support.

    Shapes: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, *, twice_differentiable: bool = False) -> None:
        super().__init__()
        self.f = nn.Conv2d(channels, max(channels // 8, 1), 1, bias=False)
        self.g = nn.Conv2d(channels, max(channels // 8, 1), 1, bias=False)
        self.h = nn.Conv2d(channels, max(channels // 2, 1), 1, bias=False)
        self.v = nn.Conv2d(max(channels // 2, 1), channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.twice_differentiable = twice_differentiable

    def forward(self, x: Tensor) -> Tensor:
        """Attend; see the class docstring."""
        key, query, value = (conv(x).flatten(2) for conv in (self.f, self.g, self.h))  # (N, ·, HW)
        if x.device.type == "cpu":
            attend = attention.in_cache
        else:
            attend = attention.written_out if self.twice_differentiable else attention.fused
        o = attend(query, key, value)
        o = o.reshape(x.shape[0], -1, *x.shape[2:])
        return self.gamma * self.v(o) + x


class GLUConv2d(nn.Module):
    """Gated convolution (SGBGAN Eq. 4, Fig. 2): one half of the convolution's output times the sigmoid of the other.

    Shapes: (N, in, H, W) -> (N, out, H/stride, W/stride) with kernel 4, padding 1 at stride 2.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 4, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, split, gate."""
        return F.glu(self.conv(x), dim=1)


class DenseLabelEmbedding(nn.Module):
    """BAGAN-GP's conditioning of the discriminator: embedding 512 -> dense to the trunk's features -> LeakyReLU(0.2).

    Shapes: (N,) int64 -> (N, features).
    """

    def __init__(self, num_classes: int, features: int, embedding: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding)
        self.dense = nn.Linear(embedding, features)

    def forward(self, c: Tensor) -> Tensor:
        """Return one row of factors per label."""
        return F.leaky_relu(self.dense(self.embedding(c)), 0.2)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all ranks if they train together (`ranks.together`).

    `nn.SyncBatchNorm` supports only CUDA, and its statistics have no second derivative. Here they are plain sums over
    ranks, including ranks without images. On a single rank, and in evaluation, this is torch's batch norm.

    Shapes: (N, C, H, W) -> (N, C, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the batch of all ranks."""
        if not (self.training and ranks.several()):
            return super().forward(x)
        wide = x.float()
        count = wide.new_tensor([x.numel() / self.num_features])
        sums = all_sum(torch.cat([wide.sum((0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = wide - mean[:, None, None]
        var = all_sum(centred.square().sum((0, 2, 3))) / total
        self._follow(mean.detach(), var.detach() * total / (total - 1))
        y = centred * torch.rsqrt(var + self.eps)[:, None, None]
        if self.affine:
            y = torch.addcmul(self.bias[:, None, None], y, self.weight[:, None, None])
        return y.to(x.dtype)

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Update the running statistics."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


class ChannelNorm2d(nn.Module):
    """Layer norm over the channels of every position (Ba et al. 2016, arXiv 1607.06450, as Keras applies it to maps).

    Images stay independent of each other, as a critic with a gradient penalty needs.
    Shapes: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def through(layers: Iterable[nn.Module], h: Tensor, c: Tensor | None) -> Tensor:
    """Apply the layers in order; conditional layers (`takes_labels`) also get c (N,)."""
    for layer in layers:
        h = layer(h, c) if getattr(layer, "takes_labels", False) else layer(h)
    return h


class ConditionalBatchNorm2d(BatchNorm2d):
    """Batch norm with a gain and bias per label (de Vries et al. 2017, arXiv 1707.00683, §4.1).

    Shapes: x (N, C, H, W), c (N,) int64 -> (N, C, H, W).
    """

    takes_labels = True

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__(features, affine=False)
        self.gain = nn.Embedding(num_classes, features)
        self.shift = nn.Embedding(num_classes, features)
        nn.init.normal_(self.gain.weight, 1.0, 0.02)  # slightly different per class, to break the symmetry
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise over the whole batch, then scale and shift by label."""
        return torch.addcmul(self.shift(c)[..., None, None], self.gain(c)[..., None, None], super().forward(x))
