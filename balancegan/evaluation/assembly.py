"""Code that `augment` and `evaluate` share: computes the report's measures and verdict from images by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from balancegan.compute.memory import memory_errors
from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.options import Arms
from balancegan.core.progress import Progress, silent
from balancegan.data.imbalance import imbalance_rate
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes
from balancegan.evaluation.class_assignment import assignment_notes
from balancegan.evaluation.document import ReportInput, compute_report
from balancegan.evaluation.leaks import run_leaks
from balancegan.evaluation.measures import METRICS
from balancegan.evaluation.run_pictures import run_pictures
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.extractors import Choice
from balancegan.metrics.features import Cached, Images
from balancegan.runs.restore import Restored
from balancegan.verdict.material import (
    REPORT_IMAGES,
    ClassImages,
    Material,
    Pool,
    Resampling,
    not_measured,
    run_material,
    transformed_pool,
)
from balancegan.verdict.networks import SMALL, Network
from balancegan.verdict.utility import SEEDS, measure_utility

SLOW_ON_CPU = 250  # images per class and set when a large network runs on a CPU, at a few images per second


@dataclass(frozen=True)
class Judging:
    """What to measure, and with which extractor and device."""

    choice: Choice
    device: torch.device
    metrics: frozenset[str] = frozenset(METRICS)
    utility: bool = True
    seeds: int = SEEDS
    seed: int = 0
    network: Network = SMALL  # the verdict's classifier
    arms: Arms = "auto"

    @property
    def limit(self) -> int:
        """Maximum number of images per class and set in a measure."""
        return SLOW_ON_CPU if self.choice.slow_on_cpu and self.device.type == "cpu" else REPORT_IMAGES


def parse_metrics(names: Sequence[str]) -> frozenset[str]:
    """The requested measures, or all if none are named. Raises `UsageError` for an unknown one."""
    for name in names:
        if name not in METRICS:
            raise UsageError(f"--metrics {name} is not known", f"choose from {', '.join(METRICS)}")
    return frozenset(names or METRICS)


def own_extractor(
    images: Images, rows: np.ndarray, labels: np.ndarray, num_classes: int, judging: Judging, progress: Progress
) -> Callable[[], OwnExtractor]:
    """A function that trains the small classifier on these rows when called; `labels` covers all images."""
    device = str(judging.device)

    def fit() -> OwnExtractor:
        with memory_errors(judging.device, "use --device cpu"):
            return OwnExtractor.fit(images[rows], labels[rows], num_classes, device=device, progress=progress)

    return fit


def run_extractor(
    data: TrainingSet, judging: Judging, progress: Progress = silent, own: Callable[[], OwnExtractor] | None = None
) -> Cached:
    """The extractor for a run; the `own` classifier is trained on the images that the generator saw, if not given."""
    own = own or run_classifier(data, judging, progress)
    return judging.choice.open(own, device=str(judging.device), progress=progress)


def run_classifier(data: TrainingSet, judging: Judging, progress: Progress) -> Callable[[], OwnExtractor]:
    """A function that trains the small classifier on the images that the generator saw when called."""
    classes = len(data.class_names)
    return own_extractor(data.store.images, data.train_rows, data.labels, classes, judging, progress)


def report_document(inp: ReportInput, extractor: Cached, judging: Judging, progress: Progress) -> Json:
    """Compute the report's document, with the measures that `judging` asks for."""
    with memory_errors(judging.device, "use --device cpu"):
        return compute_report(
            inp, extractor, seed=judging.seed, max_images=judging.limit, metrics=judging.metrics, progress=progress
        )


def verdict_of(material: Callable[[], Material], judging: Judging, progress: Progress) -> Json:
    """The report's `utility`. `material` copies whole sets of images, so it is called only when needed."""
    if not judging.utility:
        note = "Whether these images help a classifier was not measured, because the verdict was turned off."
        return not_measured(note) | {"asked": False}
    return measure_utility(
        material(),
        device=judging.device,
        seeds=judging.seeds,
        arms=judging.arms,
        network=judging.network,
        progress=progress,
    )


def class_fields(classes: Sequence[ClassImages]) -> dict[str, Any]:
    """The fields of `ReportInput` that follow from the classes alone."""
    return {
        "classes": tuple(classes),
        "ir_before": imbalance_rate({c.name: c.real for c in classes}),
        "ir_after": imbalance_rate({c.name: c.real + c.synthetic for c in classes}),
        "complete": all(c.synthetic >= c.requested for c in classes),
    }


def _material(
    data: TrainingSet, classes: Sequence[ClassImages], resampling: Resampling | None, changes: Changes | None
) -> Material:
    """The classifiers' material, with variations of the training images if the folder has any."""
    varied = None
    if changes is not None:
        seen = Pool(data.store.images[data.train_rows], data.labels[data.train_rows])
        varied = transformed_pool(seen, [min(c.synthetic, REPORT_IMAGES) for c in classes], changes, seed=1)
    return run_material(data, classes, resampling, varied)


def run_input(
    restored: Restored,
    data: TrainingSet,
    classes: Sequence[ClassImages],
    assignment: Json | None,
    judging: Judging,
    *,
    title: str,
    delivered: bool,
    notes: Sequence[str] = (),
    shortcuts: Sequence[Json] = (),
    plain: bool = False,
    resampling: Resampling | None = None,
    recipe: Json | None = None,
    changes: Changes | None = None,
    progress: Progress = silent,
) -> ReportInput:
    """Assemble the input of a report on a run's images.

    Args:
        restored: the run.
        data: its training data.
        classes: its images.
        assignment: from `describe_assignment`.
        judging: whether and how to measure if the images help a classifier.
        title: the report's title.
        delivered: whether a balanced folder was written.
        notes: from the command; notes on class assignment and on the data are appended.
        shortcuts: from `shortcut_checks`.
        resampling: how to draw new synthetic images for every seed of the verdict; None for a delivered folder.
        recipe: how the generated part of the synthetic images was chosen, for the document.
        changes: those that transformed images show; None if there are none.
        plain: also train a plain autoencoder, to compare the run's latents with its latents.
        progress: called during every slow step.
    """
    assigned, warnings = assignment_notes(assignment)
    return ReportInput(
        title=title,
        method=restored.method.title,
        run=restored.run.name,
        data=str(data.folder.root),
        **class_fields(classes),
        delivered=delivered,
        shortcuts=list(shortcuts),
        warnings=[*restored.warnings, *warnings],
        notes=[*notes, *assigned, *data.store.notes],
        distribution=(assignment or {}).get("distribution"),
        utility=verdict_of(lambda: _material(data, classes, resampling, changes), judging, progress),
        recipe=recipe,
        leak=run_leaks(data),
        classifier=run_classifier(data, judging, progress),
        **run_pictures(restored, data, plain=plain, progress=progress),
    )
