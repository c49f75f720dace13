"""Confidence intervals and p-values for scores on few test images by few training runs.

An interval is the estimate plus or minus t standard errors, cut off at what is possible. The variance is the sum of
two parts:

- Test images. Each score is approximated by a sum over the test images, so that its variance follows from how much the
  images of each class differ. A few images that show no difference do not prove that there is none, so we add
  `IMAGINARY` images on which the arms differ (for one arm, on which it is wrong where it is otherwise right). The
  classes share them by the square of the variance that a class's size gives it, so that most go to the smallest ones,
  and the intervals of many classes stay narrow. The idea of imaginary observations is that of Bonett & Price,
  "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data" (2012),
  https://doi.org/10.3102/1076998611411915.
- Training runs. The variance between seeds beyond what their different answers on single images explain: of both arms
  together where all seeds test the same images, otherwise of the difference. Few seeds often seem to agree by chance,
  so it is at least `LEAST_BETWEEN` / S times the variance of a single image. It has the degrees of freedom of both
  arms, in the second case because intervals with half as many held the truth in more than 99 of 100 simulations.

The degrees of freedom combine those of both parts (Satterthwaite). `benchmarks/interval_coverage.py` measures how often
the intervals hold the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json

LEVEL = 0.95

IMAGINARY = 1.3
"""Imaginary test images on which the arms differ, shared among the classes. Chosen by simulation: with one, a class of
seven images that got worse went unnoticed too often; more widens all intervals."""

LEAST_BETWEEN = 0.02
"""Lower bound of the variance between single seeds' scores, times S, as a part of an image's variance. Small networks
trained on cells and Fashion-MNIST with 12 to 800 images per class had 0.00 to 0.02 in most classes."""

SMALLEST_P = 1e-6
"""Smaller p-values are not told apart: nobody has checked the approximation that far out."""

SETTLED = 0.02


@dataclass(frozen=True)
class Measured:
    """A score of one arm, or the difference between two arms, with what its precision follows from.

    Subtract one arm's score from another's to get the paired difference.
    """

    values: NDArray[np.float64]  # (S,) of each seed's classifier; NaN where that seed does not test it
    parts: NDArray[np.float64]  # (S, n) what each image adds to the deviation from the expected score; 0 if not tested
    weights: NDArray[np.float64]  # (S, n) change in the seed's score when its answer on an image changes; 0 likewise
    classes: NDArray[np.integer]  # (n,) true classes of these images
    between: float  # variance between the seeds, summed over the arms; 0 for a single seed
    by_images: float  # the part of it that answers on single images explain
    freedom: int  # degrees of freedom of `between`
    lowest: float = 0.0  # that is possible

    def __sub__(self, other: Measured) -> Measured:
        found = measured(self.values - other.values, self.parts - other.parts, self.weights, self.classes)
        found = replace(found, freedom=self.freedom + other.freedom, lowest=-1.0)
        if not self.crossed:  # which images a seed tests moves both arms alike, so that their own variances say little
            return found
        return replace(found, between=self.between + other.between, by_images=self.by_images + other.by_images)

    @property
    def there(self) -> NDArray[np.bool_]:
        """Mask (S,) of the seeds that have the score."""
        return np.isfinite(self.values)

    @property
    def crossed(self) -> bool:
        """Whether all seeds test the same images."""
        tested = self.weights[self.there] > 0
        return bool((tested == tested[:1]).all())

    @property
    def value(self) -> float | None:
        """The estimate: the mean over the seeds that have one."""
        return float(self.values[self.there].mean()) if self.there.any() else None


def measured(
    values: NDArray[np.float64],
    parts: NDArray[np.float64],
    weights: NDArray[np.float64],
    classes: NDArray[np.integer],
) -> Measured:
    """One arm's score; the shapes are those of `Measured`."""
    there = np.isfinite(values)
    seeds = int(there.sum())
    if seeds < 2:
        return Measured(values, parts, weights, classes, 0.0, 0.0, 0)
    apart = parts[there] - parts[there].mean(axis=0)
    by_images = float((apart**2).sum()) / (seeds - 1)
    return Measured(values, parts, weights, classes, float(values[there].var(ddof=1)), by_images, seeds - 1)


