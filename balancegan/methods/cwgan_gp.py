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

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from balancegan import losses, parts
from balancegan.methods.base import Terms
from balancegan.methods.conditional import ConditionalConfig, ConditionalGAN, presets


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig(ConditionalConfig):
    """Fields of the methods with a gradient penalty."""

    lambda_gp: float = 5.0
    penalty: str = "interpolated"
    penalty_share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("penalty", ("interpolated", "r1", "r1r2"))
        self.require_weight("lambda_gp")


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
        """The weighted gradient penalty between real and generated images, judged under the real images' labels."""
        if not self.cfg.lambda_gp:
            return x.new_zeros(())
        alpha = parts.rows(lambda n: torch.rand(n, device=x.device), len(x))
        few = max(1, round(self.cfg.penalty_share * len(x)))
        x, x_fake, c, alpha = x[:few], x_fake[:few], c[:few], alpha[:few]
        if self.cfg.penalty == "r1":
            return self.cfg.lambda_gp / 2 * losses.zero_centred_penalty(lambda y: self.D(y, c), x)
        if self.cfg.penalty == "r1r2":
            both = torch.cat([x, x_fake])
            return self.cfg.lambda_gp * losses.zero_centred_penalty(lambda y: self.D(y, torch.cat([c, c])), both)
        return self.cfg.lambda_gp * losses.gradient_penalty(lambda x_hat: self.D(x_hat, c), x, x_fake, alpha)
