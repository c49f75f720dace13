"""Computes the quality report as one JSON document; draws and prints nothing.

Every number is finite or null; if one is null, the class's `reasons` say why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from balancegan.core.documents import Json
from balancegan.core.progress import Progress, silent
from balancegan.core.version import __version__
from balancegan.evaluation.copies import MARGIN
from balancegan.evaluation.findings import FEW_IMAGES, MIN_REFERENCE, NOT_ASKED, findings
from balancegan.evaluation.measures import METRICS, Measured, measure_class, measure_overall
from balancegan.evaluation.next_steps import next_steps
from balancegan.evaluation.recognition import measure_recognition, no_recognition
from balancegan.evaluation.run_pictures import Extras
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.embedding import feature_embedding
from balancegan.metrics.features import Cached, Extractor
from balancegan.metrics.memorisation import MAX_SIDE
from balancegan.verdict.material import ClassImages, not_measured
from balancegan.verdict.rule import gate_json

_KEPT = ("measured", "asked", "verdict", "headline", "note", "warnings", "unfiltered_verdict", "differences", "classes")


def summary(document: Json, least: str | float | None) -> Json:
    """The report in a command's JSON output: findings, verdict, and whether it passes `--fail-under`."""
    utility = document["utility"]
    return {
        "extractor": document["extractor"]["name"],
        "findings": document["findings"],
        "utility": {key: utility[key] for key in _KEPT if key in utility},
        "gate": gate_json(utility, least),
        "next": document["next"],
    }


SCHEMA_VERSION = 1

_UTILITY_NOTE = (
    "Whether these images help a classifier was not measured. Good numbers on this page do not show that they do."
)

_FEATURES = {
    "inception": "Inception's features",
    "resnet50": "ResNet-50's features",
    "own": "the features of the small classifier",
}


@dataclass(frozen=True)
class ReportInput:
    """The report's input: images, counts and context. `history` holds the rows of the run's metrics.jsonl.

    `origin` is "run", or "folders" when two folders are compared and nothing is known about the generator. `delivered`
    says whether a balanced folder was written; if not, the report previews what it would receive. `utility` comes from
    `measure_utility`, `embeddings` from `latent_embeddings`, `shortcuts` from `shortcut_checks` and `leak` from
    `leak_probe`. `classifier` trains the small classifier of the real training images when called; without it, the
    extractor serves if it is one. `warnings` are shown first.
    """

    title: str
    method: str
    run: str
    data: str
    classes: tuple[ClassImages, ...]
    ir_before: float
    ir_after: float
    complete: bool
    origin: str = "run"
    delivered: bool = True
    history: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    shortcuts: list[Json] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    balancegan_version: str = __version__
    notes: list[str] = field(default_factory=list)
    distribution: Json | None = None  # from `distribution_json`, for a method that assigns classes
    utility: Json | None = None
    recipe: Json | None = None  # from `recipe_json`, for a balanced folder
    embeddings: list[Json] = field(default_factory=list)
    extras: Extras | None = None
    leak: Json | None = None
    classifier: Callable[[], OwnExtractor] | None = None


def compute_report(
    inp: ReportInput,
    extractor: Extractor,
    *,
    seed: int = 0,
    max_images: int = 2000,
    metrics: frozenset[str] = frozenset(METRICS),
    progress: Progress = silent,
) -> Json:
    """Measure every class and all classes together, and explain the numbers in plain sentences.

    Args:
        inp: images, counts and context.
        extractor: computes the features behind FID, KID, precision, recall, density and coverage.
        seed: for every random choice (subsets, pairs, halves).
        max_images: limit per class and set in each measure; the search for copies always uses all training images.
        metrics: which of `METRICS` to measure.
        progress: called as `("report", classes done, classes)`.

    Returns a document that `json.dumps(…, allow_nan=False)` accepts: every number is finite or null.
    """
    measured = []
    known = inp.origin == "run"
    for index, images in enumerate(inp.classes):
        of_class = partial(measure_class, images, extractor, seed=seed + index, max_images=max_images)
        measured.append(of_class(metrics=metrics, seen_known=known))
        progress("report", index + 1, len(inp.classes))
    _add_recognition(measured, inp, extractor, seed=seed, asked="recognised" in metrics)
    document: Json = {
        "schema_version": SCHEMA_VERSION,
        "balancegan_version": inp.balancegan_version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "origin": inp.origin,
        "delivered": inp.delivered,
        "title": inp.title,
        "method": inp.method,
        "run": inp.run,
        "data": inp.data,
        "complete": inp.complete,
        "imbalance_rate_before": inp.ir_before,
        "imbalance_rate_after": inp.ir_after,
        "num_real": sum(c.real for c in inp.classes),
        "num_synthetic": sum(c.synthetic for c in inp.classes),
        "extractor": describe_extractor(extractor),
        "limits": {
            "max_images": max_images,
            "min_reference": MIN_REFERENCE,
            "few_images": FEW_IMAGES,
            "copy_side": MAX_SIDE,
            "copy_margin": MARGIN,
            "seed": seed,
        },
        "classes": [found.row for found in measured],
        "overall": measure_overall(measured, extractor, seed=seed, metrics=metrics),
        "recipe": inp.recipe,
        "utility": inp.utility or not_measured(_UTILITY_NOTE),
        "findings": [],
        "shortcuts": inp.shortcuts,
        "leak_probe": inp.leak,
        "warnings": [
            *inp.warnings,
            *(check["sentence"] for check in inp.shortcuts if check["telling"] and not check["explained"]),
        ],
        "notes": [*inp.notes, *_no_leak(inp.leak)],
        "settings": inp.settings,
        "history": inp.history,
        "distribution": inp.distribution,
        "embeddings": list(inp.embeddings),
    }
    shown = feature_embedding(
        [c.name for c in inp.classes],
        [found.feats_real for found in measured],
        [found.feats_fake for found in measured],
        seed=seed,
        features=_FEATURES[extractor.name],
    )
    document["embeddings"] += [shown] if shown else []
    document["findings"] = findings(document)
    document["next"] = next_steps(document)
    return _finite(document)


def _no_leak(probe: Json | None) -> list[str]:
    return [probe["text"]] if probe and probe["measured"] and not probe["leak"] else []


def _add_recognition(
    measured: list[Measured], inp: ReportInput, extractor: Extractor, *, seed: int, asked: bool
) -> None:
    """Add to every class's row what a classifier of real images takes its synthetic images for."""
    used = extractor.wrapped if isinstance(extractor, Cached) else extractor
    makes = (lambda: used) if isinstance(used, OwnExtractor) else inp.classifier
    if not asked:
        rows = [no_recognition(NOT_ASKED)] * len(measured)
    elif len(measured) < 2 or makes is None:
        why = "A classifier needs at least two classes." if len(measured) < 2 else "No classifier of real images."
        rows = [no_recognition(why)] * len(measured)
    else:
        rows = measure_recognition(inp.classes, makes(), seed=seed)
    for found, row in zip(measured, rows, strict=True):
        reasons = row["reasons"] | found.row["reasons"]
        found.row.update(row | {"reasons": reasons})


def describe_extractor(extractor: Extractor | type[Extractor]) -> Json:
    """Describe the features behind FID, and what its values can be compared with."""
    return {key: getattr(extractor, key) for key in ("name", "comparable", "dim", "note")}


def _finite(value: Any) -> Any:
    """Convert a value to JSON types: NaN and infinity become None, and unknown types become text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
