"""Computes the report's measures, for one class and for all classes together, as rows of the document.

Measures that cannot be computed are null, and the row's `reasons` say why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.evaluation.copies import COPY_MEASURES, measure_copies
from balancegan.evaluation.detail import DETAIL_MEASURES, measure_detail
from balancegan.evaluation.findings import MIN_HALF, MIN_REFERENCE, NOT_ASKED
from balancegan.evaluation.recognition import RECOGNITION
from balancegan.metrics import memorisation
from balancegan.metrics.features import Extractor, with_head
from balancegan.metrics.fid import frechet_distance, random_halves
from balancegan.metrics.inception_score import SPLITS, inception_score
from balancegan.metrics.kid import SUBSET_SIZE, kernel_distance
from balancegan.metrics.prdc import prdc
from balancegan.metrics.ssim import mean_ssim, within_ssim
from balancegan.verdict.material import ClassImages

Images = NDArray[np.uint8]
Features = NDArray[np.float32]
METRICS = ("fid", "kid", "is", "ssim", "prdc", "copies", "swd", "recognised")
"""The available measures. The first five but SSIM need features, and `recognised` a classifier of real images."""

_ON_FEATURES = frozenset(("fid", "kid", "is", "prdc"))

MOST_COMPARED = 10_000
"""Maximum number of real, and of synthetic, images for precision, recall, density and coverage, whose cost grows
quadratically. Only all classes together can exceed it."""

SCORE_IMAGES = 10 * SPLITS
"""Minimum number of images for an Inception Score: each split needs several images of every class."""


@dataclass(frozen=True)
class Measured:
    """One class's row of the document, and the features behind it."""

    row: Json
    feats_real: Features
    feats_fake: Features


_TO_REAL = ("fid", "kid", "kid_std", "kid_size")
_FLOORS = ("fid_floor", "fid_floor_size", "kid_floor", "kid_floor_std")
_DISTANCES = (*_TO_REAL, *_FLOORS)
_MANIFOLD = ("precision", "recall", "density", "coverage", "prdc_k", "prdc_n")
_SIMILARITIES = ("ssim", "ssim_within_real", "ssim_within_fake", "ssim_pairs", "spread_real", "spread_fake")
_MEASURES = (*_DISTANCES, *_MANIFOLD, *_SIMILARITIES, *COPY_MEASURES, *DETAIL_MEASURES, *RECOGNITION, "pairs")
"""Keys that are null for a class without synthetic images."""


