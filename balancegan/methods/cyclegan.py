"""CycleGAN: turns images of the largest class into images of a rare one.

Zhu, Park, Isola, Efros: "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017, arXiv
1703.10593: the least-squares loss (Mao et al. 2017, arXiv 1611.04076), an L1 cycle loss of weight 10 and an L1 identity
loss of weight 5, residual translators, PatchGAN discriminators (patches of 70 px at 256 px, as in the paper, and
smaller ones on smaller images), Adam 2e-4 with β1 0.5. Where a rare class is a common one plus something small (a
parasite in a cell, a crack in a tile), the source already has everything else.

Deviations:
- One generator translates between all classes, as in StarGAN (Choi et al. 2018, arXiv 1711.09020), in place of two
  networks for each pair: rare classes share what they have in common. The label enters through conditional instance
  norms in the generator and a projection in the discriminator.
- The target of every image is drawn by the frequencies of training, so that generated images have the same classes as
  real ones, and the label alone does not tell them apart. It may be the image's own class.
- The discriminator sees no pool of 50 earlier images, which the paper needs for its batches of one image; `default` and
  `tiny` have batches of 32. The learning rate stays constant.
- The generator upsamples by resizing and a convolution instead of transposed convolutions, which leave a grid.
- The paper's generator is deterministic. Here a latent shifts the source by up to an eighth before it is translated, so
  that several images can start from one.

`source` chooses what images start from: `largest`, `others` (all other classes), or a class by its name. Images of the
source class itself start from all other classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.core.config import class_weights, require
from balancegan.core.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.methods.gan import GAN, GANConfig
from balancegan.methods.stages import Terms
from balancegan.nets import losses
from balancegan.nets.cyclegan import PatchDiscriminator, Translator

LARGEST, OTHERS = "largest", "others"
SHIFT = 8  # images are shifted by up to this fraction of their side

_OURS: dict[str, Any] = {"sampling": "sqrt", "ema_halflife": 20.0}


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig(GANConfig):
    """CycleGAN's fields."""

    source: str = LARGEST  # class whose images are translated; or others
    width: int = 64  # channels of the first layer, in both networks
    blocks: int = 6  # residual blocks
    w_cycle: float = 10.0
    w_identity: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_least(0, "blocks", "w_cycle", "w_identity")
        require(self.width >= 1, "width", self.width, "at least 1")
        if self.shared_fakes:
            raise UsageError("shared_fakes = True, but CycleGAN does not share fakes", "leave it out")


class CycleGAN(GAN):
    """The method; see the module's docstring."""

    Config = CycleGANConfig
    title = "CycleGAN"
    paper = "Zhu et al. 2017, arXiv 1703.10593"
    image_sizes = (16, 32, 64, 128, 256)
    presets: ClassVar = {
        "paper": {"image_size": 256, "blocks": 9, "batch_size": 1, "sampling": "balanced", "steps": 200_000},
        "default": {**_OURS, "image_size": 64, "batch_size": 32, "steps": 20_000},
        "tiny": {**_OURS, "image_size": 32, "width": 16, "blocks": 3, "batch_size": 32, "steps": 5_000},
    }
    latent_dim = 2
    cfg: CycleGANConfig
    frequencies: Tensor

    def build(self, data: DataSpec) -> None:
        """Create the translator `G` and the discriminator `D`."""
        cfg = self.cfg
        names = (LARGEST, OTHERS, *data.class_names)
        if cfg.source not in names:
            raise UsageError(f"source = {cfg.source!r} is no class", f"choose one of {', '.join(names)}")
        self.G = Translator(data.num_classes, data.channels, cfg.width, cfg.blocks)
        self.D = PatchDiscriminator(data.num_classes, data.channels, data.image_size, cfg.width)
        for network in (self.G, self.D):
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, 0.0, 0.02)
        weights = torch.tensor(class_weights(data.class_counts, cfg.sampling))
        self.register_buffer("frequencies", weights / weights.sum(), persistent=False)

    def source_classes(self, label: int) -> tuple[int, ...]:
        """The class that the configuration names, or all classes but this one."""
        data, source = self.data, self.cfg.source
        if source == OTHERS:
            chosen = label
        elif source == LARGEST:
            chosen = max(range(data.num_classes), key=lambda k: data.class_counts[k])
        else:
            chosen = data.class_names.index(source)
        return (chosen,) if chosen != label else tuple(k for k in range(data.num_classes) if k != label)

    def notes(self) -> list[str]:
        """Return what readers of a report must know."""
        return ["Every generated image is a translated training image of another class and may show parts of it."]

    def d_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return half the least-squares losses of real and of translated images."""
        t = self.targets(len(x))
        with torch.no_grad():
            y = self.G(x, t).to(x.dtype)
        return {
            "real": 0.5 * losses.least_squares(self.D(x, c), 1.0),
            "fake": 0.5 * losses.least_squares(self.D(y, t), 0.0),
        }

    def g_loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the adversarial, cycle and identity losses."""
        cfg, t = self.cfg, self.targets(len(x))
        y = self.G(x, t)
        return {
            "fake": losses.least_squares(self.D(y, t), 1.0),
            "cycle": cfg.w_cycle * losses.mean_absolute_error(self.G(y, c), x),
            "identity": cfg.w_identity * losses.mean_absolute_error(self.G(x, c), x),
        }

    def targets(self, n: int) -> Tensor:
        """Draw n classes to translate into, by the frequencies of training: (n,) int64."""
        return batch_random.rows(lambda count: torch.multinomial(self.frequencies, count, replacement=True), n)

    @torch.no_grad()
    def sample(self, z: Tensor, c: Tensor, source: Tensor | None = None) -> Tensor:
        """Translate the source images, shifted by z, to class c; see the base class."""
        assert source is not None
        with self.sampling_network() as network:
            return network(self.starting_points(source, z), c)

    def starting_points(self, source: Tensor, z: Tensor) -> Tensor:
        """Return the source images shifted by z."""
        return shifted(source, torch.tanh(z) / SHIFT)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Shift images (N, C, S, S) by whole pixels, `by` (N, 2) as fractions of their side; borders are reflected."""
    side = x.shape[2]
    position = torch.arange(side, device=x.device)

    def rows(fractions: Tensor) -> Tensor:
        moved = position - (fractions[:, None] * side).round().long()
        moved = moved.abs()  # reflect at 0, then at the other end
        return torch.where(moved >= side, 2 * (side - 1) - moved, moved)

    n = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[n, rows(by[:, 0])[:, :, None], rows(by[:, 1])[:, None, :]].permute(0, 3, 1, 2)
