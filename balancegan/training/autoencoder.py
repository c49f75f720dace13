"""A plain autoencoder, trained for the maps of the latent space in a report."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import nn

from balancegan.core.progress import Progress
from balancegan.data.batches import Batches
from balancegan.data.training_set import TrainingSet
from balancegan.methods import load_method
from balancegan.methods.base import Method
from balancegan.runs.restore import Restored
from balancegan.training.accumulation import Accumulator

PLAIN_STEPS = 200
"""Updates that the plain autoencoder gets for the comparison, at most."""

PLAIN_SECONDS = 60.0
"""And how long they may take: on a CPU one update of the full-size networks takes seconds."""

_PLAIN = "bagan-gp"  # whose autoencoder has the plain encoder, and otherwise SGBGAN's stage


def plain_encoder(
    restored: Restored, data: TrainingSet, steps: int, seed: int, progress: Progress
) -> tuple[nn.Module, int]:
    """The encoder of a plain autoencoder of the same size, trained here as the run's own was, and how many updates."""
    cfg, device = restored.method.cfg, restored.device
    kind = load_method(_PLAIN)
    values = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(kind.Config) if hasattr(cfg, f.name)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        method = kind(kind.Config(**{**values, "ema_halflife": 0.0}))
        method.setup(restored.method.data)
        method = method.to(device).to(memory_format=torch.channels_last).train()
        count = _train_autoencoder(method, Batches.of(data, cfg, device), steps, progress)
    return method.get_submodule("E"), count


def _train_autoencoder(method: Method, batches: Batches, steps: int, progress: Progress) -> int:
    """The pre-training stage of the training loop, without its records: nothing of it is kept or continued.

    Returns the number of updates, fewer than `steps` where the time was over.
    """
    cfg = method.cfg
    adam = torch.optim.Adam(
        list(method.pretrain_parameters()), lr=cfg.lr_pretrain, betas=(cfg.pretrain_beta1, cfg.beta2)
    )
    gradients = Accumulator(method, batches.device, cfg.batch_size)
    began = time.monotonic()
    for step in range(steps):
        if step and time.monotonic() - began > PLAIN_SECONDS:
            return step
        gradients("pretrain", method.pretrain_loss, *batches.draw(), adam.zero_grad)
        adam.step()
        progress("plain autoencoder", step + 1, steps)
    return steps
