"""What `augment` and `evaluate` share: from classes of images to the report's measures, verdict and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan.data.training_set import TrainingSet
from balancegan.device import memory_errors
from balancegan.errors import UsageError
from balancegan.metrics.choose import Choice
from balancegan.metrics.features import Cached, Images
from balancegan.metrics.own import OwnExtractor
from balancegan.progress import Progress, silent
from balancegan.report.compute import ReportInput
from balancegan.report.measures import METRICS, ClassImages
from balancegan.report.write import write_report
from balancegan.restore import Restored
from balancegan.trace import latent_embeddings, run_extras
from balancegan.utility import SEEDS, Material, Pool, measure_utility, not_measured
from balancegan.verdict import gate

Json = dict[str, Any]

REPORT_IMAGES = 2000  # per class and set; more do not change the measures and cost memory
SLOW_ON_CPU = 250  # images per class and set where a large network runs on a CPU, at a few images a second

LEAST = ("use", "no-difference")


@dataclass(frozen=True)
class Judging:
    """What to measure, and with what."""

    choice: Choice
    device: torch.device
    metrics: frozenset[str] = frozenset(METRICS)
    utility: bool = True
    seeds: int = SEEDS
    seed: int = 0

    @property
    def limit(self) -> int:
        """Images per class and set that enter a measure."""
        return SLOW_ON_CPU if self.choice.slow_on_cpu and self.device.type == "cpu" else REPORT_IMAGES


def parse_metrics(names: Sequence[str]) -> frozenset[str]:
    """The measures that were asked for; all where none is named. Raises `UsageError` for one that does not exist."""
    for name in names:
        if name not in METRICS:
            raise UsageError(f"--metrics {name} is not known", f"choose from {', '.join(METRICS)}")
    return frozenset(names or METRICS)


def parse_least(text: str | None, *, utility: bool) -> str | float | None:
    """The value of `--fail-under`: a verdict, or the least gain in points. Raises `UsageError`."""
    if text is None:
        return None
    if not utility:
        raise UsageError("--fail-under needs the verdict", "leave --no-utility and --no-report out")
    if text in LEAST:
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        hint = "give use, no-difference, or the least gain of balanced accuracy in points, e.g. 1.5"
        raise UsageError(f"--fail-under {text} cannot be used", hint)
    return value


def own_extractor(
    images: Images, rows: np.ndarray, labels: np.ndarray, num_classes: int, judging: Judging, progress: Progress
) -> Callable[[], OwnExtractor]:
    """What trains the small classifier on these rows when it is called; `labels` are those of all images."""
    device = str(judging.device)

    def fit() -> OwnExtractor:
        with memory_errors(judging.device, "use --device cpu"):
            return OwnExtractor.fit(images[rows], labels[rows], num_classes, device=device, progress=progress)

    return fit


def run_extractor(data: TrainingSet, judging: Judging, progress: Progress = silent) -> Cached:
    """The extractor for a run; its own classifier sees what the generator saw."""
    classes = len(data.class_names)
    own = own_extractor(data.store.images, data.train_rows, data.labels, classes, judging, progress)
    return judging.choice.open(own, device=str(judging.device), progress=progress)


def pool(images: Sequence[Images], empty: Images) -> Pool:
    """Images by class, in the order of the classes, as one pool; `empty` gives the shape where there is none."""
    labels = np.repeat(np.arange(len(images)), [len(of_class) for of_class in images])
    return Pool(np.concatenate([empty[:0], *images]), labels.astype(np.int64))


def run_material(data: TrainingSet, classes: Sequence[ClassImages]) -> Material:
    """What the classifiers get of a run: the images that the generator saw, those that it did not, and what it made."""
    images, seen, unseen = data.store.images, data.train_rows, data.unseen_rows
    kind = str(data.store.splits[unseen[0]]) if len(data.other_rows) else "holdout"
    train = set(data.store.pixel_digests(seen))
    fresh = np.array([digest not in train for digest in data.store.pixel_digests(unseen)], bool)
    filtered = any(c.unfiltered is not None for c in classes)
    others = [c.fake if c.unfiltered is None else c.unfiltered for c in classes]
    return Material(
        names=data.class_names,
        real=Pool(images[seen], data.labels[seen]),
        fake=pool([c.fake for c in classes], images),
        test=Pool(images[unseen[fresh]], data.labels[unseen[fresh]]),
        kind=kind,
        delivered=[c.synthetic for c in classes],
        unfiltered=pool(others, images) if filtered else None,
        delivered_unfiltered=[_without_filter(c) for c in classes] if filtered else (),
        leaks=int((~fresh).sum()),
    )


def _without_filter(images: ClassImages) -> int:
    """How many synthetic images the class would have got without the quality filter."""
    if images.unfiltered is None:
        return images.synthetic
    complete = len(images.unfiltered) >= min(images.requested, REPORT_IMAGES)
    return images.requested if complete else len(images.unfiltered)


def verdict_of(material: Callable[[], Material], judging: Judging, progress: Progress) -> Json:
    """The report's `utility`; the material, which copies whole sets of images, is made where it is needed alone."""
    if not judging.utility:
        note = "Whether these images help a classifier was not measured: it was not asked for."
        return not_measured(note) | {"asked": False}
    return measure_utility(material(), device=judging.device, seeds=judging.seeds, progress=progress)


def run_pictures(restored: Restored, data: TrainingSet, *, plain: bool, progress: Progress) -> Json:
    """The fields of `ReportInput` that show the run itself; `plain` trains an autoencoder to compare with."""
    return {
        "embeddings": latent_embeddings(restored, data, plain=plain, progress=progress),
        "extras": run_extras(restored),
        "history": restored.run.read_metrics(),
        "settings": restored.run.read_yaml(),
    }


def write(
    inp: ReportInput, extractor: Cached, out: Path, judging: Judging, *, figures: Path | None, progress: Progress
) -> Json:
    """The report's files; returns the document."""
    with memory_errors(judging.device, "use --device cpu"):
        return write_report(
            inp,
            extractor,
            out,
            seed=judging.seed,
            max_images=judging.limit,
            metrics=judging.metrics,
            figures=figures,
            progress=progress,
        )


_KEPT = ("measured", "asked", "verdict", "headline", "note", "warnings", "unfiltered_verdict", "differences", "classes")


def summary(document: Json, least: str | float | None) -> Json:
    """What a command's JSON says of the report: the verdict, and whether it passes `--fail-under`."""
    utility = document["utility"]
    return {
        "extractor": document["extractor"]["name"],
        "findings": document["findings"],
        "utility": {key: utility[key] for key in _KEPT if key in utility},
        "gate": gate_json(utility, least),
    }


def gate_json(utility: Json, least: str | float | None) -> Json | None:
    """Whether the verdict passes `--fail-under`, and why not; None where it was not asked for."""
    if least is None:
        return None
    reason = gate(utility, least)
    return {"fail_under": least, "passed": reason is None, "reason": reason}
