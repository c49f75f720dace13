"""Trains classifiers with different shares of generated images, and compares them on folds of the real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.core.progress import Progress, silent
from balancegan.core.rows import first_of_each
from balancegan.verdict.arms import BASELINE, arm_named
from balancegan.verdict.augmentation import CROPS, FLIPS
from balancegan.verdict.classifiers import Job, Part, Result, Shelf, mixed_draw, train_jobs
from balancegan.verdict.copy_guard import CopyGuard
from balancegan.verdict.folds import folds
from balancegan.verdict.material import Labels, Material, Pool, SplitPlan, split_plans
from balancegan.verdict.networks import QUICK, Network
from balancegan.verdict.paired_gains import Compared, Floats, calibrated_losses, compared_gains
from balancegan.verdict.scores import counted_classes

CPU = torch.device("cpu")
LOOKED_AT = 64  # generated images of each class in the GAN-test

Shares = tuple[float, ...]  # of each class (K,)


@dataclass(frozen=True)
class Question:
    """What the search is about.

    `material` holds the real, generated and transformed images; its `test` is a split that the verdict leaves alone, or
    None for cross-validation. `real` and `fill` (K,) are the numbers of real and of synthetic images that each class
    of the folder has. `flips`: whether mirrored images keep their class. `most` (K,): generated images that each class
    can get, if fewer than it may want.
    """

    material: Material
    real: Sequence[int]
    fill: Sequence[int]
    device: torch.device
    flips: bool = False
    most: Sequence[float] | None = None
    network: Network = QUICK
    progress: Progress = silent

    @property
    def updates(self) -> int:
        """Updates of each classifier."""
        return self.network.budget(len(self.material.real), CPU)


@dataclass(frozen=True)
class _Fold:
    """What classifiers train and test on, and the generated images that do not copy what is tested on."""

    key: tuple[int, int]  # repeat and fold
    plan: SplitPlan
    usable: NDArray[np.intp]


@dataclass
class Runs:
    """Trains and compares. What was trained once is not trained again."""

    question: Question
    updates: int
    _folds: dict[int, list[_Fold]] = field(default_factory=dict)  # by repeat
    _results: dict[tuple[tuple[int, int], Shares], Result] = field(default_factory=dict)

    def compare(
        self, candidates: Sequence[Shares], groups: Sequence[tuple[int, ...]], repeats: range
    ) -> list[list[Compared]]:
        """Compare each candidate (shares by class, K) with share 0: by all classes first, then by each group of them.

        Each repeat has other folds and other initial weights.
        """
        losses = self.losses([self.zero, *candidates], repeats)
        return self.summaries(losses[:1] - losses[1:], groups)

    def _train(self, candidates: Sequence[Shares], repeats: range) -> None:
        q, material, pool, shelf = self.question, self.question.material, self._pool, self._shelf
        varied = material.variations
        looked = shelf.starts[1] + self._looked
        jobs = {}
        for fold, shares in product(self._all_folds(repeats), candidates):
            if (fold.key, shares) in self._results:
                continue
            train, test = fold.plan.train, fold.plan.test
            rows = (
                (pool, train),
                (material.fake, self._held(fold.usable, shares)),
                (varied.pool, varied.of(train)),
            )
            parts = [
                Part(start + mine, of.labels[mine], share)
                for start, (of, mine), share in zip(shelf.starts, rows, self._contents(shares), strict=False)
            ]
            jobs[fold.key, shares] = Job(
                arm_named(BASELINE),
                fold.key[0],
                SplitPlan(train, np.concatenate([test, looked]) if shares == self.zero else test),
                mixed_draw(parts, balanced=True),
                FLIPS if q.flips else CROPS,
                self.updates,
            )
        results = train_jobs([*jobs.values()], shelf, q.network, q.device, partial(q.progress, "search"))
        self._results.update(zip(jobs, results, strict=True))

    @property
    def zero(self) -> Shares:
        """No generated images."""
        return (0.0,) * len(self.question.fill)

    @cached_property
    def _pool(self) -> Pool:
        """All real images."""
        material = self.question.material
        return material.real if material.test is None else split_plans(material, 1)[0]

    @cached_property
    def _shelf(self) -> Shelf:
        """All images, once for every repeat."""
        q, material = self.question, self.question.material
        pools = [self._pool, material.fake, material.variations.pool]
        return Shelf.of(pools, len(q.fill), q.network.side, q.device)

    @cached_property
    def _guard(self) -> CopyGuard:
        return CopyGuard(self.question.material, self._pool, self.question.material.fake)

    def _all_folds(self, repeats: range) -> list[_Fold]:
        """The folds of the repeats; a val split is the only one of each."""
        material = self.question.material
        for repeat in repeats:
            if repeat not in self._folds:
                if material.test is not None:
                    plans = split_plans(material, 1)[1]
                else:
                    plans = folds(material.real.labels, material.groups, repeat)
                self._folds[repeat] = [
                    _Fold((repeat, k), plan, self._guard.allowed(plan)) for k, plan in enumerate(plans)
                ]
        return [fold for repeat in repeats for fold in self._folds[repeat]]

    def _held(self, usable: NDArray[np.intp], shares: Shares) -> NDArray[np.intp]:
        """The generated images that the folder would hold: as many of each class as it gets, if there are so many."""
        wanted = [max(1, round(share * n)) for share, n in zip(shares, self.question.fill, strict=True)]
        return usable[first_of_each(self.question.material.fake.labels[usable], wanted)]

    @property
    def _looked(self) -> NDArray[np.intp]:
        """Rows of the generated images of the GAN-test."""
        return first_of_each(self.question.material.fake.labels, [LOOKED_AT] * len(self.question.fill))

    def _contents(self, shares: Shares) -> list[Floats]:
        """How many images of each kind the folder holds: real, generated, transformed; (K,) each."""
        q = self.question
        fill = np.array(q.fill, np.float64)
        generated = np.minimum(np.array(shares) * fill, np.inf if q.most is None else q.most)
        return [np.array(q.real, np.float64), generated, fill - generated]

    def losses(self, candidates: Sequence[Shares], repeats: range) -> Floats:
        """Log losses (C, R, n) by candidate, repeat and real image; NaN where a repeat did not test the image."""
        self._train(candidates, repeats)
        pool, classes = self._pool, len(self.question.fill)
        losses = np.full((len(candidates), len(repeats), len(pool)), np.nan)
        for fold in self._all_folds(repeats):
            test = fold.plan.test
            for row, shares in zip(losses, candidates, strict=True):
                answers = self._results[fold.key, shares].probabilities[: len(test)].astype(np.float64)
                row[repeats.index(fold.key[0]), test] = calibrated_losses(answers, pool.labels[test], classes)
        return losses

    def summaries(self, gains: Floats, groups: Sequence[tuple[int, ...]]) -> list[list[Compared]]:
        """Summarise falls in log loss (C, R, n) for all classes, and for each group of them."""
        pool, classes = self._pool, len(self.question.fill)
        tested = ~np.isnan(gains[0]).all(axis=0)
        counted = counted_classes(np.bincount(pool.labels[tested], minlength=classes).tolist())
        within = self.question.material.groups
        if within is None or len(within) != len(pool):  # images of a val split are taken for independent
            within = np.arange(len(pool))
        scored = [[k for k in group if counted[k]] for group in (range(classes), *groups)]
        by_group = [compared_gains(gains, pool.labels, within, members) for members in scored]
        return [list(of) for of in zip(*by_group, strict=True)]

    def recognition(self) -> tuple[float, float]:
        """GAN-test of generated and of real images, by classifiers that were trained on other real images.

        How much more often images of a class are taken for it than images of the other classes are: the mean over the
        classes, between -1 and 1, and 0 if answers do not depend on the class. Of generated images, the classes to fill
        count; where that is a single one, real images stand in for those of other classes.
        """
        shown = self.question.material.fake.labels[self._looked]
        baseline = [
            (fold.plan.test, self._results[fold.key, self.zero].probabilities) for fold in self._all_folds(range(1))
        ]
        truth = np.concatenate([self._pool.labels[test] for test, _ in baseline])
        said = np.concatenate([answers[: len(test)].argmax(1) for test, answers in baseline])
        said_of_generated = np.mean([answers[len(test) :] for test, answers in baseline], axis=0).argmax(1)
        filled = np.unique(shown)
        real, made = (truth, said), (shown, said_of_generated)
        return _informed(made, made if len(filled) > 1 else real, filled), _informed(real, real, filled)


_Answers = tuple[Labels, NDArray[np.integer]]  # true classes, and what images are taken for


def _informed(own: _Answers, others: _Answers, classes: NDArray[np.integer]) -> float:
    """Mean over the classes: how often images of a class are taken for it, less how often others are."""
    (truth, said), (other_truth, other_said) = own, others
    found = [
        float((said[truth == k] == k).mean() - (other_said[other_truth != k] == k).mean())
        for k in classes
        if (truth == k).any() and (other_truth != k).any()
    ]
    return float(np.mean(found)) if found else 0.0
