"""Base of the Damage GAN paper's methods: unconditional generators whose images get a class afterwards.

A linear evaluator (Damage GAN, §4.3, after ContraD's evaluation), which is a logistic regression on the discriminator's
frozen features, assigns generated images to classes; images of a class are those assigned to it. The evaluator is
fitted to the training images whenever training ends or is interrupted, with balanced class weights (otherwise a rare
class would hardly ever be assigned), and saved with the run.

This module defines no method of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from balancegan.compute.pixels import to_uint8
from balancegan.core.config import class_weights, require
from balancegan.methods.base import DataSpec
from balancegan.methods.gan import GAN, GANConfig
from balancegan.methods.stages import Batches
from balancegan.nets.dcgan import Decoder
from balancegan.nets.layers import BatchNorm2d
from balancegan.nets.sndcgan import Convolution, SNDCGANGenerator, SNDCGANTrunk, TrunkDiscriminator
from balancegan.nets.snresnet import SNResNet18Trunk
from balancegan.nets.upsampling import UPSAMPLING

TRUNKS = {"sndcgan": SNDCGANTrunk, "snresnet18": SNResNet18Trunk}
PER_CLASS = 1000  # most training images per class for fitting the evaluator: more change it little
MOST_FEATURES = 8192  # of the evaluator's input: a trunk without pooling has up to 131,072


@dataclass(frozen=True, kw_only=True)
class UnconditionalConfig(GANConfig):
    """Fields of the networks and of the evaluator."""

    latent_dim: int = 128
    width: int = 64  # channels of the widest full-resolution feature map of the generator
    head_width: int = 512  # hidden units of the discriminator's heads
    d_width: int = 64  # the same for the discriminator
    trunk: str = "sndcgan"  # or snresnet18
    upsampling: str = "transposed"  # or resize
    accept_above: float = 0.5  # assign an image to a class if its probability is above this

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("trunk", TRUNKS)
        self.require_choice("upsampling", UPSAMPLING)
        self.require_least(1, "latent_dim", "width", "d_width", "head_width")
        require(0 <= self.accept_above < 1, "accept_above", self.accept_above, "a probability below 1")


class LinearEvaluator(nn.Module):
    """Multinomial logistic regression on standardised features: (N, F) -> log-probabilities (N, K).

    Its coefficients are buffers: scikit-learn fits them, checkpoints save them, and the loop does not train them.
    """

    fitted: Tensor
    shift: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        for name, shape in (("shift", (features,)), ("weight", (num_classes, features)), ("bias", (num_classes,))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("scale", torch.ones(features))

    def forward(self, features: Tensor) -> Tensor:
        """Return log-probabilities of the classes; uniform before `fit`."""
        z = (features.float() - self.shift) / self.scale
        return torch.log_softmax(z @ self.weight.T + self.bias, dim=1)

    @torch.no_grad()
    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit to features (N, F) with labels (N,); a class without images is never assigned."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(features)
        model = LogisticRegression(class_weight="balanced", max_iter=500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a poor fit shows in the held-out recall
            model.fit(scaler.transform(features), labels)
        weight, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn returns one row for two classes
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        self.bias.fill_(-1e9)
        for row, label in enumerate(model.classes_):
            self.weight[label] = torch.as_tensor(weight[row])
            self.bias[label] = float(bias[row])
        self.shift.copy_(torch.as_tensor(scaler.mean_))
        self.scale.copy_(torch.as_tensor(scaler.scale_))
        self.fitted.fill_(True)


class UnconditionalGAN(GAN):
    """SNDCGAN's generator, a discriminator on a configurable trunk, and the linear evaluator."""

    conditional = False
    samplers: ClassVar[tuple[str, ...]] = ("rejection", "langevin")
    image_sizes = (16, 32, 64, 128)
    support = (-1.0, 1.0)
    cfg: UnconditionalConfig
    D: TrunkDiscriminator
    log_frequency: Tensor  # of each class in the real batches, (K,)

    def build(self, data: DataSpec) -> None:
        """Create generator `G`, discriminator `D` and `evaluator`."""
        cfg = self.cfg
        self.latent_dim = cfg.latent_dim
        self.G = self.generator(data)
        self.D = self.discriminator(self.trunk(data))
        features = int(self.D.trunk.features)  # type: ignore[arg-type]
        self.evaluator = LinearEvaluator(min(features, MOST_FEATURES), data.num_classes)
        frequency = torch.tensor(class_weights(data.class_counts, cfg.sampling))
        self.register_buffer("log_frequency", torch.log(frequency / frequency.sum()).clamp(min=-99), persistent=False)

    def generator(self, data: DataSpec) -> nn.Module:
        """Build G(z, c): SNDCGAN's generator, or a resizing decoder with the same width at full resolution."""
        cfg, norm = self.cfg, self.norm(data)
        if cfg.upsampling == "transposed":
            return SNDCGANGenerator(data.channels, data.image_size, cfg.width, cfg.latent_dim, norm)
        sizes = (data.channels, data.image_size, 4 * cfg.width, cfg.latent_dim)
        return Decoder(*sizes, cfg.upsampling, slope=0.0, norm=norm)

    def norm(self, data: DataSpec) -> Callable[[int], nn.Module]:
        """Return a constructor of the generator's normalisation layers, by number of channels."""
        return BatchNorm2d

    def discriminator(self, trunk: nn.Module) -> TrunkDiscriminator:
        """Build D(x): one logit on the trunk's features."""
        return TrunkDiscriminator(trunk, self.cfg.head_width)

    def trunk(self, data: DataSpec, convolution: Convolution = nn.Conv2d) -> nn.Module:
        """Build the discriminator's feature extractor."""
        return TRUNKS[self.cfg.trunk](data.channels, data.image_size, self.cfg.d_width, convolution)

    def prior(self, n: int, device: torch.device | str, generator: torch.Generator | None) -> Tensor:
        """Draw n latents from U(-1, 1): (n, latent_dim)."""
        low, high = self.support
        return torch.rand(n, self.latent_dim, device=device, generator=generator) * (high - low) + low

    @torch.no_grad()
    def end_adversarial(self, batches: Batches) -> None:
        """Fit the linear evaluator to the training images, at most `PER_CLASS` random images per class."""
        was_training = self.D.training
        self.D.eval()
        try:
            features, labels = self._training_features(batches)
        finally:
            self.D.train(was_training)
        self.evaluator.fit(features, labels)

    def _training_features(self, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
        """Return the evaluator's features (N, F) and labels (N,) of the training images chosen for the fit."""
        rng = np.random.default_rng(0)  # the same images for every fit
        chosen = [set(rng.permutation(n)[:PER_CLASS].tolist()) for n in self.data.class_counts]
        seen = [0] * self.data.num_classes
        features, labels = [], []
        for x, c in batches.once():
            wanted = []
            for label in c.tolist():
                wanted.append(seen[label] in chosen[label])
                seen[label] += 1
            mask = torch.tensor(wanted, device=x.device)
            if any(wanted):
                features.append(self.evaluated(x[mask]).cpu().numpy())
                labels.append(c[mask].cpu().numpy())
        return np.concatenate(features), np.concatenate(labels)

    def evaluated(self, x: Tensor) -> Tensor:
        """Return the evaluator's features of images: the trunk's, reduced to (N, F)."""
        return _reduced(self.D.features(x))

    def condition_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """Return one name for all classes: the generator is unconditional."""
        return ("all classes",)

    def references(self, batches: Batches, most: int) -> Iterator[np.ndarray]:
        """Yield one batch as training draws it."""
        yield to_uint8(batches.draw()[0]).cpu().numpy()

    def on_resume(self) -> None:
        """Mark the evaluator as not fitted: the next step changes the features that it was fitted on."""
        self.evaluator.fitted.fill_(False)

    @property
    def ready(self) -> bool:
        """Whether the evaluator is fitted."""
        return bool(self.evaluator.fitted)

    @torch.no_grad()
    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evaluator's likeliest class, and whether its probability is above `accept_above`."""
        was_training = self.D.training
        self.D.eval()
        log_p, label = self.evaluator(self.evaluated(x)).max(1)
        self.D.train(was_training)
        return label, log_p.exp() > self.cfg.accept_above

    def energy(self, z: Tensor, c: Tensor, weight: float) -> Tensor:
        """Return -(D(G(z)) + weight·log p(c|G(z))) for Langevin sampling, with `G_ema` if it exists.

        The evaluator assumes equally frequent classes; here p(c|x) uses the class frequencies of the real batches.
        """
        x = (self.G if self.G_ema is None else self.G_ema)(z, c)
        features = self.D.features(x)
        log_p = torch.log_softmax(self.evaluator(_reduced(features)) + self.log_frequency, dim=1)
        return -(self.D.logit(features, c) + weight * log_p.gather(1, c[:, None]).squeeze(1))


def _reduced(features: Tensor) -> Tensor:
    """Reduce features to at most `MOST_FEATURES` (N, F') by averaging neighbours in the flattened map."""
    features = features.float()
    return features if features.shape[1] <= MOST_FEATURES else F.adaptive_avg_pool1d(features, MOST_FEATURES)
