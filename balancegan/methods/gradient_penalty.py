"""The gradient penalty on conditional discriminators that BAGAN-GP, SGBGAN and cWGAN-GP use.

Gulrajani et al.: "Improved Training of Wasserstein GANs", 2017, arXiv 1704.00028. This module defines no method of its
own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.methods.conditional import ConditionalConfig
from balancegan.nets import losses


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(ConditionalConfig):
    """Fields of methods with a gradient penalty."""

    lambda_gp: float = 5.0
    penalty_every: int = 1  # penalise every n-th image of a batch

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_least(0, "lambda_gp")
        self.require_least(1, "penalty_every")


def gradient_penalty(D: nn.Module, cfg: PenaltyConfig, x: Tensor, x_fake: Tensor, c: Tensor) -> Tensor:
    """Return the weighted penalty between real and generated images (N, C, S, S) under the real labels c (N,).

    Only every `penalty_every`-th image is penalised. Images of a batch are independent, so the expected mean is the
    same, and the double backward pass costs only 1 / `penalty_every`.
    """
    alpha = batch_random.rand(len(x), device=x.device)
    chosen, weight = batch_random.every_nth(len(x), cfg.penalty_every)
    x, x_fake, c, alpha = x[chosen], x_fake[chosen], c[chosen], alpha[chosen]
    if not cfg.lambda_gp or not len(x):
        return x.new_zeros(())
    return cfg.lambda_gp * weight * losses.gradient_penalty(lambda x_hat: D(x_hat, c), x, x_fake, alpha)
