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
SHOWN_ABOVE = 2
"""Pairs just above the threshold that are shown besides the closest ones."""

MARGIN = 1.25
"""Distances from the threshold to this multiple of it count as just above it. Copies that were brightened or shifted a
little lie there, and of unseen real images usually 1% to 8% (cells, Fashion-MNIST, traffic signs)."""

COPY_MEASURES = (
    "copy_rate",
    "copy_threshold",
    "near_rate",
    "near_rate_real",
    "near_rate_real_of",
    "just_above",
    "just_above_rate_real",
    "just_above_unusual",
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
        **_just_above(distances, near, seen, (near_real, n_real)),
    }


def _just_above(distances: NDArray[np.float32], near: int, seen: Seen, real: tuple[int, int]) -> Json:
    """The number of synthetic images just above the threshold, and whether it is unusual.

    It is unusual if these alone, or together with near-copies too few to be significant, are significantly more than
    among real images.
    """
    wide = MARGIN * seen.threshold
    near_real, n_real = real
    above = int((distances < wide).sum()) - near
    above_real = memorisation.real_near_counts(seen.spacing, seen.away, wide)[0] - near_real
    alone = memorisation.copy_rate(above, len(distances), above_real, n_real)
    few = not memorisation.copy_rate(near, len(distances), near_real, n_real)
    together = few and memorisation.copy_rate(near + above, len(distances), near_real + above_real, n_real)
    return {
        "just_above": above,
        "just_above_rate_real": above_real / n_real if n_real else None,
        "just_above_unusual": bool(above and (alone or together)),
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
        "pairs": _shown_pairs(measured, distances, winners, seen.threshold, seed=seed),
    }
    if len(seen.away):
        near = float((seen.away < seen.threshold).mean())
        row |= {"copy_rate_holdout": near, "nearest_holdout": _summary(seen.away)}
    else:
        reasons["copy_rate_holdout"] = "No held-out images."
    return row


def _shown_pairs(
    measured: NDArray[np.int64],
    distances: NDArray[np.float32],
    winners: NDArray[np.int64],
    threshold: float,
    *,
    seed: int,
) -> list[Json]:
    """The closest pairs, some just above the threshold and random ones, as indices into `fake` and `real_train`."""
    order = np.argsort(distances, kind="stable")
    closest, rest = order[: SHOWN_PAIRS // 2], order[SHOWN_PAIRS // 2 :]
    between = (distances[rest] >= threshold) & (distances[rest] < MARGIN * threshold)
    above = rest[between][:SHOWN_ABOVE]
    others = np.setdiff1d(rest, above)
    drawn = np.random.default_rng(seed).permutation(others)[: SHOWN_PAIRS - len(closest) - len(above)]
    return [
        {"fake": int(measured[i]), "train": int(winners[i]), "distance": float(distances[i]), "chosen": how}
        for how, chosen in (("closest", closest), ("just above", above), ("random", drawn))
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
