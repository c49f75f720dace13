"""A small convolutional classifier and its training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from balancegan.compute.memory import Fitting, mean_gradients

FEATURES = 128

Optimise = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def adamw(parameters: Iterable[nn.Parameter], rate: float = 2e-3) -> torch.optim.Optimizer:
    """Build the optimiser of the small classifier; its rate is the highest of the schedule."""
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimiser of wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146, section 3).

    The one-cycle schedule replaces the paper's constant momentum of 0.9 by one between 0.85 and 0.95.
    """
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


def train_classifier(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    updates: int,
    fitting: Fitting,
    log_prior: Tensor | float = 0.0,
    optimise: Optimise = adamw,
    *,
    bfloat16: bool = False,
) -> None:
    """Train on the mean cross-entropy of each batch; the one-cycle schedule of the learning rate ends near zero.

    Args:
        network: images -> logits (B, K).
        batches: images (B, C, S, S) in [-1, 1] and their classes (B,) or weights of classes (B, K), on the network's
            device; with fewer than `updates` batches, training ends early.
        updates: length of the schedule.
        fitting: the number of images processed at once.
        log_prior: (K,) added to the logits (balanced softmax).
        optimise: builds the optimiser.
        bfloat16: whether to compute in bfloat16 where that is safe.
    """
    optimiser = optimise(network.parameters())
    rate = optimiser.defaults["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=max(2, updates + 1))
    network.train()
    for x, target in batches:

        def loss(some: slice, x: Tensor = x, target: Tensor = target) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
                logits = network(x[some])
            return functional.cross_entropy(logits.float() + log_prior, target[some])

        mean_gradients(loss, len(x), fitting, optimiser.zero_grad)
        optimiser.step()
        schedule.step()


def seeded_classifier(channels: int, num_classes: int, side: int, seed: int, device: torch.device | str) -> nn.Module:
    """Call `build_classifier` with initial weights that depend on `seed` only."""
    return seeded(lambda: build_classifier(channels, num_classes, side), seed).to(device)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose initial weights depend on `seed` only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def build_classifier(channels: int, num_classes: int, side: int, narrower: int = 1) -> nn.Sequential:
    """Build `Sequential(features, head)`: (N, C, side, side) -> (N, FEATURES) -> (N, num_classes).

    `narrower` divides the number of channels of every layer, `FEATURES` too.
    """
    widths = [channels, *(width // narrower for width in (32, 64, 96, 128))]

    def block(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False)
        return [conv, nn.GroupNorm(8, outside), nn.ReLU()]

    # The first layer's output is about 16 pixels wide for every image size, so larger images take no longer.
    first = max(1, side // 16)
    strides = (first, 2, 2, 1)
    kernels = (5 if first > 2 else 3, 3, 3, 3)
    blocks = zip(widths, widths[1:], strides, kernels, strict=False)
    trunk = nn.Sequential(
        *(layer for inside, outside, stride, kernel in blocks for layer in block(inside, outside, stride, kernel)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(widths[-1] * 4, FEATURES // narrower),
        nn.ReLU(),
    )
    return nn.Sequential(trunk, nn.Linear(FEATURES // narrower, num_classes))