def measure_class(
    images: ClassImages,
    extractor: Extractor,
    *,
    seed: int,
    max_images: int,
    metrics: frozenset[str] = frozenset(METRICS),
    seen_known: bool = True,
) -> Measured:
    """Measure one class; returns its row of the document and its features.

    Args:
        images: the class's images.
        extractor: computes the features.
        seed: for all random choices.
        max_images: each measure uses at most this many images per set; copies are searched for among all training
            images.
        metrics: which of `METRICS` to measure.
        seen_known: whether the generator is known to have been trained on `real_train`.
    """
    rng = np.random.default_rng(seed)
    reference, real = _reference(images, seen_known)
    real = _subset(real, max_images, rng)
    measured = _subset(np.arange(len(images.fake)), max_images, rng)
    fake = images.fake[measured]
    row: Json = {
        "name": images.name,
        "real": images.real,
        "synthetic": images.synthetic,
        "generated": images.generated,
        "transformed": images.transformed,
        "requested": images.requested,
        "rejected": images.rejected,
        "refused": images.refused,
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
        why = "No synthetic images were needed." if seen_known and not images.requested else "No synthetic images."
        row["reasons"] = dict.fromkeys((*_MEASURES, "prdc"), why)
        return Measured(row, empty, empty)
    feats_real = feats_fake = empty
    if metrics & _ON_FEATURES:
        feats_real, feats_fake = extractor(real) if len(real) else empty, extractor(fake)
    reasons = row["reasons"]
    row |= distances(feats_real, feats_fake, reasons, metrics)
    row |= floors(feats_real, reasons, seed=seed)
    row |= _manifold(feats_real, feats_fake, reasons, metrics, seed=seed)
    row |= _similarities(real, fake, reasons, seed=seed) if "ssim" in metrics else _skipped(_SIMILARITIES, reasons)
    row |= (
        measure_copies(images, measured, reasons, seed=seed)
        if "copies" in metrics
        else _skipped(COPY_MEASURES, reasons)
    )
    row.setdefault("pairs", [])
    other = images.real_train if reference == "holdout" and len(images.real_train) else None
    row |= (
        measure_detail(real, other, fake, reasons, seed=seed)
        if "swd" in metrics
        else _skipped(DETAIL_MEASURES, reasons)
    )
    return Measured(row, feats_real, feats_fake)


def _reference(images: ClassImages, seen_known: bool) -> tuple[str, Images]:
    """The kind of reference (holdout, train, or real if it is not known what the generator saw) and its images."""
    if images.reference is not None:
        return "real", images.reference
    if len(images.real_holdout) >= MIN_REFERENCE or not len(images.real_train):
        return "holdout", images.real_holdout
    return "train" if seen_known else "real", images.real_train


def _skipped(keys: tuple[str, ...], reasons: dict[str, str]) -> Json:
    reasons |= dict.fromkeys(keys, NOT_ASKED)
    return dict.fromkeys(keys)


def distances(
    feats_real: Features, feats_fake: Features, reasons: dict[str, str], metrics: frozenset[str] = frozenset(METRICS)
) -> Json:
    """FID and KID; null with fewer than `MIN_REFERENCE` images, where they would be meaningless."""
    row: Json = dict.fromkeys(_TO_REAL)
    enough = min(len(feats_real), len(feats_fake)) >= MIN_REFERENCE
    few = f"Too few images: {len(feats_real)} real, {len(feats_fake)} synthetic."
    for measure in ("fid", "kid"):
        if measure not in metrics:
            reasons[measure] = NOT_ASKED
        elif not enough:
            reasons[measure] = few
    if "fid" not in reasons:
        row["fid"] = frechet_distance(feats_real=feats_real, feats_fake=feats_fake)
    if "kid" not in reasons:
        row["kid"], row["kid_std"], row["kid_size"] = _kid(feats_real, feats_fake)
    return row


def floors(feats_real: Features, reasons: dict[str, str], *, seed: int) -> Json:
    """FID and KID of one half of the real images against the other.

    Null if `reasons` already explain why the measure itself is null, or with fewer than `MIN_HALF` images per half.
    """
    row: Json = dict.fromkeys(_FLOORS)
    enough = len(feats_real) >= 2 * MIN_HALF
    few = f"Too few images: {len(feats_real)} real, but {2 * MIN_HALF} are needed."
    for measure in ("fid", "kid"):
        if measure in reasons or not enough:
            reasons[f"{measure}_floor"] = reasons.get(measure, few)
    if "fid_floor" in reasons and "kid_floor" in reasons:
        return row
    first, second = random_halves(feats_real, seed)
    if "fid_floor" not in reasons:
        row["fid_floor"], row["fid_floor_size"] = frechet_distance(feats_real=first, feats_fake=second), len(first)
    if "kid_floor" not in reasons:
        row["kid_floor"], row["kid_floor_std"], _ = _kid(first, second)
    return row


def _kid(feats_real: Features, feats_fake: Features) -> tuple[float, float, int]:
    """KID over subsets of at most half of the smaller set; whole sets would give one value without a deviation."""
    size = min(SUBSET_SIZE, min(len(feats_real), len(feats_fake)) // 2)
    return kernel_distance(feats_real=feats_real, feats_fake=feats_fake, subset_size=max(2, size))


def _manifold(
    feats_real: Features, feats_fake: Features, reasons: dict[str, str], metrics: frozenset[str], *, seed: int
) -> Json:
    """Precision, recall, density and coverage on equal numbers of real and synthetic images.

    They depend on how densely each set covers its region: a hundred synthetic images per real image would lower recall
    and raise coverage.
    """
    size = min(len(feats_real), len(feats_fake))
    if "prdc" not in metrics or size < MIN_REFERENCE:
        few = f"Too few images: {len(feats_real)} real, {len(feats_fake)} synthetic."
        reasons["prdc"] = few if "prdc" in metrics else NOT_ASKED
        return dict.fromkeys(_MANIFOLD)
    rng = np.random.default_rng(seed)
    size = min(size, MOST_COMPARED)
    found = prdc(feats_real=_subset(feats_real, size, rng), feats_fake=_subset(feats_fake, size, rng))
    return {
        "precision": found.precision,
        "recall": found.recall,
        "density": found.density,
        "coverage": found.coverage,
        "prdc_k": found.k,
        "prdc_n": size,
    }


def _similarities(real: Images, fake: Images, reasons: dict[str, str], *, seed: int) -> Json:
    """SSIM of synthetic to real images, and two measures of the diversity within each set.

    SSIM is sensitive to grain, so one image repeated with noise looks diverse to it. The spread is the root-mean-square
    distance between pairs of downscaled images. It ignores grain, but also fine detail.
    """
    row: Json = {"ssim_within_real": None, "ssim_within_fake": None, **ssim_to_real(real, fake, reasons, seed=seed)}
    for side, images, what in (("real", real, "real"), ("fake", fake, "synthetic")):
        ssim, spread = f"ssim_within_{side}", f"spread_{side}"
        if len(images) >= 2:
            row[ssim] = within_ssim(images, pairs=row["ssim_pairs"], seed=seed)
            row[spread] = _spread(images)
        else:
            reasons[ssim] = reasons[spread] = f"Needs at least two {what} images; there are {len(images)}."
            row[spread] = None
    return row


def ssim_to_real(real: Images, fake: Images, reasons: dict[str, str], *, seed: int) -> Json:
    """Mean SSIM of synthetic to real images, and the number of pairs."""
    # The cost grows with the number of pixels: 500 pairs up to 64 x 64 pixels, fewer above that, but at least 100.
    pairs = int(np.clip(500 * 64 * 64 / math.prod(fake.shape[2:]), 100, 500))
    if not len(real):
        reasons["ssim"] = "No real images to compare with."
        return {"ssim": None, "ssim_pairs": pairs}
    return {"ssim": mean_ssim(real, fake, pairs=pairs, seed=seed), "ssim_pairs": pairs}


def _spread(images: Images) -> float:
    """Root-mean-square distance over all pairs of different images, 0 to 1."""
    features = memorisation.pixel_features(images).astype(np.float64)
    return float(np.sqrt(2.0 * features.var(axis=0, ddof=1).sum()))  # E|a - b|² = 2 Tr Σ


def measure_overall(
    classes: list[Measured], extractor: Extractor, *, seed: int, metrics: frozenset[str] = frozenset(METRICS)
) -> Json:
    """Measure all classes with synthetic images together, with equally many real and synthetic images per class.

    Most synthetic images are in small classes and most real ones in large classes, so a distance between all images
    would measure the difference in class mix. The Inception Score does not use real images and takes all synthetic
    ones.
    """
    rng = np.random.default_rng(seed)
    real: list[Features] = []
    fake: list[Features] = []
    references: set[str] = set()
    for found in classes:
        shared = min(len(found.feats_real), len(found.feats_fake))
        if shared:
            real.append(_subset(found.feats_real, shared, rng))
            fake.append(_subset(found.feats_fake, shared, rng))
            references.add(found.row["reference"])
    size = sum(map(len, real))
    overall: Json = {**dict.fromkeys((*_DISTANCES, *_MANIFOLD, "reason")), "n_real": size, "n_fake": size}
    overall["num_classes"] = len(real)
    overall["reference"] = references.pop() if len(references) == 1 else "mixed" if references else None
    overall |= _score([found.feats_fake for found in classes], extractor, metrics, seed=seed)
    if size < MIN_REFERENCE:
        overall["reason"] = f"Too few images: {size} of each kind."
        return overall
    reasons: dict[str, str] = {}
    feats_real, feats_fake = np.concatenate(real), np.concatenate(fake)
    overall |= distances(feats_real, feats_fake, reasons, metrics)
    overall |= floors(feats_real, reasons, seed=seed)
    overall |= _manifold(feats_real, feats_fake, reasons, metrics, seed=seed)
    return overall


def _score(sets: list[Features], extractor: Extractor, metrics: frozenset[str], *, seed: int) -> Json:
    """The Inception Score of all synthetic images, or the reason why it is missing."""
    row: Json = dict.fromkeys(
        ("inception_score", "inception_score_std", "inception_score_splits", "inception_score_reason")
    )
    row["inception_score_n"] = size = sum(map(len, sets))
    if "is" not in metrics:
        return row | {"inception_score_reason": NOT_ASKED}
    if extractor.name != "inception":
        return row | {"inception_score_reason": "It needs the Inception network, which was not used here."}
    if not with_head(extractor):
        why = "The Inception weights in use have no classifier layer; a score from them would always be 1."
        return row | {"inception_score_reason": why}
    if size < SCORE_IMAGES:
        why = f"Too few images: {size}, but {SCORE_IMAGES} are needed."
        return row | {"inception_score_reason": why}
    mean, std = inception_score(extractor.classify(np.concatenate(sets)), splits=SPLITS, seed=seed)
    return row | {"inception_score": mean, "inception_score_std": std, "inception_score_splits": SPLITS}


def _subset(rows: NDArray[Any], limit: int, rng: np.random.Generator) -> NDArray[Any]:
    """At most `limit` rows, chosen at random and kept in order."""
    return rows if len(rows) <= limit else rows[np.sort(rng.permutation(len(rows))[:limit])]
