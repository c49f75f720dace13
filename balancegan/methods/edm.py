"""EDM: a class-conditional diffusion model, trained to remove noise.

Karras, Aittala, Aila, Laine: "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, arXiv
2206.00364. For images y in [-1, 1] of class c, noise n ~ N(0, σ²) and ln σ ~ N(P_mean, P_std²), training minimises

    E[λ(σ) ‖D(y + n; σ, c) - y‖²],   D(x; σ, c) = c_skip x + c_out F(c_in x; ln(σ)/4, c)          (Eqs. 7, 8)
    c_skip = σ_d²/(σ² + σ_d²),  c_out = σ σ_d/√(σ² + σ_d²),  c_in = 1/√(σ² + σ_d²),  λ = 1/c_out²   (Table 1)

with σ_d = 0.5, so that network F has inputs, targets and errors of about unit size at every noise level. Images solve
dx/dσ = (x - D(x; σ, c))/σ from noise of σ = 80 down to 0 (`nets/ode.py`). The network is in `nets/unet.py`.

Images may start from real ones instead (SDEdit, Meng et al. 2022, arXiv 2108.01073): a training image of the class or
of another class gets noise of a level chosen by the strength, and the same equation removes it under the wanted class.
Guidance w replaces D(x; σ, c) by D(x; σ) + w (D(x; σ, c) - D(x; σ)) (Ho & Salimans 2022, arXiv 2207.12598); a share
`label_dropout` of the training images is seen without a class for that.

`paper` is EDM's class-conditional CIFAR-10 model (its released training script, DDPM++ with preconditioning "EDM").
`default` and `tiny` deviate:
- Classes are drawn in proportion to the square root of their size.
- The embedding scales and shifts features instead of being added to them, as in ADM (arXiv 2105.05233).
- Lower noise levels, P_mean = -1.0 for -1.2; β₂ 0.99; a higher learning rate for smaller networks and batches.
- Training images are mirrored where mirrored images keep their class, as a small classifier of training images finds
  before the first step. `paper` uses EDM's augmentation instead, which tells the network what was done
  (`nets/geometric.py`); `augment` sets its share.
All presets: dropout in bytes (`nets/unet.Dropout`), DPM-Solver++(2M) in place of Heun's method (benchmarks/edm.md). EDM
trains with a constant learning rate after a warm-up, and so does this: since a run may be continued, nothing depends on
the number of steps. Averages of the weights do more than a decay at the end would (benchmarks/edm.md). The loop's
average looks back a twentieth of the images seen so far (EDM's ramp); where `ema_halflife` does not bound that, its
profile is the power function of Karras et al. 2024 (arXiv 2312.02696) with σ_rel = 0.063.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from balancegan.compute import batch_random
from balancegan.core.config import MethodConfig, require
from balancegan.core.errors import UsageError
from balancegan.core.options import SamplingOptions
from balancegan.methods.base import DataSpec, Method
from balancegan.methods.stages import Batches, Stage, Terms, Update
from balancegan.metrics.kept_classes import ASIDE, LOOK, divided, kept_classes
from balancegan.nets import geometric, ode
from balancegan.nets.unet import UNet

FLIPS = ("auto", "always", "never")
LOWEST_SIDE = 8  # of the features at the bottom of the network, at most


@dataclass(frozen=True, kw_only=True)
class EDMConfig(MethodConfig):
    """Fields of the network, of the noise in training, and of sampling."""

    width: int = 96  # channels at full resolution
    multipliers: str = "1-2-2"  # of the width, one per side, each half the one before; larger images repeat the first
    blocks: int = 2  # per side
    attention: int = 16  # side with self-attention
    scale_shift: bool = True  # whether the embedding scales features or is only added
    dropout: float = 0.1
    label_dropout: float = 0.1  # share of images seen without a class, for guidance
    augment: float = 0.0  # share of each geometric transformation; the network is told
    flips: str = "auto"  # mirror half of the images: where they keep their class, always, or never
    lr: float = 6e-4
    warmup_steps: int = 500
    beta1: float = 0.9
    beta2: float = 0.99
    noise_mean: float = -1.0  # of ln σ
    noise_std: float = 1.2
    sigma_data: float = 0.5
    solver_steps: int = 18
    compile: bool = False  # compile the network, which takes a minute or two at the start

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(re.fullmatch(r"[1-9](-[1-9])*", self.multipliers)), "multipliers", self.multipliers, "e.g. 1-2-2")
        sides = self.multipliers.count("-")
        require(self.image_size >> sides >= 2, "multipliers", self.multipliers, f"fewer for {self.image_size} px")
        require(self.width >= 8 and self.width % 8 == 0, "width", self.width, "a multiple of 8")
        self.require_choice("flips", FLIPS)
        self.require_least(1, "blocks", "solver_steps")
        self.require_least(0, "warmup_steps", "attention")
        for name in ("dropout", "label_dropout", "beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        require(0 <= self.augment <= 1, "augment", self.augment, "a share between 0 and 1")
        require(0 < self.lr < 1, "lr", self.lr, "between 0 and 1")
        for name in ("noise_std", "sigma_data"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")


class EDM(Method):
    """The method; see the module's docstring. Latents are images of standard normal noise."""

    Config = EDMConfig
    title = "EDM"
    paper = "Karras et al. 2022, arXiv 2206.00364"
    image_sizes = (16, 32, 64, 128)
    starts = ("noise", "own", "other")
    guided = True
    presets: ClassVar = {
        "paper": {
            "image_size": 32,
            "width": 128,
            "multipliers": "2-2-2",
            "blocks": 4,
            "scale_shift": False,
            "dropout": 0.13,
            "label_dropout": 0.0,
            "augment": 0.12,
            "flips": "never",
            "batch_size": 512,
            "lr": 1e-3,
            "warmup_steps": 19_531,  # 10 million images
            "beta2": 0.999,
            "noise_mean": -1.2,
            "ema_halflife": 500.0,
            "steps": 390_625,  # 200 million images
            "save_every": 5000,
            "sample_every": 5000,
        },
        "default": {
            "image_size": 64,
            "batch_size": 256,
            "sampling": "sqrt",
            "ema_halflife": 500.0,
            "steps": 10_000,
            "save_every": 1000,
            "sample_every": 1000,
        },
        "tiny": {
            "image_size": 32,
            "width": 32,
            "blocks": 1,
            "attention": 8,
            "batch_size": 64,
            "lr": 1e-3,
            "warmup_steps": 100,
            "sampling": "sqrt",
            "ema_halflife": 500.0,
            "steps": 20_000,
            "save_every": 500,
            "sample_every": 500,
        },
    }
    solve = staticmethod(ode.dpm_solver)
    cfg: EDMConfig
    mirrored: Tensor

    def build(self, data: DataSpec) -> None:
        """Create the network `G`; its last label stands for no class."""
        cfg = self.cfg
        multipliers = [int(word) for word in cfg.multipliers.split("-")]
        while data.image_size >> (len(multipliers) - 1) > LOWEST_SIDE:
            multipliers.insert(0, multipliers[0])
        self.G = UNet(
            data.num_classes + 1,
            data.channels,
            data.image_size,
            width=cfg.width,
            multipliers=multipliers,
            blocks=cfg.blocks,
            attention=cfg.attention,
            dropout=cfg.dropout,
            scale_shift=cfg.scale_shift,
            extra=geometric.LABELS if cfg.augment else 0,
        )
        if cfg.compile:
            self.G.compile()
        self.register_buffer("mirrored", torch.full((), 0.5 if cfg.flips == "always" else 0.0))  # share of images

    def stages(self) -> tuple[Stage, ...]:
        """Return the only stage, which has one update."""
        cfg = self.cfg
        update = Update("g", self.loss, self.g_parameters, cfg.lr, (cfg.beta1, cfg.beta2), 1, cfg.warmup_steps)
        return (Stage("diffusion", cfg.steps, (update,), begin=self.decide_flips if cfg.flips == "auto" else None),)

    def g_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that `loss` trains."""
        return self.G.parameters()

    def decide_flips(self, batches: Batches) -> str:
        """Mirror images from now on if a classifier of some training images recognises others mirrored too.

        Returns what was found, for the log.
        """
        parts = divided([batches.of_class(label, ASIDE * LOOK) for label in range(self.data.num_classes)])
        if parts is None:
            return "images are not mirrored: there are too few to tell whether mirrored ones keep their class"
        (finding,) = kept_classes(*parts, self.data.num_classes, "cpu")
        self.mirrored.fill_(0.5 if finding.kept else 0.0)
        return f"{'half of the images are' if finding.kept else 'images are not'} mirrored: {finding.found}"

    # Training --------------------------------------------------------------------------------------------------------

    def loss(self, x: Tensor, c: Tensor) -> Terms:
        """Return the weighted error of the denoised images, one noise level per image (Eq. 8)."""
        cfg, n, device = self.cfg, len(x), x.device
        flip = batch_random.rand(n, 1, 1, 1, device=device) < self.mirrored
        x, done = torch.where(flip, x.flip(3), x), None
        if cfg.augment:
            x, done = geometric.augmented(x, cfg.augment)
        unlabelled = batch_random.rand(n, device=device) < cfg.label_dropout
        c = torch.where(unlabelled, self.data.num_classes, c)
        sigma = torch.exp(cfg.noise_mean + cfg.noise_std * batch_random.randn(n, 1, 1, 1, device=device))
        noisy = x + sigma * batch_random.randn(*x.shape, device=device)
        weight = (sigma.square() + cfg.sigma_data**2) / (sigma * cfg.sigma_data).square()
        return {"mse": (weight * (self.denoise(self.G, noisy, sigma, c, done) - x).square()).mean()}

    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, c: Tensor, done: Tensor | None = None) -> Tensor:
        """Return D(x; σ, c), the expected clean images (Eq. 7): (N, C, S, S) float32.

        Args:
            network: F.
            x: noisy images (N, C, S, S).
            sigma: their noise levels (N, 1, 1, 1).
            c: classes (N,); `data.num_classes` for none.
            done: labels of the geometric augmentation (N, 9), or None for none.
        """
        data_variance = self.cfg.sigma_data**2
        variance = sigma.square() + data_variance
        f = network(x * variance.rsqrt(), sigma.flatten().log() / 4, c, done).float()
        return data_variance / variance * x + sigma * self.cfg.sigma_data * variance.rsqrt() * f

    # Sampling --------------------------------------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """An image's."""
        return (self.data.channels, self.data.image_size, self.data.image_size)

    def sample_with(self, options: SamplingOptions) -> None:
        """Use these options from now on; see the base class."""
        if options.guidance not in (None, 1) and not self.cfg.label_dropout:
            raise UsageError(
                "this run cannot be guided: it never saw images without their class", "leave out --guidance"
            )
        super().sample_with(options)

    @torch.no_grad()
    def sample(self, z: Tensor, c: Tensor, source: Tensor | None = None) -> Tensor:
        """Generate images from noise z or, if there is a `source`, from it with noise z added; see the base class."""
        strength = 1.0 if source is None else self.sampling.used_strength or 0.0
        if source is not None and strength == 0:
            return source
        sigmas = ode.noise_levels(math.ceil(strength * self.cfg.solver_steps), strength)
        x = sigmas[0] * z if source is None or strength == 1 else source + sigmas[0] * z
        guidance = 1.0 if self.sampling.guidance is None else self.sampling.guidance
        with self.sampling_network() as network:

            def denoised(x: Tensor, level: float) -> Tensor:
                sigma = x.new_full((len(x), 1, 1, 1), level)
                conditional = self.denoise(network, x, sigma, c)
                if guidance == 1:
                    return conditional
                anything = self.denoise(network, x, sigma, torch.full_like(c, self.data.num_classes))
                return torch.lerp(anything, conditional, guidance)

            return self.solve(denoised, x, sigmas).clamp(-1, 1)
