"""Collects the report's pictures of the run itself, which a comparison of two folders does not have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.core.progress import Progress
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet
from balancegan.evaluation.latents import latent_embeddings
from balancegan.runs.directory import frames
from balancegan.runs.restore import Restored
from balancegan.sampling.interpolation import interpolation


def run_pictures(restored: Restored, data: TrainingSet, *, plain: bool, progress: Progress) -> Json:
    """The fields of `ReportInput` about the run itself; with `plain`, train an autoencoder to compare with."""
    return {
        "embeddings": latent_embeddings(restored, data, plain=plain, progress=progress),
        "extras": run_extras(restored, SourceImages.of(data)),
        "history": restored.run.read_metrics(),
        "settings": restored.run.read_yaml(),
    }


# Extras --------------------------------------------------------------------------------------------------------------


def run_extras(restored: Restored, sources: SourceImages | None = None, *, columns: int = 9, seed: int = 0) -> Extras:
    """The run's `Extras`. The interpolation is None before the last stage or if the method is not ready to sample."""
    able = restored.trained and restored.method.ready
    strip = interpolation(restored.method, restored.device, columns, seed, sources) if able else None
    data = restored.method.data
    noise = restored.method.latent_shape == (data.channels, data.image_size, data.image_size)
    return Extras(strip, frames(restored.run, last=restored.checkpoint.step), noise_latents=noise)


@dataclass(frozen=True)
class Extras:
    """Pictures for the page, from `run_extras`."""

    interpolation: NDArray[np.uint8] | None
    """(K, M, C, S, S): row k interpolates between two latents for class k; an unconditional method has a single row.

    Only the first classes are included.
    """

    frames: tuple[tuple[int, Path], ...] = ()
    """(step, PNG grid) of samples from fixed seeds, from the run's samples/ folder, in order of steps."""

    noise_latents: bool = False
    """Whether latents are images of noise, as in a diffusion model."""
