"""BAGAN: an autoencoder, a Gaussian per class in its latent space, and a discriminator that classifies.

Mariani et al.: "BAGAN: Data Augmentation with Balancing GAN", 2018, arXiv 1803.09655. The autoencoder is trained
without labels on the mean squared error; its decoder initialises the generator and its encoder's trunk initialises the
discriminator's. A Gaussian per class is fitted to the encoded training images, and the generator decodes draws from the
requested class's Gaussian. The discriminator has K + 1 outputs: one per class of real images, and one for generated
images. The generator is trained to have its images classified as the requested class; requested classes are uniform. As
in the released code, a batch of n real images comes with ceil(n / K) generated ones, so that "generated" is one class
among K + 1.

In L latent dimensions, a class with n images has a sample covariance S_c of rank at most n - 1. This implementation
uses Σ_c = (n S_c + L S) / (n + L), where S is the pooled within-class covariance: the estimate after adding L
observations of S. A rare class borrows its directions of variation from the others, and a common class keeps its own. A
ten-thousandth of the mean variance, added to the diagonal, keeps Σ_c positive definite if the codes do not use all L
dimensions.

Deviations: the networks are those of the other methods here, without dropout. `paper` is the SGBGAN paper's setting for
its baselines; BAGAN's own setting makes one discriminator update per generator update (`--set n_critic=1`) with Adam
5e-5, β1 0.5. `tiny` keeps the learning rate of `default`: without a gradient penalty, the other methods' higher rate
gains nothing. In our tests at 5e-5, 2e-4 and 8e-4, the adversarial stage made the images of a class alike; those of the
autoencoder alone were not.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from balancegan.compute.batch_random import companions
from balancegan.core.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.methods.conditional import Autoencoded, AutoencodedConfig, presets
from balancegan.methods.stages import Batches, Terms
from balancegan.nets import losses
from balancegan.nets.dcgan import Classifier, GaussianGenerator

_JITTER = 1e-4  # as a fraction of the mean variance


class ClassGaussians(Autoencoded):
    """BAGAN's start: the generator decodes draws from a Gaussian per class in the autoencoder's latent space."""

    G: GaussianGenerator

    def __init__(self, cfg: AutoencodedConfig) -> None:
        super().__init__(cfg)
        if cfg.conditioning != "product":
            raise UsageError(
                f"conditioning = {cfg.conditioning}, but {self.title} encodes the class in the latent", "leave it out"
            )

    def generator(self, data: DataSpec) -> nn.Module:
        """Build G(z, c) = decoder(draw from the Gaussian of class c)."""
        return GaussianGenerator(data.num_classes, self.cfg.latent_dim, self.decoder(data))

    def pretrain_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the mean squared error of the reconstruction; it does not use the labels."""
        return {"mse": losses.mean_squared_error(self.G.decoder(self.E(x)), x)}

    @torch.no_grad()
    def begin_adversarial(self, batches: Batches) -> None:
        """Copy the trunk, and fit the Gaussians to all encoded training images."""
        super().begin_adversarial(batches)
        codes, labels = zip(*((self.E(x).double().cpu(), c.cpu()) for x, c in batches.once()), strict=True)
        self.G.set_prior(*class_gaussians(torch.cat(codes), torch.cat(labels), self.data.num_classes))


class BAGAN(ClassGaussians):
    """The method; see the module's docstring."""

    Config = AutoencodedConfig
    title = "BAGAN"
    paper = "Mariani et al. 2018, arXiv 1803.09655"
    presets: ClassVar = presets(
        autoencoder=True,
        default={"shared_fakes": False},
        tiny={"lr_g": 2e-4, "lr_d": 2e-4, "shared_fakes": False},
    )

    def __init__(self, cfg: AutoencodedConfig) -> None:
        super().__init__(cfg)
        if cfg.shared_fakes:
            raise UsageError(
                "shared_fakes = True, but BAGAN's discriminator sees fewer images than its generator learns from",
                "leave it out",
            )

    def discriminator(self, data: DataSpec) -> nn.Module:
        """Build a classifier with K + 1 logits."""
        return Classifier(data.num_classes, self.trunk(data), self.cfg.width)

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the cross-entropy over K + 1 classes, averaged over real and fake images together, in two terms."""
        with torch.no_grad(), companions(len(x), per=self.data.num_classes) as (fakes, weight):
            x_fake = self.generate(self.random_labels(fakes, x.device)).to(x.dtype) if fakes else x[:0]
        targets = torch.cat([c, c.new_full((fakes,), self.data.num_classes)])
        entropies = losses.cross_entropies(self.D(torch.cat([x, x_fake])), targets)
        return {"real": entropies[: len(x)].sum() * weight, "fake": entropies[len(x) :].sum() * weight}

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the cross-entropy of fakes against the requested classes."""
        c_fake = self.random_labels(len(x), x.device)
        return {"fake": losses.cross_entropies(self.D(self.generate(c_fake)), c_fake).mean()}


def class_gaussians(codes: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Compute the mean and the regularised covariance of every class; see the module's docstring.

    Args:
        codes: (N, L) encoded training images.
        labels: (N,) their classes; a class without images gets the mean of all codes.
        num_classes: K.

    Returns:
        means (K, L) and positive definite covariances (K, L, L).
    """
    latent_dim = codes.shape[1]
    counts = torch.bincount(labels, minlength=num_classes).to(codes.dtype)
    means = codes.mean(0).repeat(num_classes, 1)
    scatters = codes.new_zeros(num_classes, latent_dim, latent_dim)  # n S_c: sums of outer products
    for label in range(num_classes):
        members = codes[labels == label]
        if len(members):
            means[label] = members.mean(0)
            scatters[label] = (members - means[label]).T @ (members - means[label])
    pooled = scatters.sum(0) / max(len(codes), 1)
    covariances = (scatters + latent_dim * pooled) / (counts + latent_dim)[:, None, None]
    jitter = _JITTER * pooled.diagonal().mean() + 1e-12
    return means, covariances + jitter * torch.eye(latent_dim, dtype=codes.dtype)
