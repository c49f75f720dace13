"""BWGAN-GP: BAGAN's start before a conditional Wasserstein GAN with gradient penalty.

Xu et al.: "BWGAN-GP: An EEG Data Generation Method for Class Imbalance Problem in RSVP Tasks", IEEE Transactions on
Neural Systems and Rehabilitation Engineering 30 (2022), doi 10.1109/TNSRE.2022.3145515. An autoencoder is trained
first; its decoder initialises the generator, which decodes draws from a Gaussian per class in the latent space
(`methods/bagan.py`), and its encoder the critic. The adversarial stage has the Wasserstein loss and the gradient
penalty in place of BAGAN's cross-entropy.

Deviations: the paper generates EEG signals; here the networks are those of the other image methods. The critic is
conditional and generated images take the labels of the real batch, for the reason given in `methods/cwgan_gp.py`.
`paper` is the SGBGAN paper's setting for its baselines. All presets make five critic updates per generator update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancegan.methods.bagan import ClassGaussians
from balancegan.methods.conditional import AutoencodedConfig, presets
from balancegan.methods.cwgan_gp import CWGANGP
from balancegan.methods.gradient_penalty import PenaltyConfig


@dataclass(frozen=True, kw_only=True)
class BWGANGPConfig(AutoencodedConfig, PenaltyConfig):
    """BWGAN-GP's fields."""


class BWGANGP(ClassGaussians, CWGANGP):
    """The method; see the module's docstring."""

    Config = BWGANGPConfig
    title = "BWGAN-GP"
    paper = "Xu et al. 2022, doi 10.1109/TNSRE.2022.3145515"
    presets: ClassVar = presets(autoencoder=True, default={"n_critic": 5}, tiny={"n_critic": 5})
    cfg: BWGANGPConfig
