"""How much better classifiers predict with something than without it, on the same images, with bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.verdict.material import Labels

LEVEL = 0.95  # of each bound
_LEAST = 1e-6  # smallest probability in a log loss

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """How much better than share 0: the fall in log loss, in nats, with one-sided bounds."""

    value: float
    low: float
    high: float
    p_value: float


def calibrated_losses(probabilities: Floats, truth: Labels, num_classes: int) -> Floats:
    """Log losses (n,) of answers (n, K) at the temperature that makes their mean over the classes least."""
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(probabilities, 1e-12))
    sizes = np.bincount(truth, minlength=num_classes)
    weights = 1 / sizes[truth]

    def losses(log_temperature: float) -> Floats:
        scaled = logits * np.exp(-log_temperature)
        return np.asarray(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(truth)), truth])

    best = minimize_scalar(lambda t: float((weights * losses(t)).sum()), bounds=(-2.0, 3.0), method="bounded")
    return np.minimum(losses(best.x), -np.log(_LEAST))


def compared_gains(gains: Floats, labels: Labels, groups: Labels, members: Sequence[int]) -> list[Compared]:
    """Summarise what each candidate gains: the mean over classes, with bounds.

    The variance has two parts: of images, where the images of a group count as one, and of training runs, which all
    candidates estimate together.

    Args:
        gains: (C, R, n) falls in log loss by candidate, repeat and image; NaN where a repeat did not test the image.
        labels: (n,) classes of the images.
        groups: (n,) their groups.
        members: classes that count.
    """
    from scipy.stats import t

    candidates, repeats, _ = gains.shape
    tested = ~np.isnan(gains[0])  # (R, n)
    members = [k for k in members if (tested & (labels == k)).any(axis=1).all()]  # in every repeat
    by_repeat = np.zeros((candidates, repeats))
    value, of_images, doubt = np.zeros(candidates), np.zeros(candidates), np.zeros(candidates)
    for k in members:
        mine = np.flatnonzero((labels == k) & tested.any(axis=0))
        found = gains[:, :, mine]
        by_repeat += np.nanmean(found, axis=2) / len(members)
        each = np.nanmean(found, axis=1)  # (C, n)
        value += each.mean(axis=1) / len(members)
        _, group = np.unique(groups[mine], return_inverse=True)
        number = int(group.max()) + 1
        centred = each - each.mean(axis=1, keepdims=True)
        sums = np.stack([np.bincount(group, row, minlength=number) for row in centred])
        variance = (sums**2).sum(axis=1) / len(mine) ** 2 * number / max(number - 1, 1) / len(members) ** 2
        of_images += variance
        doubt += variance**2 / max(number - 1, 1)
    of_runs = float(by_repeat.var(axis=1, ddof=1).mean()) / repeats if repeats > 1 else 0.0
    doubt += of_runs**2 / max(min(candidates, 2) * (repeats - 1), 1)  # candidates share what they are compared with
    total = of_images + of_runs
    error, freedom = np.sqrt(total), np.maximum(total**2 / np.maximum(doubt, 1e-300), 1.0)
    margin = t.ppf(LEVEL, freedom) * error
    p_values = t.sf(value / np.maximum(error, 1e-12), freedom)
    return [Compared(*map(float, row)) for row in zip(value, value - margin, value + margin, p_values, strict=True)]
