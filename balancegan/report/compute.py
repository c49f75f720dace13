"""The numbers of the quality report, as one JSON document. Measures and judges; draws and prints nothing.

Whatever cannot be measured is null in the document, and the class's `reasons` say why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.metrics import memorisation
from balancegan.metrics.features import Extractor
from balancegan.metrics.fid import fid_floor, frechet_distance
from balancegan.metrics.ssim import mean_ssim, within_ssim
from balancegan.progress import Progress, silent
from balancegan.report.findings import FEW_IMAGES, MIN_HALF, MIN_REFERENCE, findings

Images = NDArray[np.uint8]
Json = dict[str, Any]

SCHEMA_VERSION = 1

SHOWN_PAIRS = 8

_UTILITY_NOTE = (
    "Whether these images help a classifier has not been measured in this version. Good numbers on this page do not "
    "show that they help. To find out, train your classifier with and without the synthetic images (and with plain "
    "oversampling and flips), and compare recall per class on real images that took no part in any training."
)


@dataclass(frozen=True)
class ClassImages:
    """One class as the report sees it. Image arrays are uint8 (n, C, H, W) at the model's size.

    `real_holdout` are images that the GAN never saw (may be empty); `real` and `synthetic` count the images in the
    balanced folder's training part, `requested` is how many synthetic ones were asked for, and `rejected` how many
    samples were dropped on the way.
    """

    name: str
    real_train: Images
    real_holdout: Images
    fake: Images
    real: int
    synthetic: int
    rejected: int = 0
    requested: int = 0


@dataclass(frozen=True)
class ReportInput:
    """Everything that the report is about. `history` holds the rows of the run's metrics.jsonl."""

    title: str
    method: str
    run: str
    data: str
    classes: tuple[ClassImages, ...]
    ir_before: float
    ir_after: float
    complete: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    shortcuts: list[str] = field(default_factory=list)
    balancegan_version: str = ""
    notes: list[str] = field(default_factory=list)
    distribution: Json | None = None  # `assigned.distribution_json`, for a method that assigns classes


def compute_report(
    inp: ReportInput,
    extractor: Extractor,
    *,
    seed: int = 0,
    max_images: int = 2000,
    progress: Progress = silent,
) -> Json:
    """Measure every class and the whole, and say in plain sentences what the numbers mean.

    Args:
        inp: images, counts and circumstances.
        extractor: gives the features behind FID.
        seed: of every random choice (subsets, pairs, halves).
        max_images: at most this many images per class and set enter a measure. Copies are an exception: they are
            searched among all training images of the class.
        progress: called as `("report", classes done, classes)`.

    Returns:
        A document that `json.dumps(…, allow_nan=False)` accepts: every number is finite or null.
    """
    classes: list[Json] = []
    feature_sets: list[tuple[NDArray[np.float32], NDArray[np.float32], str]] = []
    for index, images in enumerate(inp.classes):
        row, feats_real, feats_fake = _measure_class(images, extractor, seed=seed + index, max_images=max_images)
        classes.append(row)
        feature_sets.append((feats_real, feats_fake, row["reference"]))
        progress("report", index + 1, len(inp.classes))
    document: Json = {
        "schema_version": SCHEMA_VERSION,
        "balancegan_version": inp.balancegan_version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
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
        "limits": {"max_images": max_images, "min_reference": MIN_REFERENCE, "few_images": FEW_IMAGES, "seed": seed},
        "classes": classes,
        "overall": _overall(feature_sets, seed=seed),
        "utility": {"measured": False, "verdict": None, "note": _UTILITY_NOTE},
        "findings": [],
        "warnings": list(inp.shortcuts),
        "notes": list(inp.notes),
        "settings": inp.settings,
        "history": inp.history,
        "distribution": inp.distribution,
    }
    document["findings"] = findings(document)
    return _finite(document)


