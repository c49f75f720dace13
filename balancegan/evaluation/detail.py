"""Measures whether generated images of a class have the detail of real ones, for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.metrics.features import Images
from balancegan.metrics.sliced_wasserstein import MOST_IMAGES, Detail, detail, energy_ratio, sliced_wasserstein

DETAIL_MEASURES = ("swd", "swd_floor", "swd_floor_of", "swd_n", "detail_energy", "detail")

MIN_IMAGES = 5
"""Minimum number of images in each of the three sets that are compared."""

LACKING = 0.6
"""Detail is missing where its energy is below this fraction of that of real images, and noise where it is above the
inverse. A Gaussian blur of 0.5 pixels leaves 0.5 to 0.6 of it in the finest level."""

BEYOND_FLOOR = 1.5
"""Only distances above this multiple of real against real are called missing detail or noise."""

SIGNIFICANCE = 0.001
"""Level of the two-sided test of the images' energies, shared among the levels."""


def measure_detail(
    reference: Images, other: Images | None, fake: Images, reasons: dict[str, str], *, seed: int
) -> Json:
    """Compare synthetic with real images, level by level, and real with other real images.

    All sets get the size of the smallest, because the distance depends on it.

    Args:
        reference: real images (N, C, H, W).
        other: other real images; None halves the reference.
        fake: synthetic images.
        reasons: receives why nothing was measured.
        seed: for the choice of images and patches.

    Returns:
        `DETAIL_MEASURES`: distances of synthetic and of other real images from the reference, and the ratio of
        energies, by level; `detail` names the levels that lack detail and those that have too much of it.
    """
    rng = np.random.default_rng(seed)
    if other is None:
        half = len(reference) // 2
        mixed = reference[rng.permutation(len(reference))]
        first, second, of = mixed[:half], mixed[half:], "halves"
    else:
        first, second, of = reference, other, "train"
    size = min(len(first), len(second), len(fake), MOST_IMAGES)
    if size < MIN_IMAGES:
        needed = f"{MIN_IMAGES} in each of two sets of real images and in the synthetic ones are needed"
        reasons["swd"] = f"Too few images: {len(reference)} real, {len(fake)} synthetic, but {needed}."
        return dict.fromkeys(DETAIL_MEASURES)
    ours, apart, theirs = (
        detail(images[np.sort(rng.permutation(len(images))[:size])], seed=seed + index)
        for index, images in enumerate((first, second, fake))
    )
    swd, floor = (sliced_wasserstein(ours, side, seed=seed) for side in (theirs, apart))
    energy = np.concatenate([ours.energy, apart.energy], axis=1)
    real = Detail(ours.names, ours.patches, energy)
    return {
        "swd": swd,
        "swd_floor": floor,
        "swd_floor_of": of,
        "swd_n": size,
        "detail_energy": energy_ratio(real, theirs),
        "detail": _judged(swd, floor, real, theirs),
    }


def _judged(swd: Json, floor: Json, real: Detail, fake: Detail) -> dict[str, list[str]]:
    """The levels that clearly lack detail, and those that clearly have too much of it."""
    ratios = energy_ratio(real, fake)
    found: dict[str, list[str]] = {"lacking": [], "noisy": []}
    for level, (name, ratio) in enumerate(ratios.items()):
        strong = ratio < LACKING or ratio > 1 / LACKING
        far = swd[name] > BEYOND_FLOOR * floor[name]
        if strong and far and _differ(real.logs[level], fake.logs[level], SIGNIFICANCE / len(ratios)):
            found["lacking" if ratio < 1 else "noisy"].append(name)
    return found


def _differ(first: NDArray[Any], second: NDArray[Any], level: float) -> bool:
    """Welch's test of the means of two sets, each with at least two values."""
    from scipy.stats import ttest_ind_from_stats

    if not (np.ptp(first) or np.ptp(second)):
        return bool(first[0] != second[0])
    sides = [value for side in (first, second) for value in (side.mean(), side.std(ddof=1), len(side))]
    return bool(ttest_ind_from_stats(*sides, equal_var=False).pvalue <= level)
