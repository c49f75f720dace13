"""What a run can show beside its images' measures; an evaluation of two folders has none of it."""

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
    """The fields of `ReportInput` that show the run itself; `plain` trains an autoencoder to compare with."""
    return {
        "embeddings": latent_embeddings(restored, data, plain=plain, progress=progress),
        "extras": run_extras(restored, SourceImages.of(data)),
        "history": restored.run.read_metrics(),
        "settings": restored.run.read_yaml(),
    }


# Extras --------------------------------------------------------------------------------------------------------------


def run_extras(restored: Restored, sources: SourceImages | None = None, *, columns: int = 9, seed: int = 0) -> Extras:
    """Everything of `Extras`; no interpolation before the last stage, or where the method is not ready to sample."""
    able = restored.trained and restored.method.ready
    strip = interpolation(restored.method, restored.device, columns, seed, sources) if able else None
    return Extras(strip, frames(restored.run, last=restored.checkpoint.step))


@dataclass(frozen=True)
class Extras:
    """Pictures for the page, made by `trace.run_extras`."""

    interpolation: NDArray[np.uint8] | None
    """(K, M, C, S, S): row k is class k on the way from one latent to another, or one row for an unconditional method.

    Only the first `trace.MAX_ROWS` classes.
    """

    frames: tuple[tuple[int, Path], ...] = ()
    """Step and PNG grid of the same seeds, from the run's samples/, in the order of steps."""
