"""The classifiers that the verdict trains: a small wide residual network, or a pre-trained ResNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from balancegan.core.errors import CheckpointError, UsageError, WeightsMissingError
from balancegan.metrics.resnet import IMAGENET
from balancegan.metrics.weights import find_weights, get_weights, read_state
from balancegan.nets.classifier import Optimise, adamw, build_classifier, seeded, sgd
from balancegan.nets.wide_resnet import WideResNet

_PRETRAINED_SIDE = 224
_RESNETS = {"resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50"}  # torchvision's names


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
    bfloat16: bool = True  # where the device is fast with it

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
    epochs=8,
    updates=(300, 1500),
    note=(
        "These results are for a small classifier, a wide residual network of 16 layers (WRN-16-1). A larger or "
        "pre-trained one may need the images less, or make better use of them. At most 2,000 synthetic images per "
        "class are used."
    ),
)


QUICK = Network(
    "narrow convolutional network",
    partial(build_classifier, narrower=2),
    adamw,
    side=64,
    batch=64,
    epochs=8,
    updates=(300, 600),  # fewer hide what more images are worth (benchmarks/recipe.md)
    note="",
    bfloat16=False,  # the layers are too narrow to gain from it
)
"""For choices that take dozens of trainings."""


def choose_network(name: str) -> Network:
    """Return the network that `--classifier` names: `small`, `resnet18`, or the weights file of a torchvision ResNet.

    Raises:
        UsageError: neither a known name nor a file.
        WeightsMissingError: this machine has no weights of ResNet-18.
        CheckpointError: the file holds another network.
    """
    if name == "small":
        return SMALL
    path = find_weights(name) if name == "resnet18" else Path(name)
    if path is None:
        raise WeightsMissingError("no resnet18 weights on this machine", get_weights("resnet18"))
    if not path.is_file():
        hint = "give small, resnet18, or the weights file of a torchvision ResNet-18, -34 or -50"
        raise UsageError(f"--classifier {name} is neither a classifier nor a file", hint)
    return pretrained(path)


def pretrained(path: Path) -> Network:
    """Describe the torchvision ResNet whose weights are in this file, to be fine-tuned at 224 px.

    Raises `CheckpointError` if the file is damaged or holds another network.
    """
    from torchvision import models

    state = {key: value for key, value in read_state(path, "resnet18").items() if not key.startswith("fc.")}
    shapes = {key: value.shape for key, value in state.items()}
    name = next((name for name in _RESNETS if _shapes(getattr(models, name)) == shapes), None)
    if name is None:
        raise CheckpointError(f"{path} holds none of {', '.join(_RESNETS.values())}", get_weights("resnet18"))
    title = _RESNETS[name]

    def fine_tuned(channels: int, num_classes: int, side: int) -> nn.Module:
        trunk = getattr(models, name)(weights=None)
        trunk.load_state_dict(state, strict=False)
        trunk.fc = nn.Linear(trunk.fc.in_features, num_classes)
        return nn.Sequential(_ForImageNet(), trunk)

    return Network(
        title,
        fine_tuned,
        partial(adamw, rate=3e-4),  # so that what was learned before is not wiped out
        side=_PRETRAINED_SIDE,
        batch=32,
        epochs=8,
        updates=(150, 1500),
        note=(
            f"These results are for a {title} with the weights in {path.name}, fine-tuned at {_PRETRAINED_SIDE} px. At "
            "most 2,000 synthetic images per class are used."
        ),
    )


def _shapes(build: Callable[..., nn.Module]) -> dict[str, torch.Size]:
    """The shapes of a ResNet's tensors, without those of its classifier."""
    with torch.device("meta"):
        state = build(weights=None).state_dict()
    return {key: value.shape for key, value in state.items() if not key.startswith("fc.")}


class _ForImageNet(nn.Module):
    """Images (N, C, S, S) in [-1, 1] -> (N, 3, 224, 224), normalised as in the network's training."""

    def forward(self, x: Tensor) -> Tensor:
        """Resize and normalise."""
        size = (_PRETRAINED_SIDE, _PRETRAINED_SIDE)
        x = functional.interpolate((x + 1) / 2, size=size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in IMAGENET)
        return (x.expand(-1, 3, -1, -1) - mean) / std


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not there before PyTorch 2.9
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
