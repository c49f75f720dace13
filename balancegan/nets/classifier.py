"""A small convolutional classifier, and how it is trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from balancegan.compute.memory import Fitting, mean_gradients

FEATURES = 128


def train_classifier(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    updates: int,
    fitting: Fitting,
    log_prior: Tensor | float = 0.0,
) -> None:
    """AdamW under a one-cycle schedule that ends near zero, on the mean cross-entropy of every batch.

    Args:
        network: images -> logits (B, K).
        batches: images (B, C, S, S) in [-1, 1] and their classes (B,), on the network's device; fewer than `updates`
            of them end the training early.
        updates: the length of the schedule.
        fitting: how many images are worked on at once.
        log_prior: (K,) added to the logits (balanced softmax).
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=max(2, updates + 1))
    network.train()
    for x, target in batches:

        def loss(some: slice, x: Tensor = x, target: Tensor = target) -> Tensor:
            return functional.cross_entropy(network(x[some]) + log_prior, target[some])

        mean_gradients(loss, len(x), fitting, optimiser.zero_grad)
        optimiser.step()
        schedule.step()


def seeded_classifier(channels: int, num_classes: int, side: int, seed: int, device: torch.device | str) -> nn.Module:
    """`build_classifier` with the initial weights of a seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_classifier(channels, num_classes, side).to(device)


def build_classifier(channels: int, num_classes: int, side: int) -> nn.Sequential:
    """`Sequential(features, head)`: (N, C, side, side) -> (N, FEATURES) -> (N, num_classes)."""

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
