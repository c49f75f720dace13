"""The gradient penalty of conditional discriminators, as BAGAN-GP, SGBGAN and cWGAN-GP have it.

Gulrajani et al.: "Improved Training of Wasserstein GANs", 2017, arXiv 1704.00028. This module holds no method.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.core.config import require
from balancegan.methods.conditional import ConditionalConfig
from balancegan.nets import losses


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(ConditionalConfig):
    """Fields of the methods with a gradient penalty."""

    lambda_gp: float = 5.0
    penalty_every: int = 1  # of so many images one has its gradient penalised

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_weight("lambda_gp")
        require(self.penalty_every >= 1, "penalty_every", self.penalty_every, "1 or more")


def gradient_penalty(D: nn.Module, cfg: PenaltyConfig, x: Tensor, x_fake: Tensor, c: Tensor) -> Tensor:
    """The weighted penalty between real and generated images (N, C, S, S), judged under the real images' labels c (N,).

    Of `penalty_every` images one is looked at: those of a batch are independent, so the mean is the same in
    expectation, at that share of the cost of differentiating twice.
    """
    alpha = batch_random.rand(len(x), device=x.device)
    chosen, weight = batch_random.every_nth(len(x), cfg.penalty_every)
    x, x_fake, c, alpha = x[chosen], x_fake[chosen], c[chosen], alpha[chosen]
    if not cfg.lambda_gp or not len(x):
        return x.new_zeros(())
    return cfg.lambda_gp * weight * losses.gradient_penalty(lambda x_hat: D(x_hat, c), x, x_fake, alpha)
