"""cWGAN-GP: the conditional Wasserstein GAN with gradient penalty.

Zheng et al.: "Conditional Wasserstein generative adversarial network-gradient penalty-based approach to alleviating
imbalanced data classification", Information Sciences 512 (2020), doi 10.1016/j.ins.2019.10.014; the penalty is
Gulrajani et al.'s (2017, arXiv 1704.00028). The critic maximises E[D(x, c)] - E[D(G(z, c), c)] - λ E[(‖∇D(x̂, c)‖₂ -
1)²], the generator E[D(G(z, c), c)]; there is no pre-training. The networks are BAGAN-GP's (the paper's data are
tables).

Generated images take the labels of the real batch, in both updates. More is at stake here than a class mix: the
penalty bounds the critic's slope in x, not in c, so against uniform labels on imbalanced data the critic could raise
its output for common classes without end, and the loss with it.

Deviation: `paper` is the SGBGAN paper's setting for its baselines (λ 5); the method's own λ is 10
(`--set lambda_gp=10`). Five critic updates per generator update in both, and in all presets here: a Wasserstein
distance needs a critic that is close to its best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balancegan.compute import microbatch as parts
from balancegan.core.errors import UsageError
from balancegan.methods.base import Terms
from balancegan.methods.conditional import ConditionalConfig, ConditionalGAN, presets
from balancegan.nets import losses


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(ConditionalConfig):
    """Fields of the methods with a gradient penalty."""

    lambda_gp: float = 5.0
    penalty_every: int = 1  # of so many images one has its gradient penalised

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_weight("lambda_gp")
        if self.penalty_every < 1:
            raise UsageError(f"penalty_every = {self.penalty_every} cannot work", "give 1 or more")


class CWGANGP(ConditionalGAN):
    """The method; see the module's docstring."""

    Config = PenaltyConfig
    title = "cWGAN-GP"
    paper = "Zheng et al. 2020, doi 10.1016/j.ins.2019.10.014"
    presets: ClassVar = presets(autoencoder=False, default={"n_critic": 5}, tiny={"n_critic": 5})
    cfg: PenaltyConfig

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """The negative Wasserstein estimate and the penalty."""
        x_fake, _ = self.judged_fakes(lambda: c, x)
        logits_real, logits_fake = self.D(torch.cat([x, x_fake]), torch.cat([c, c])).split(len(x))
        return {
            "real": losses.wasserstein_as_real(logits_real),
            "fake": losses.wasserstein_as_fake(logits_fake),
            "gp": self.penalty(x, x_fake, c),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Generated images should score as real ones do."""
        return {"fake": losses.wasserstein_as_real(self.D(*self.improved_fakes(lambda: c)))}

    def penalty(self, x: Tensor, x_fake: Tensor, c: Tensor) -> Tensor:
        """The weighted gradient penalty between real and generated images, judged under the real images' labels.

        Of `penalty_every` images one is looked at: those of a batch are independent, so the mean is the same in
        expectation, at that share of the cost of differentiating twice.
        """
        every, total = self.cfg.penalty_every, parts.whole(len(x))
        alpha = parts.rows(lambda n: torch.rand(n, device=x.device), len(x))
        chosen = slice(-int(parts.rows(torch.arange, len(x))[0]) % every, None, every)  # rows of the whole batch
        x_chosen = x[chosen]
        if not self.cfg.lambda_gp or not len(x_chosen):
            return x.new_zeros(())
        x_fake, c, alpha = x_fake[chosen], c[chosen], alpha[chosen]
        # The loop weights a part by its share of the batch, which is not its share of the chosen images.
        weight = self.cfg.lambda_gp * len(x_chosen) / len(x) * total / math.ceil(total / every)
        return weight * losses.gradient_penalty(lambda x_hat: self.D(x_hat, c), x_chosen, x_fake, alpha)
