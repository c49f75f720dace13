"""Measures near-copies of training images among generated images, for a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.metrics import memorisation
from balancegan.metrics.features import Images
from balancegan.verdict.material import ClassImages

SHOWN_PAIRS = 8
COPY_MEASURES = (
    "copy_rate",
    "copy_threshold",
    "near_rate",
    "near_rate_real",
    "near_rate_real_of",
    "copy_rate_holdout",
    "nearest_fake",
    "nearest_holdout",
    "nearest_train",
)


@dataclass(frozen=True, eq=False)
class Seen:
    """A class's training images, compared with each other and with held-out images; from `look_at`."""

    features: NDArray[np.float32]
    spacing: memorisation.Spacing
    threshold: float
    """An image nearer than this to a training image is a near-copy."""
    away: NDArray[np.float32]
    """(h,) distances from held-out images to their nearest training image."""


def look_at(train: Images, held_out: Images) -> Seen:
    """Prepare these training images for finding near-copies of them in any set of images."""
    features = memorisation.pixel_features(train)
    spacing = memorisation.spacing(features)
    unseen = memorisation.spread_evenly(len(held_out))
    away, _ = memorisation.nearest(memorisation.pixel_features(held_out[unseen]), features)
    return Seen(features, spacing, spacing.threshold(), away)


def near_copies(distances: NDArray[np.float32], seen: Seen) -> Json:
    """Shares of near-copies, from the `distances` of synthetic images to their nearest training image."""
    near = int((distances < seen.threshold).sum())
    near_real, n_real, of = memorisation.real_near_counts(seen.spacing, seen.away, seen.threshold)
    return {
        "copy_threshold": seen.threshold,
        "copy_rate": memorisation.copy_rate(near, len(distances), near_real, n_real),
        "near_rate": near / len(distances),
        "near_rate_real": near_real / n_real if n_real else None,
        "near_rate_real_of": of,
    }


def measure_copies(images: ClassImages, measured: NDArray[np.int64], reasons: dict[str, str], *, seed: int) -> Json:
    """Measure the distances of synthetic and held-out real images to their nearest training image."""
    row: Json = {**dict.fromkeys(COPY_MEASURES), "pairs": []}
    if not len(images.real_train):
        reasons["copy_rate"] = "No training images to compare with."
        return row
    seen = look_at(images.real_train, images.real_holdout)
    distances, winners = memorisation.nearest(memorisation.pixel_features(images.fake[measured]), seen.features)
    row |= {
        **near_copies(distances, seen),
        "nearest_fake": _summary(distances),
        "nearest_train": _summary(seen.spacing.within),
        "pairs": _shown_pairs(measured, distances, winners, seed=seed),
    }
    if len(seen.away):
        near = float((seen.away < seen.threshold).mean())
        row |= {"copy_rate_holdout": near, "nearest_holdout": _summary(seen.away)}
    else:
        reasons["copy_rate_holdout"] = "No held-out images."
    return row


def _shown_pairs(
    measured: NDArray[np.int64], distances: NDArray[np.float32], winners: NDArray[np.int64], *, seed: int
) -> list[Json]:
    """The closest pairs and a few random ones, as indices into the class's `fake` and `real_train`."""
    order = np.argsort(distances, kind="stable")
    closest = order[: SHOWN_PAIRS // 2]
    rest = order[SHOWN_PAIRS // 2 :]
    drawn = np.random.default_rng(seed).permutation(rest)[: SHOWN_PAIRS - len(closest)]
    return [
        {"fake": int(measured[i]), "train": int(winners[i]), "distance": float(distances[i]), "chosen": how}
        for how, chosen in (("closest", closest), ("random", drawn))
        for i in chosen
    ]


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
