"""A toy method with three stages, added by this file and a line in METHODS."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from balancegan.compute import batch_random
from balancegan.core.config import MethodConfig
from balancegan.methods.base import Method
from balancegan.methods.stages import Stage, Update


@dataclass(frozen=True, kw_only=True)
class ToyStagesConfig(MethodConfig):
    width: int = 8
    latent_dim: int = 4
    middle_steps: int = 3
    lr: float = 1e-3


class Maker(nn.Module):
    """z (N, latent_dim, 2, 2) and c (N,) -> images (N, C, S, S)."""

    def __init__(self, data, latent_dim, width):
        super().__init__()
        self.size, self.embedding = data.image_size, nn.Embedding(data.num_classes, latent_dim)
        self.layers = nn.Sequential(nn.Conv2d(latent_dim, width, 1), nn.ReLU(), nn.Conv2d(width, data.channels, 1))

    def forward(self, z, c):
        maps = self.layers(z + self.embedding(c)[:, :, None, None])
        return torch.tanh(F.interpolate(maps, size=(self.size, self.size), mode="bilinear"))


_PRESET = {"image_size": 16, "ema_halflife": 0.1, "pretrain_steps": 2}


class ToyStages(Method):
    """Learns colours, then trains a helper, then both; it only exercises the machinery."""

    Config = ToyStagesConfig
    title, paper, image_sizes = "Toy of three stages", "none", (16, 32)
    presets = {"default": _PRESET, "paper": _PRESET, "tiny": _PRESET}  # noqa: RUF012

    def build(self, data):
        self.latent_dim = self.cfg.latent_dim
        self.G = Maker(data, self.cfg.latent_dim, self.cfg.width)
        self.helper = nn.Conv2d(data.channels, 1, 3, padding=1)
        self.register_buffer("mean", torch.zeros(data.channels))

    @property
    def latent_shape(self):
        return (self.latent_dim, 2, 2)

    def stages(self):
        cfg = self.cfg
        colour = Update("g", self.colour_loss, self.g_parameters, cfg.lr)
        twice = Update("helper", self.helper_loss, self.helper_parameters, cfg.lr, repeats=2)
        helper = Update("helper", self.helper_loss, self.helper_parameters, cfg.lr)
        last = Update("g", self.last_loss, self.g_parameters, cfg.lr, warmup_steps=2)
        return (
            Stage("colours", cfg.pretrain_steps, (colour,)),
            Stage("middle", cfg.middle_steps, (twice,), begin=self.fit_mean),
            Stage("last", cfg.steps, (helper, last)),
        )

    def g_parameters(self):
        return self.G.parameters()

    def helper_parameters(self):
        return self.helper.parameters()

    def colour_loss(self, x, c):
        x_fake = self.G(self.latent(len(x), device=x.device), c)
        return {"mse": F.mse_loss(x_fake.float(), x)}

    def helper_loss(self, x, c):
        noise = batch_random.randn(len(x), *x.shape[1:], device=x.device)
        return {"mse": self.helper(x + noise).float().square().mean()}

    def last_loss(self, x, c):
        x_fake = self.G(self.latent(len(x), device=x.device), c)
        return {"mse": F.mse_loss(x_fake.float(), x), "helper": self.helper(x_fake).float().square().mean()}

    @torch.no_grad()
    def fit_mean(self, batches):
        self.mean.copy_(torch.cat([x.mean((2, 3)) for x, _ in batches.once()]).mean(0))
