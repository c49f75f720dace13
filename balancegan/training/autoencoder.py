"""Training of a plain autoencoder, for the latent-space maps of a report."""

from __future__ import annotations

import dataclasses
import time

import torch

from balancegan.core.progress import Progress
from balancegan.data.batches import Batches
from balancegan.data.training_set import TrainingSet
from balancegan.methods import load_method
from balancegan.methods.base import Method
from balancegan.runs.restore import Restored
from balancegan.training.steps import Steps

PLAIN_STEPS = 200
"""Most updates of the plain autoencoder for the comparison."""

PLAIN_SECONDS = 60.0
"""Time limit for these updates: on a CPU, one update of the full-size networks takes seconds."""

_PLAIN = "bagan-gp"  # its first stage trains a plain autoencoder and otherwise equals SGBGAN's


def plain_autoencoder(
    restored: Restored, data: TrainingSet, steps: int, seed: int, progress: Progress
) -> tuple[Method, int]:
    """Train a plain autoencoder of the same size and in the same way as the run's own; return it and its updates.

    It is neither saved nor resumed. It gets fewer than `steps` updates if `PLAIN_SECONDS` pass first.
    """
    cfg, device = restored.method.cfg, restored.device
    kind = load_method(_PLAIN)
    values = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(kind.Config) if hasattr(cfg, f.name)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        method = kind(kind.Config(**{**values, "ema_halflife": 0.0}))
        method.setup(restored.method.data)
        method = method.to(device).to(memory_format=torch.channels_last).train()
        making = Steps(method, Batches.of(data, cfg, device), device)
        making.enter(method.stages()[0])
        began = time.monotonic()
        for step in range(steps):
            if step and time.monotonic() - began > PLAIN_SECONDS:
                return method, step
            making.step(step)
            progress("plain autoencoder", step + 1, steps)
    return method, steps
