"""Inception with its layers rearranged for speed; the features match those of torch-fidelity's network.

The convolutions and their weights are the same, so features agree to rounding (`TOLERANCE`). Batch normalisation is
folded into the weights. The 1 x 1 convolutions of the same input are merged into one. Each 3 x 3 average pooling is
moved behind the 1 x 1 convolution that follows it, which gives the same sums over fewer channels. Tensors are in
channels-last format, in which convolution and pooling are fastest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 299
"""Side length of the network's input, in pixels."""

TOLERANCE = 1e-5
"""Maximum relative Euclidean distance between an image's features and torch-fidelity's."""

_EPSILON = 0.001  # for batch normalisation

_UNPADDED = {
    "Conv2d_1a_3x3": 2,
    "Conv2d_2a_3x3": 1,
    "Conv2d_4a_3x3": 1,
    "Mixed_6a.branch3x3": 2,
    "Mixed_6a.branch3x3dbl_3": 2,
    "Mixed_7a.branch3x3_2": 2,
    "Mixed_7a.branch7x7x3_4": 2,
}
"""Strides of the unpadded convolutions; the others keep the size."""

_FIVE = ("branch1x1", "branch5x5_1", "branch3x3dbl_1", "branch_pool")
_SEVEN = ("branch1x1", "branch7x7_1", "branch7x7dbl_1", "branch_pool")
_LAST = ("branch1x1", "branch3x3_1", "branch3x3dbl_1")
_FIRST = {
    **{f"Mixed_5{which}": _FIVE for which in "bcd"},
    **{f"Mixed_6{which}": _SEVEN for which in "bcde"},
    "Mixed_7a": ("branch3x3_1", "branch7x7x3_1"),
    "Mixed_7b": (*_LAST, "branch_pool"),
    "Mixed_7c": _LAST,  # its fourth branch uses max pooling
}
"""The 1 x 1 convolutions at the start of each block."""


class InceptionNet:
    """The network for inference, built from its tensors."""

    def __init__(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        """Prepare the weights.

        Args:
            state: float tensors, named as in torch-fidelity's `FeatureExtractorInceptionV3`.
            device: where the network runs.
        """
        names = [key.removesuffix(".conv.weight") for key in state if key.endswith(".conv.weight")]
        folded = {name: _folded(state, name) for name in names}
        self._first: dict[str, tuple[Tensor, Tensor, list[int]]] = {}
        for block, first in _FIRST.items():
            pairs = [folded.pop(f"{block}.{name}") for name in first]
            weight, bias = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            self._first[block] = (*_placed(weight, bias, device), [len(one[1]) for one in pairs])
        self._weights = {name: _placed(*pair, device) for name, pair in folded.items()}

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) on the device -> float32 (N, 2048)."""
        x = (resized(images.float()) - 128) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        x = functional.max_pool2d(self._chain(x, "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"), 3, 2)
        x = functional.max_pool2d(self._chain(x, "Conv2d_3b_1x1", "Conv2d_4a_3x3"), 3, 2)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._averaging(x, block, ("branch5x5_2",), ("branch3x3dbl_2", "branch3x3dbl_3"))
        a = self._chain(x, "Mixed_6a.branch3x3")
        b = self._chain(x, *(f"Mixed_6a.branch3x3dbl_{i}" for i in (1, 2, 3)))
        x = torch.cat([a, b, functional.max_pool2d(x, 3, 2)], 1)
        long = tuple(f"branch7x7dbl_{i}" for i in (2, 3, 4, 5))
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._averaging(x, block, ("branch7x7_2", "branch7x7_3"), long)
        a, b = self._firsts(x, "Mixed_7a")
        rest = (f"Mixed_7a.branch7x7x3_{i}" for i in (2, 3, 4))
        a, b = self._chain(a, "Mixed_7a.branch3x3_2"), self._chain(b, *rest)
        x = torch.cat([a, b, functional.max_pool2d(x, 3, 2)], 1)
        one, a, b, mean = self._firsts(x, "Mixed_7b")
        x = torch.cat([one, *self._forks("Mixed_7b", a, b), mean], 1)
        one, a, b = self._firsts(x, "Mixed_7c")
        highest = self._chain(functional.max_pool2d(x, 3, 1, 1), "Mixed_7c.branch_pool")
        x = torch.cat([one, *self._forks("Mixed_7c", a, b), highest], 1)
        return x.mean(dim=(2, 3))

    def _chain(self, x: Tensor, *names: str) -> Tensor:
        """Apply convolutions in sequence, each followed by ReLU."""
        for name in names:
            weight, bias = self._weights[name]
            stride = _UNPADDED.get(name)
            padding = (0, 0) if stride else (weight.shape[2] // 2, weight.shape[3] // 2)
            x = functional.conv2d(x, weight, bias, stride or 1, padding).relu_()
        return x

    def _firsts(self, x: Tensor, block: str) -> list[Tensor]:
        """Apply the block's first convolutions to x, each followed by ReLU."""
        weight, bias, sizes = self._first[block]
        if _FIRST[block][-1] != "branch_pool":
            return list(functional.conv2d(x, weight, bias).relu_().split(sizes, 1))
        *parts, pooled = functional.conv2d(x, weight).split(sizes, 1)
        pooled = pooled.contiguous(memory_format=torch.channels_last)
        pooled = functional.avg_pool2d(pooled, 3, 1, 1, count_include_pad=False)
        shifts = bias[:, None, None].split(sizes)
        return [(part + shift).relu_() for part, shift in zip((*parts, pooled), shifts, strict=True)]

    def _averaging(self, x: Tensor, block: str, short: tuple[str, ...], long: tuple[str, ...]) -> Tensor:
        one, a, b, mean = self._firsts(x, block)
        chains = (self._chain(y, *(f"{block}.{name}" for name in names)) for y, names in ((a, short), (b, long)))
        return torch.cat([one, *chains, mean], 1)

    def _forks(self, block: str, a: Tensor, b: Tensor) -> list[Tensor]:
        b = self._chain(b, f"{block}.branch3x3dbl_2")
        ends = ((a, "branch3x3_2a"), (a, "branch3x3_2b"), (b, "branch3x3dbl_3a"), (b, "branch3x3dbl_3b"))
        return [self._chain(y, f"{block}.{name}") for y, name in ends]


def resized(x: Tensor) -> Tensor:
    """Float (N, C, H, W) -> (N, C, 299, 299) by TensorFlow 1's bilinear resize, bit-identical to torch-fidelity's.

    Resizes horizontally first, while there are few rows, and then vertically.
    """
    low, high, way = _grid(x.shape[3], x.device)
    left = x[..., low]
    x = left + (x[..., high] - left) * way
    low, high, way = _grid(x.shape[2], x.device)
    top = x[:, :, low]
    return top + (x[:, :, high] - top) * way[:, None]


def _grid(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each new pixel, the two old pixels around it and its distance from the first, (299,) each."""
    at = torch.arange(SIDE, dtype=torch.float32, device=device) * torch.tensor(size / SIDE, dtype=torch.float32)
    low = at.long()
    return low, (low + 1).clamp_max(size - 1), at - low.float()


def _folded(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch normalisation folded in."""
    scale, shift, mean, variance = (
        state[f"{name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / (variance + _EPSILON).sqrt()
    weight = state[f"{name}.conv.weight"].double() * scale[:, None, None, None]
    return weight.float(), (shift - mean * scale).float()


def _placed(weight: Tensor, bias: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    return weight.to(device).contiguous(memory_format=torch.channels_last), bias.to(device)
