"""A small convolutional classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


FEATURES = 128


def classifier_loss(
    network: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, log_prior: torch.Tensor | float = 0.0
) -> Callable[[slice], torch.Tensor]:
    """Mean cross-entropy of some of the images x (B, C, S, S) against their classes (B,), as a function of which.

    `log_prior` (K,) is added to the logits (balanced softmax).
    """
    from torch.nn import functional

    return lambda some: functional.cross_entropy(network(x[some]) + log_prior, target[some])


def build_classifier(channels: int, num_classes: int, side: int) -> torch.nn.Sequential:
    """`Sequential(features, head)`: (N, C, side, side) -> (N, FEATURES) -> (N, num_classes)."""
    from torch import nn

    def block(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False)
        return [conv, nn.GroupNorm(8, outside), nn.ReLU()]

    # Every map after the first layer has about 16 pixels a side, so that a larger image costs no more time.
    first = max(1, side // 16)
    trunk = nn.Sequential(
        *block(channels, 32, stride=first, kernel=5 if first > 2 else 3),
        *block(32, 64, stride=2),
        *block(64, 96, stride=2),
        *block(96, 128),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128 * 4, FEATURES),
        nn.ReLU(),
    )
    return nn.Sequential(trunk, nn.Linear(FEATURES, num_classes))