@dataclass(frozen=True)
class _Precision:
    """The variance of a `Measured` value by source, as a function of the numbers of test images."""

    classes: NDArray[np.integer]  # (K,)
    sizes: NDArray[np.float64]  # (K,) test images
    freedom: NDArray[np.float64]  # (K,) degrees of freedom
    single: NDArray[np.float64]  # (K,) variance of the value if a class had a single test image
    between: float  # variance that the seeds add to the mean
    estimated: float  # the same before the lower bound
    by_images: float  # what the seeds' different answers on single images seem to add, a part of the images' variance
    seeds_freedom: int  # 0 for a single seed

    def error(self, sizes: NDArray[np.float64]) -> tuple[float, float]:
        """Standard error and degrees of freedom if there were `sizes` (K,) test images."""
        by_class = self.single / sizes
        images, now = float(by_class.sum()), float((self.single / self.sizes).sum())
        doubt = float((by_class**2 / (self.freedom + sizes - self.sizes)).sum())  # as in Satterthwaite's formula
        if self.seeds_freedom:
            doubt += (self.estimated + self.by_images * images / now) ** 2 / self.seeds_freedom
        variance = images + self.between
        return variance**0.5, max(1.0, variance**2 / doubt)

    def margin(self, sizes: NDArray[np.float64], level: float) -> float:
        """Half the width of the interval."""
        from scipy.stats import t

        error, freedom = self.error(sizes)
        return float(t.ppf((1 + level) / 2, freedom)) * error


def _precision(found: Measured) -> _Precision:
    there, seeds = found.there, int(found.there.sum())
    classes, of_image, sizes = np.unique(found.classes, return_inverse=True, return_counts=True)
    sizes = sizes.astype(np.float64)
    weight = np.bincount(of_image, found.weights[there].mean(axis=0)) / sizes
    counts = (weight**2 * sizes) ** 2
    imaginary = IMAGINARY * counts / counts.sum()  # (K,)
    squares = np.bincount(of_image, found.parts[there].mean(axis=0) ** 2) * (sizes - 1) / sizes
    together = sizes + imaginary
    freedom = np.maximum(together - 1, 1e-9)
    by_class = (squares + imaginary * weight**2) * sizes**2 / (together * freedom)
    single = by_class * sizes
    by_images = min(found.between, found.by_images)
    estimated = found.between - by_images
    return _Precision(
        classes,
        sizes,
        freedom,
        single,
        max(estimated, LEAST_BETWEEN / seeds * float(single.sum())) / seeds,
        estimated / seeds,
        by_images / seeds,
        found.freedom,
    )


def interval(found: Measured, level: float = LEVEL) -> Json:
    """`{value, low, high}`: shares lie in [0, 1], differences in [-1, 1]; all None without an estimate."""
    value = found.value
    if value is None:
        return {"value": None, "low": None, "high": None}
    precision = _precision(found)
    margin = precision.margin(precision.sizes, level)
    return {"value": value, "low": max(found.lowest, value - margin), "high": min(1.0, value + margin)}


def p_value(difference: Measured, sign: int) -> float:
    """One-sided p-value of the claim that a difference is above zero (`sign` 1) or below it (-1).

    It is below (1 - level) / 2 where the interval of that level excludes zero on that side. 1 without an estimate.
    """
    from scipy.stats import t

    if difference.value is None:
        return 1.0
    precision = _precision(difference)
    error, freedom = precision.error(precision.sizes)
    return max(SMALLEST_P, float(t.sf(sign * difference.value / error, freedom)))


def images_to_settle(difference: Measured, size: float = SETTLED, level: float = LEVEL) -> dict[int, int] | None:
    """How many more test images of which class it takes for an interval of at most `size` on either side.

    Then an estimate of that size would differ from zero. The images go where they narrow the interval most: the fewest
    in total, in proportion to the standard deviations of the paired differences (Neyman's allocation). It assumes that
    new images vary like those of their class, and the seeds as they do now. This is rough: of repeated test sets of
    100 images, four in five gave a number between half and three times the median, and one in eight gave None.

    Returns:
        Numbers by class index, without zeros; empty if nothing is missing. None without an estimate, and where no
        number of images suffices because the training runs differ too much: only more seeds would help. With one seed
        that is assumed rather than seen (`LEAST_BETWEEN`), and the usual answer for few classes.
    """
    if difference.value is None:
        return None
    now = _precision(difference)

    def sizes(scale: float) -> NDArray[np.float64]:
        return np.maximum(now.sizes, np.ceil(scale * np.sqrt(now.single)))

    low, high = 0.0, 1e9 / float(np.sqrt(now.single).max())
    if now.margin(sizes(high), level) > size:
        return None
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if now.margin(sizes(middle), level) <= size else (middle, high)
    more = (sizes(high) - now.sizes).astype(int)
    return {int(k): int(n) for k, n in zip(now.classes, more, strict=True) if n}