def _measure_class(
    images: ClassImages, extractor: Extractor, *, seed: int, max_images: int
) -> tuple[Json, NDArray[np.float32], NDArray[np.float32]]:
    """One row of the document, and the features for the overall distance."""
    rng = np.random.default_rng(seed)
    use_holdout = len(images.real_holdout) >= MIN_REFERENCE or not len(images.real_train)
    reference = "holdout" if use_holdout else "train"
    real = _subset(images.real_holdout if use_holdout else images.real_train, max_images, rng)
    measured = _subset(np.arange(len(images.fake)), max_images, rng)
    fake = images.fake[measured]
    row: Json = {
        "name": images.name,
        "real": images.real,
        "synthetic": images.synthetic,
        "requested": images.requested,
        "rejected": images.rejected,
        "n_train": len(images.real_train),
        "n_holdout": len(images.real_holdout),
        "n_real": len(real),
        "n_fake": len(fake),
        "reference": reference,
        "reasons": {},
    }
    empty = np.empty((0, extractor.dim), np.float32)
    if not len(fake):
        row |= dict.fromkeys(_MEASURES)
        why = "No synthetic images." if images.requested else "No synthetic images were needed."
        row["reasons"] = dict.fromkeys(_MEASURES, why)
        return row, empty, empty
    feats_real = extractor(real) if len(real) else empty
    feats_fake = extractor(fake)
    row |= _distances(feats_real, feats_fake, row["reasons"], seed=seed)
    row |= _similarities(real, fake, row["reasons"], seed=seed)
    row |= _copies(images, measured, row["reasons"], seed=seed)
    return row, feats_real, feats_fake


_MEASURES = (
    "fid",
    "fid_floor",
    "fid_floor_size",
    "ssim",
    "ssim_within_real",
    "ssim_within_fake",
    "ssim_pairs",
    "spread_real",
    "spread_fake",
    "copy_rate",
    "copy_rate_holdout",
    "copy_threshold",
    "nearest_fake",
    "nearest_holdout",
    "nearest_train",
    "pairs",
)
"""Keys of a class that are null when it has no synthetic images."""


def _distances(
    feats_real: NDArray[np.float32], feats_fake: NDArray[np.float32], reasons: dict[str, str], *, seed: int
) -> Json:
    """FID with its floor; null below `MIN_REFERENCE` images, where the number says nothing about the images."""
    row: Json = dict.fromkeys(("fid", "fid_floor", "fid_floor_size"))
    fewest = min(len(feats_real), len(feats_fake))
    if fewest < MIN_REFERENCE:
        reasons["fid"] = reasons["fid_floor"] = f"Too few images: {len(feats_real)} real, {len(feats_fake)} synthetic."
        return row
    row["fid"] = frechet_distance(feats_real=feats_real, feats_fake=feats_fake)
    if len(feats_real) >= 2 * MIN_HALF:
        row["fid_floor"], row["fid_floor_size"] = fid_floor(feats_real, seed)
    else:
        reasons["fid_floor"] = f"Too few images: {len(feats_real)} real, {2 * MIN_HALF} are needed."
    return row


def _similarities(real: Images, fake: Images, reasons: dict[str, str], *, seed: int) -> Json:
    """SSIM of synthetic to real images, and two measures of the diversity within each set.

    SSIM sees grain: one image repeated under noise is diverse to it. The spread, a root-mean-square distance of pairs
    of small versions, is deaf to grain, and blind to details instead.
    """
    # SSIM's cost grows with the pixels: 500 pairs up to 64 pixels a side, fewer above, never fewer than 100.
    pairs = int(np.clip(500 * 64 * 64 / math.prod(fake.shape[2:]), 100, 500))
    row: Json = {"ssim": None, "ssim_within_real": None, "ssim_within_fake": None, "ssim_pairs": pairs}
    if len(real):
        row["ssim"] = mean_ssim(real, fake, pairs=pairs, seed=seed)
    else:
        reasons["ssim"] = "No real images to compare with."
    for side, images, what in (("real", real, "real"), ("fake", fake, "synthetic")):
        ssim, spread = f"ssim_within_{side}", f"spread_{side}"
        if len(images) >= 2:
            row[ssim] = within_ssim(images, pairs=pairs, seed=seed)
            row[spread] = _spread(images)
        else:
            reasons[ssim] = reasons[spread] = f"A pair needs two {what} images, and there are {len(images)}."
            row[spread] = None
    return row


def _spread(images: Images) -> float:
    """Root-mean-square distance over all pairs of different images, 0 to 1."""
    features = memorisation.pixel_features(images).astype(np.float64)
    return float(np.sqrt(2.0 * features.var(axis=0, ddof=1).sum()))  # E|a - b|² = 2 Tr Σ


