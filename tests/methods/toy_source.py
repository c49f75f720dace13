"""A toy translator of real images of other classes, added by this file and a line in METHODS."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from balancegan.core.config import MethodConfig
from balancegan.methods.base import Method
from balancegan.methods.stages import Stage, Update


@dataclass(frozen=True, kw_only=True)
class ToySourceConfig(MethodConfig):
    width: int = 8
    latent_dim: int = 4


class Translator(nn.Module):
    """A real image x (N, C, S, S), z (N, latent_dim) and c (N,) -> images (N, C, S, S)."""

    def __init__(self, data, cfg):
        super().__init__()
        self.embedding = nn.Embedding(data.num_classes, cfg.latent_dim)
        self.layers = nn.Sequential(
            nn.Conv2d(data.channels + cfg.latent_dim, cfg.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(cfg.width, data.channels, 3, padding=1),
        )

    def forward(self, x, z, c):
        code = (z + self.embedding(c))[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.tanh(0.1 * self.layers(torch.cat([x, code], 1)) + x)


_PRESET = {"image_size": 16}


class ToySource(Method):
    """Learns to reproduce its source image; it only exercises the machinery."""

    Config = ToySourceConfig
    title, paper, image_sizes = "Toy translator", "none", (16, 32)
    presets = {"default": _PRESET, "paper": _PRESET, "tiny": _PRESET}  # noqa: RUF012

    def build(self, data):
        self.latent_dim = self.cfg.latent_dim
        self.G = Translator(data, self.cfg)

    def stages(self):
        return (Stage("translate", self.cfg.steps, (Update("g", self.loss, self.g_parameters, 1e-3),)),)

    def g_parameters(self):
        return self.G.parameters()

    def loss(self, x, c):
        return {"mse": F.mse_loss(self.G(x, self.latent(len(x), device=x.device), c).float(), x)}

    def source_classes(self, label):
        return tuple(k for k in range(self.data.num_classes) if k != label)

    @torch.no_grad()
    def sample(self, z, c, source=None):
        with self.sampling_network() as network:
            return network(source, z, c)
