"""SNDCGAN: the generator and the plain trunk of ContraD and Damage GAN, and the heads that they share.

Miyato et al.: "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, arXiv 1802.05957 (Table 3); the
heads are ContraD's (Jeong & Shin, ICLR 2021, arXiv 2103.09742). Image sizes above 32 px scale the first feature map.
`width` is the number of channels of the widest full-resolution map, 64 in the papers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from balancegan.nets.layers import BatchNorm2d, through

SLOPE = 0.1
# Activations work in place, which writes one map less: no preceding layer needs its own output for its gradient.
PROJECTION = 128

Convolution = Callable[..., nn.Conv2d]
"""`nn.Conv2d` or a class with the same interface."""


class SNDCGANGenerator(nn.Module):
    """A dense layer to an eighth of the side, three transposed convolutions, a 3x3 convolution and tanh.

    Batch norm and ReLU follow every layer except the last. `norm` constructs a normalisation layer for a number of
    channels; the images depend on the label only with `ConditionalBatchNorm2d`. Shapes: z (N, latent_dim),
    c (N,) -> images (N, channels, S, S) in [-1, 1].
    """

    def __init__(
        self,
        channels: int,
        image_size: int,
        width: int = 64,
        latent_dim: int = 128,
        norm: Callable[[int], nn.Module] = BatchNorm2d,
    ) -> None:
        super().__init__()
        self.side = image_size // 8
        self.top = 8 * width
        self.dense = nn.Linear(latent_dim, self.top * self.side**2, bias=False)
        layers: list[nn.Module] = [norm(self.top), nn.ReLU(inplace=True)]
        for inside, outside in ((8 * width, 4 * width), (4 * width, 2 * width), (2 * width, width)):
            layers += [nn.ConvTranspose2d(inside, outside, 4, 2, 1, bias=False), norm(outside), nn.ReLU(inplace=True)]
        self.up = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return images in [-1, 1]."""
        h = self.dense(z).view(len(z), self.top, self.side, self.side)
        return torch.tanh(through(self.up, h, c))