def _copies(images: ClassImages, measured: NDArray[np.int64], reasons: dict[str, str], *, seed: int) -> Json:
    """Distances to the nearest training image, of synthetic and of held-out real images."""
    row: Json = dict.fromkeys(
        ("copy_rate", "copy_rate_holdout", "copy_threshold", "nearest_fake", "nearest_holdout", "nearest_train")
    )
    row["pairs"] = []
    if not len(images.real_train):
        reasons["copy_rate"] = "No training images to compare with."
        return row
    train = memorisation.pixel_features(images.real_train)
    threshold = memorisation.copy_threshold(train)
    distances, winners = memorisation.nearest(memorisation.pixel_features(images.fake[measured]), train)
    within, _ = memorisation.nearest(train, train, exclude_self=True)
    row |= {
        "copy_threshold": threshold,
        "copy_rate": float((distances < threshold).mean()),
        "nearest_fake": _summary(distances),
        "nearest_train": _summary(within),
        "pairs": _shown_pairs(measured, distances, winners, seed=seed),
    }
    if len(images.real_holdout):
        held, _ = memorisation.nearest(memorisation.pixel_features(images.real_holdout), train)
        row |= {"copy_rate_holdout": float((held < threshold).mean()), "nearest_holdout": _summary(held)}
    else:
        reasons["copy_rate_holdout"] = "No held-out images."
    return row


def _shown_pairs(
    measured: NDArray[np.int64], distances: NDArray[np.float32], winners: NDArray[np.int64], *, seed: int
) -> list[Json]:
    """The closest pairs and a few random ones, as positions in the class's `fake` and `real_train`."""
    order = np.argsort(distances, kind="stable")
    closest = order[: SHOWN_PAIRS // 2]
    rest = order[SHOWN_PAIRS // 2 :]
    drawn = np.random.default_rng(seed).permutation(rest)[: SHOWN_PAIRS - len(closest)]
    return [
        {"fake": int(measured[i]), "train": int(winners[i]), "distance": float(distances[i]), "chosen": how}
        for how, chosen in (("closest", closest), ("random", drawn))
        for i in chosen
    ]


def _overall(sets: list[tuple[NDArray[np.float32], NDArray[np.float32], str]], *, seed: int) -> Json:
    """FID over all classes with synthetic images, with the same number of images of a class on both sides.

    Synthetic images fill the small classes and real ones the large classes, so a distance between all and all would
    measure the difference of the class mix.
    """
    rng = np.random.default_rng(seed)
    real: list[NDArray[np.float32]] = []
    fake: list[NDArray[np.float32]] = []
    references: set[str] = set()
    for feats_real, feats_fake, reference in sets:
        shared = min(len(feats_real), len(feats_fake))
        if shared:
            real.append(_subset(feats_real, shared, rng))
            fake.append(_subset(feats_fake, shared, rng))
            references.add(reference)
    size = sum(map(len, real))
    overall: Json = {"fid": None, "fid_floor": None, "fid_floor_size": None, "n_real": size, "n_fake": size}
    overall["num_classes"] = len(real)
    overall["reference"] = references.pop() if len(references) == 1 else "mixed" if references else None
    overall["reason"] = None
    if size < MIN_REFERENCE:
        overall["reason"] = f"Too few images: {size} of each kind."
        return overall
    feats_real, feats_fake = np.concatenate(real), np.concatenate(fake)
    overall["fid"] = frechet_distance(feats_real=feats_real, feats_fake=feats_fake)
    if size >= 2 * MIN_HALF:
        overall["fid_floor"], overall["fid_floor_size"] = fid_floor(feats_real, seed)
    return overall


def describe_extractor(extractor: Extractor | type[Extractor]) -> Json:
    """What the features behind FID are, and what its numbers compare with."""
    if extractor.comparable:
        note = "FID uses the standard Inception features; compare it only between sets of the same sizes."
    else:
        note = (
            "FID here uses features of a small classifier trained on this data set's real training images, not the "
            "standard Inception network. These numbers compare only with each other, inside this report."
        )
    return {"name": extractor.name, "comparable": extractor.comparable, "dim": extractor.dim, "note": note}


def _summary(distances: NDArray[np.float32]) -> Json:
    finite = distances[np.isfinite(distances)].astype(np.float64)
    if not len(finite):
        return {"n": 0, "min": None, "p5": None, "median": None, "mean": None}
    low, median = np.percentile(finite, (5, 50))
    return {
        "n": len(finite),
        "min": float(finite.min()),
        "p5": float(low),
        "median": float(median),
        "mean": float(finite.mean()),
    }


def _subset(rows: NDArray[Any], limit: int, rng: np.random.Generator) -> NDArray[Any]:
    """At most `limit` rows, drawn at random, in their order."""
    return rows if len(rows) <= limit else rows[np.sort(rng.permutation(len(rows))[:limit])]


def _finite(value: Any) -> Any:
    """The value with numbers that JSON lacks (NaN, infinity) as null and everything unusual as text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
