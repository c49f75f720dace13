"""Chooses the checkpoint whose images are nearest to real ones, whatever the alarms during training said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balancegan.core.errors import CheckpointError, UsageError
from balancegan.core.progress import Progress
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.kid import kernel_distance
from balancegan.runs.checkpoint import step_of
from balancegan.runs.restore import Restored, restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers

LOOK = 64  # images of each class and checkpoint
MOST = 4  # checkpoints that are compared, the newest among them
MOST_REAL = 500  # real images of each class


def compared_steps(found: Restored) -> list[int]:
    """Return the steps of the last stage's checkpoints to compare, newest first: all, or some evenly spaced."""
    every = [step_of(path) for path in found.run.checkpoint_dirs()]
    steps = [step for step in every if step > found.method.schedule.before_last]
    return [steps[k] for k in np.unique(np.linspace(0, len(steps) - 1, MOST).round().astype(int))] if steps else []


def best_step(
    found: Restored,
    steps: Sequence[int],
    data: TrainingSet,
    classes: Sequence[int],
    own: OwnExtractor,
    progress: Progress,
) -> int:
    """Return the step with the lowest KID, the mean over classes; the features are those of a small classifier.

    The images are compared with those of a val split that the verdict leaves alone, otherwise with training images:
    never with the images behind the verdict.

    Args:
        found: the run, at any of the steps.
        steps: see `compared_steps`.
        data: the run's data.
        classes: those that will get images.
        own: the classifier, trained on the run's training images.
        progress: called as `("checkpoints", compared, steps)`.
    """
    spare = data.spare_rows
    of_class = data.by_class(spare if len(spare) else data.train_rows)
    real = {label: own(data.store.images[of_class[label][:MOST_REAL]]) for label in classes}
    scores: dict[int, float] = {}
    for k, step in enumerate(steps):
        try:
            at = found if step == found.checkpoint.step else restore(found.run, found.device, checkpoint=str(step))
        except (CheckpointError, UsageError):  # damaged, or dropped by a training that goes on
            continue
        at.make_ready(data)
        samplers = make_samplers(at.method, at.device, sources=SourceImages.of(data))[:1]
        distances = [
            kernel_distance(feats_real=real[label], feats_fake=own(images))[0]
            for label in classes
            if len(images := first_images(samplers, label, LOOK)[1]) >= 2 and len(real[label]) >= 2
        ]
        if distances:
            scores[step] = float(np.mean(distances))
        progress("checkpoints", k + 1, len(steps))
    return min(scores, key=lambda step: scores[step]) if scores else found.checkpoint.step