class SNDCGANTrunk(nn.Sequential):
    """Seven spectrally normalised convolutions, from `width` to 8 times `width` channels at an eighth of the side.

    Shapes: (N, channels, S, S) -> (N, features).
    """

    def __init__(self, channels: int, image_size: int, width: int = 64, convolution: Convolution = nn.Conv2d) -> None:
        layers: list[nn.Module] = []
        inside = channels
        for outside in (width, 2 * width, 4 * width):
            layers += [normalised(convolution(inside, outside, 3, 1, 1)), nn.LeakyReLU(SLOPE, inplace=True)]
            layers += [normalised(convolution(outside, outside, 4, 2, 1)), nn.LeakyReLU(SLOPE, inplace=True)]
            inside = outside
        layers += [normalised(convolution(inside, 8 * width, 3, 1, 1)), nn.LeakyReLU(SLOPE, inplace=True), nn.Flatten()]
        super().__init__(*layers)
        self.features = 8 * width * (image_size // 8) ** 2


class TrunkDiscriminator(nn.Module):
    """A trunk and a two-layer MLP with one logit; `trunk.features` must be its number of features."""

    def __init__(self, trunk: nn.Module, hidden: int = 512) -> None:
        super().__init__()
        self.trunk = trunk
        self.logit_head = _mlp(_size(trunk), hidden, 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the heads' input: (N, channels, S, S) -> (N, F)."""
        return self.trunk(x)

    def logit(self, features: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logit of 'real': features (N, F), ignored labels (N,) -> (N,)."""
        return self.logit_head(features).squeeze(1)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logits of images (N,)."""
        return self.logit(self.features(x), c)


class ContrastiveDiscriminator(TrunkDiscriminator):
    """Adds two 128-dimensional projection heads: for the contrastive losses on real views and on fakes."""

    def __init__(self, trunk: nn.Module, hidden: int = 512) -> None:
        super().__init__(trunk, hidden)
        self.real_head = _mlp(_size(trunk), hidden, PROJECTION)
        self.fake_head = _mlp(_size(trunk), hidden, PROJECTION)

    def project_real(self, features: Tensor) -> Tensor:
        """Project features for the contrastive loss between views of real images."""
        return self.real_head(features)

    def project_fake(self, features: Tensor) -> Tensor:
        """Project features for the contrastive loss of fakes against real images."""
        return self.fake_head(features)


class ProjectionDiscriminator(ContrastiveDiscriminator):
    """Adds a projection term to the logit (Miyato & Koyama, ICLR 2018, arXiv 1802.05637): e(c) times the hidden layer.

    It uses the hidden layer, not the trunk's features, because the adversarial loss may not train the trunk.
    """

    def __init__(self, trunk: nn.Module, num_classes: int, hidden: int = 512) -> None:
        super().__init__(trunk, hidden)
        self.class_embedding = normalised(nn.Embedding(num_classes, hidden))

    def logit(self, features: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the logit of 'real and of class c': features (N, F), labels (N,) -> (N,)."""
        dense, activation, last = self.logit_head
        h = activation(dense(features))
        return last(h).squeeze(1) + (h * self.class_embedding(c)).sum(1)


def _size(trunk: nn.Module) -> int:
    return int(trunk.features)  # type: ignore[arg-type]


def normalised(layer: nn.Module) -> nn.Module:
    """Apply spectral normalisation: divide the weight by its largest singular value, with one iteration per pass."""
    return spectral_norm(layer)


def _mlp(inside: int, hidden: int, outside: int) -> nn.Sequential:
    first, last = normalised(nn.Linear(inside, hidden)), normalised(nn.Linear(hidden, outside))
    return nn.Sequential(first, nn.LeakyReLU(SLOPE, inplace=True), last)


class PrunableConv2d(nn.Conv2d):
    """A convolution that can run with some of its weights masked out (for SDCLR's self-competitor).

    The mask multiplies the weight after spectral normalisation by the dense weight's singular value, so pruning removes
    weights without rescaling the rest. Masked weights get no gradient from a pruned pass. The mask is a buffer, saved
    with the weights.
    """

    mask: Tensor

    def __init__(self, *args: int, **options: int) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.pruned = False

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the dense weight, or with the masked weight if `pruned`."""
        weight = self.weight * self.mask if self.pruned else self.weight
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def prunable(network: nn.Module) -> list[PrunableConv2d]:
    """Return the network's prunable convolutions, in module order."""
    return [m for m in network.modules() if isinstance(m, PrunableConv2d)]


@torch.no_grad()
def set_masks(network: nn.Module, fraction: float) -> None:
    """Mask the `fraction` of convolution weights with the smallest magnitude, ranked over all layers together.

    Weights are ranked after spectral normalisation, as the network uses them: before it, a layer's scale has no
    meaning. Ties are masked in order.
    """
    layers = prunable(network)
    was_training = network.training
    network.eval()  # reading a normalised weight in training mode would run a power iteration
    sizes = torch.cat([layer.weight.abs().flatten() for layer in layers])
    network.train(was_training)
    keep = torch.ones_like(sizes)
    keep[torch.argsort(sizes, stable=True)[: int(fraction * len(sizes))]] = 0.0
    for layer, part in zip(layers, keep.split([layer.mask.numel() for layer in layers]), strict=True):
        layer.mask.copy_(part.view_as(layer.mask))


class pruned:  # noqa: N801 (reads as an adjective at its place of use)
    """Make the network's prunable convolutions use their masks inside the context."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = prunable(network)

    def __enter__(self) -> None:
        for layer in self.layers:
            layer.pruned = True

    def __exit__(self, *_: object) -> None:
        for layer in self.layers:
            layer.pruned = False
