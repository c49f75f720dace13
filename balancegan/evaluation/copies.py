"""Near-copies of training images among generated ones, for a report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.metrics import memorisation
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


def measure_copies(images: ClassImages, measured: NDArray[np.int64], reasons: dict[str, str], *, seed: int) -> Json:
    """Distances to the nearest training image, of synthetic and of held-out real images."""
    row: Json = {**dict.fromkeys(COPY_MEASURES), "pairs": []}
    if not len(images.real_train):
        reasons["copy_rate"] = "No training images to compare with."
        return row
    train = memorisation.pixel_features(images.real_train)
    unseen = memorisation.spread_evenly(len(images.real_holdout))
    held = memorisation.pixel_features(images.real_holdout[unseen])
    known = memorisation.spacing(train)
    threshold = known.threshold()
    distances, winners = memorisation.nearest(memorisation.pixel_features(images.fake[measured]), train)
    away, _ = memorisation.nearest(held, train)
    near, (near_real, n_real, of) = (
        int((distances < threshold).sum()),
        memorisation.real_near_counts(known, away, threshold),
    )
    row |= {
        "copy_threshold": threshold,
        "copy_rate": memorisation.copy_rate(near, len(distances), near_real, n_real),
        "near_rate": near / len(distances),
        "near_rate_real": near_real / n_real if n_real else None,
        "near_rate_real_of": of,
        "nearest_fake": _summary(distances),
        "nearest_train": _summary(known.within),
        "pairs": _shown_pairs(measured, distances, winners, seed=seed),
    }
    if len(held):
        row |= {"copy_rate_holdout": float((away < threshold).mean()), "nearest_holdout": _summary(away)}
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
