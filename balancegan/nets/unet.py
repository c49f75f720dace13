"""The U-Net of diffusion models: an image, a noise level and a class to an image of the same size.

The encoder-decoder of Ho et al. (2020, arXiv 2006.11239) as arranged by Song et al. (2021, arXiv 2011.13456) and Karras
et al. (2022, arXiv 2206.00364, appendix F.2, "DDPM++"): residual blocks that also change the resolution, as many per
side in the encoder and one more in the decoder, a skip connection from every layer of the encoder, and self-attention
at one resolution (in the decoder after its last block) and at the bottom.

Deviations: attention has heads of 64 channels, as in ADM (arXiv 2105.05233), where 64 divides the channels; classes are
an embedding (N(0, 1)) where EDM multiplies a one-hot vector by a matrix; weights start as PyTorch starts them, and each
block's last convolution at zero, where EDM's start uniform (Xavier) and at 1e-5 of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.compute import batch_random


class UNet(nn.Module):
    """Shapes: x (N, C, S, S), noise (N,), c (N,) int64, extra (N, extra) or None -> (N, C, S, S).

    Args:
        num_labels: number of labels, including any that stands for "no class".
        channels: C.
        image_size: S.
        width: channels at the first side.
        multipliers: of the width, from the first side down; each side is half the one before.
        blocks: residual blocks per side.
        attention: the side with self-attention.
        dropout: share of activations dropped in the middle of every block.
        scale_shift: whether the embedding scales and shifts the features (Dhariwal & Nichol 2021, arXiv 2105.05233) or
            is only added to them.
        extra: numbers per image that the network is told besides noise level and class.
    """

    def __init__(
        self,
        num_labels: int,
        channels: int,
        image_size: int,
        *,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: int,
        dropout: float,
        scale_shift: bool = True,
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.width, size = width, 4 * width
        self.classes = nn.Embedding(num_labels, width)
        self.extra = nn.Linear(extra, width, bias=False) if extra else None
        self.embed = nn.Sequential(nn.Linear(width, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())

        def block(inside: int, outside: int, resample: str = "", attend: bool = False) -> Block:
            return Block(inside, outside, size, resample, attend, dropout, scale_shift)

        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        skips, now = [width], width
        sides = [image_size >> level for level in range(len(multipliers))]
        for level, (side, factor) in enumerate(zip(sides, multipliers, strict=True)):
            if level:
                self.encoder.append(block(now, now, "down"))
                skips.append(now)
            for _ in range(blocks):
                self.encoder.append(block(now, factor * width, attend=side == attention))
                now = factor * width
                skips.append(now)
        self.middle = nn.ModuleList([block(now, now, attend=True), block(now, now)])
        for level, (side, factor) in reversed(list(enumerate(zip(sides, multipliers, strict=True)))):
            stage = nn.ModuleList()
            for i in range(blocks + 1):
                stage.append(block(now + skips.pop(), factor * width, attend=side == attention and i == blocks))
                now = factor * width
            self.decoder.append(stage)
            if level:
                self.decoder.append(nn.ModuleList([block(now, now, "up")]))
        self.last = nn.Sequential(_norm(now), nn.SiLU(), _zero(nn.Conv2d(now, channels, 3, padding=1)))

    def forward(self, x: Tensor, noise: Tensor, c: Tensor, extra: Tensor | None = None) -> Tensor:
        """Apply the network; see the class docstring."""
        e = sinusoids(noise, self.width) + self.classes(c)
        if self.extra is not None and extra is not None:
            e = e + self.extra(extra)
        e = self.embed(e)  # (N, 4 width)
        h = self.first(x)
        skips = [h]
        for layer in self.encoder:
            h = layer(h, e)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, e)
        for stage in self.decoder:
            for layer in stage:  # type: ignore[attr-defined]
                h = layer(h if layer.resample else torch.cat([h, skips.pop()], 1), e)
        return self.last(h)


class Block(nn.Module):
    """A residual block, followed by self-attention if `attend`; its branch starts at zero.

    Shapes: (N, inside, S, S), (N, embedding) -> (N, outside, S, S), or twice or half the side.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        embedding: int,
        resample: str = "",  # or "up", "down"
        attend: bool = False,
        dropout: float = 0.0,
        scale_shift: bool = True,
    ) -> None:
        super().__init__()
        self.resample, self.scale_shift = resample, scale_shift
        self.norm1, self.norm2 = _norm(inside), _norm(outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv2 = _zero(nn.Conv2d(outside, outside, 3, padding=1))
        self.modulation = nn.Linear(embedding, (2 if scale_shift else 1) * outside)
        self.dropout = Dropout(dropout)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside or resample else nn.Identity()
        self.attention = Attention(outside) if attend else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Apply the block to features x (N, inside, S, S) with the embedding e (N, embedding)."""
        h = self.conv1(self._resized(F.silu(self.norm1(x))))
        change = self.modulation(e)[:, :, None, None].to(h.dtype)
        if self.scale_shift:
            scale, shift = change.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), scale + 1)
        else:
            h = self.norm2(h + change)
        h = self.conv2(self.dropout(F.silu(h)))
        h = (h + self.skip(self._resized(x))) * math.sqrt(0.5)
        return h if self.attention is None else self.attention(h)

    def _resized(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample else x


class Attention(nn.Module):
    """Residual self-attention with heads of 64 channels; its branch starts at zero: (N, C, S, S) -> (N, C, S, S)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 64 if channels % 64 == 0 else 1
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over positions."""
        n, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).mT  # (N, 3, heads, S², 64)
        h = F.scaled_dot_product_attention(*(t.contiguous() for t in qkv.unbind(1)))
        h = h.mT.reshape(n, channels, height, width)
        return (x + self.out(h)) * math.sqrt(0.5)


class Dropout(nn.Module):
    """Dropout whose random numbers come from `batch_random`, so that a batch may be processed in parts.

    They are bytes, because every part draws those of the whole batch; the share dropped is a multiple of 1/256.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of x (N, C, H, W) in training and scale up the others."""
        if not (self.training and self.dropped):
            return x
        n, channels, height, width = x.shape

        def draw(count: int) -> Tensor:
            return torch.randint(0, 256, (count, height, width, channels), device=x.device, dtype=torch.uint8)

        kept = batch_random.rows(draw, n).permute(0, 3, 1, 2) >= self.dropped
        return x * kept * (256 / (256 - self.dropped))


def sinusoids(t: Tensor, size: int) -> Tensor:
    """Embed numbers t (N,) as cosines and sines of frequencies from 1 down to 1/10,000: (N, size)."""
    frequencies = torch.exp(torch.linspace(0, -math.log(10_000), size // 2, device=t.device))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


def _norm(channels: int) -> nn.GroupNorm:
    """Return EDM's group norm: up to 32 groups of at least 4 channels, as many as divide them evenly."""
    groups = next(n for n in range(max(1, min(32, channels // 4)), 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution with zero weights: its branch starts as nothing."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
