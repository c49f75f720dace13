"""cWGAN-GP: the conditional Wasserstein GAN with gradient penalty.

Zheng et al.: "Conditional Wasserstein generative adversarial network-gradient penalty-based approach to alleviating
imbalanced data classification", Information Sciences 512 (2020), doi 10.1016/j.ins.2019.10.014; the penalty is
Gulrajani et al.'s (2017, arXiv 1704.00028). The critic maximises E[D(x, c)] - E[D(G(z, c), c)] - λ E[(‖∇D(x̂, c)‖₂ -
1)²], and the generator maximises E[D(G(z, c), c)]; there is no pre-training. The networks are BAGAN-GP's (the paper
works on tabular data).

Generated images take the labels of the real batch in both updates. Equal labels are essential: the penalty bounds the
critic's slope in x but not in c, so with uniform fake labels on imbalanced data the critic could raise its output for
common classes, and with it the loss, without bound.

Deviation: `paper` is the SGBGAN paper's setting for its baselines (λ 5); the method's own λ is 10
(`--set lambda_gp=10`). Both settings, and all presets here, make five critic updates per generator update: a
Wasserstein estimate needs a critic close to its optimum.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from balancegan.methods.conditional import ConditionalGAN, presets
from balancegan.methods.gradient_penalty import PenaltyConfig, gradient_penalty
from balancegan.methods.stages import Terms
from balancegan.nets import losses


class CWGANGP(ConditionalGAN):
    """The method; see the module's docstring."""

    Config = PenaltyConfig
    title = "cWGAN-GP"
    paper = "Zheng et al. 2020, doi 10.1016/j.ins.2019.10.014"
    presets: ClassVar = presets(autoencoder=False, default={"n_critic": 5}, tiny={"n_critic": 5})
    cfg: PenaltyConfig

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the negative Wasserstein estimate, in two terms, and the gradient penalty."""
        x_fake, _ = self.fakes_for_d(lambda: c, x)
        logits_real, logits_fake = self.D(torch.cat([x, x_fake]), torch.cat([c, c])).split(len(x))
        return {
            "real": losses.wasserstein_as_real(logits_real),
            "fake": losses.wasserstein_as_fake(logits_fake),
            "gp": gradient_penalty(self.D, self.cfg, x, x_fake, c),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the negative mean critic output of the fakes."""
        return {"fake": losses.wasserstein_as_real(self.D(*self.fakes_for_g(lambda: c)))}
