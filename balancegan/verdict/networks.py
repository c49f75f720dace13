"""The classifiers that the verdict trains: a small wide residual network, or a pre-trained ResNet-18."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from balancegan.nets.classifier import Optimise, seeded, sgd
from balancegan.nets.wide_resnet import WideResNet


@dataclass(frozen=True)
class Network:
    """How to build a classifier, and how long to train it.

    The budget depends on the real training images alone, so synthetic images cannot buy their arm more training:
    `epochs` over them, within `updates` (on a CPU; four times the maximum elsewhere).
    """

    name: str
    build: Callable[[int, int, int], nn.Module]  # channels, classes, side -> network
    optimise: Optimise
    side: int  # images are kept at no more than this many pixels per side
    batch: int
    epochs: int
    updates: tuple[int, int]
    note: str

    def seeded(self, channels: int, num_classes: int, side: int, seed: int, device: torch.device) -> nn.Module:
        """Build it with initial weights that depend on the seed only."""
        network = seeded(lambda: self.build(channels, num_classes, side), seed)
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def budget(self, images: int, device: torch.device) -> int:
        """Return the number of updates for so many real training images."""
        least, most = self.updates
        return min(max(least, self.epochs * images // self.batch), most * (1 if device.type == "cpu" else 4))


SMALL = Network(
    "WRN-16-1",
    WideResNet,
    sgd,
    side=64,
    batch=128,
    epochs=15,
    updates=(300, 1500),
    note=(
        "These results are for a small classifier, a wide residual network of 16 layers (WRN-16-1). A larger or "
        "pre-trained one may need the images less, or make better use of them. At most 2,000 synthetic images per "
        "class are used."
    ),
)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not there before PyTorch 2.9
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
