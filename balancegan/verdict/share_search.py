"""Chooses which part of the synthetic images should be generated: the rest are transformed real images.

Small classifiers are trained as the balanced folder will be used, every class drawn equally often, with different
shares of generated images. They are compared with share 0 by the log loss on real images that did not train them: the
mean over classes, after one temperature is fitted to each classifier's answers (Guo et al. 2017,
https://arxiv.org/abs/1706.04599), since otherwise images with wrong labels would seem to help by making an
overconfident classifier doubt. A share above 0 must be better with 95% confidence (one-sided; Holm over the shares).

The images come from cross-validation on the training images, or from a val split that the verdict leaves alone; groups
stay whole. The generator has seen the training images, so near-copies of a fold's test images, mirrored ones too, are
left out of that fold's training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.core.progress import Progress, silent
from balancegan.core.rows import first_of_each, rows_by_class
from balancegan.metrics.multiple_tests import holm
from balancegan.verdict.arms import BASELINE, arm_named
from balancegan.verdict.augmentation import CROPS, FLIPS
from balancegan.verdict.classifiers import Job, Part, Result, Shelf, mixed_draw, train_jobs
from balancegan.verdict.folds import FOLDS, class_groups, folds
from balancegan.verdict.material import Labels, Material, Pool, SplitPlan, allowed_images, split_plans
from balancegan.verdict.networks import QUICK, Network
from balancegan.verdict.paired_gains import LEVEL, Compared, Floats, calibrated_losses, compared_gains
from balancegan.verdict.scores import MIN_TEST, counted_classes

SHARES = (0.25, 0.5, 0.75)
FIRST_SHARES = (0.25, 0.5)  # of the first look, which trains half as long
REPEATS = 2
CPU = torch.device("cpu")
LOOKED_AT = 64  # generated images of each class in the GAN-test


@dataclass(frozen=True)
class Question:
    """What the search is about.

    `material` holds the real, generated and transformed images; its `test` is a split that the verdict leaves alone, or
    None for cross-validation. `real` and `fill` (K,) are the numbers of real and of synthetic images that each class
    of the folder has. `flips`: whether mirrored images keep their class.
    """

    material: Material
    real: Sequence[int]
    fill: Sequence[int]
    device: torch.device
    flips: bool = False
    network: Network = QUICK
    progress: Progress = silent

    @property
    def updates(self) -> int:
        """Updates of each classifier."""
        return self.network.budget(len(self.material.real), CPU)


@dataclass(frozen=True)
class Row:
    """One share, compared for one group of classes (indices)."""

    share: float | None  # None: each group has its own
    group: tuple[int, ...]
    compared: Compared
    chosen: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the search found: each class's share (K,), and the table."""

    shares: tuple[float, ...]
    rows: tuple[Row, ...]
    recognised: float = 0.0  # GAN-test; see `_Runs.recognition`
    recognised_real: float = 0.0
    hopeless: str = ""  # why no more images need be made, if so


def why_not(question: Question) -> str | None:
    """Why nothing can be compared, or None: at least two classes, one of them to fill, need images to test on."""
    material, classes = question.material, len(question.fill)
    pool = material.real if material.test is None else material.test
    enough = np.bincount(pool.labels, minlength=classes) >= MIN_TEST
    if material.test is None:
        groups = np.arange(len(pool)) if material.groups is None else material.groups
        several = [len(np.unique(groups[mine])) >= FOLDS for mine in rows_by_class(pool.labels, classes)]
        enough &= np.array(several)
    if enough.sum() >= 2 and any(n and ok for n, ok in zip(question.fill, enough, strict=True)):
        return None
    return "there are too few real images to measure with"


def search_shares(question: Question) -> Outcome:
    """Compare shares, uniform first; then each group's best together, on other folds, if groups differ."""
    filled = [k for k, n in enumerate(question.fill) if n]
    size = len(question.fill)
    groups = class_groups(question.real, question.fill)
    runs = _Runs(question, question.updates)
    uniform = [tuple(share if k in filled else 0.0 for k in range(size)) for share in SHARES]
    every = tuple(filled)
    found = runs.compare(uniform, groups, seed=0)
    rows = [
        Row(share, group, compared)
        for share, of_groups in zip(SHARES, found, strict=True)
        for group, compared in zip([every, *groups], of_groups, strict=True)
    ]
    candidates = [(shares, of_groups[0]) for shares, of_groups in zip(uniform, found, strict=True)]
    own = _own_shares(groups, rows, size)
    if any(own) and own not in uniform:
        (again,) = runs.compare([own], [], seed=REPEATS)
        # The other folds hold the same images, and these chose among so many.
        tried = len(groups) * len(SHARES)
        compared = replace(again[0], p_value=min(1.0, tried * again[0].p_value))
        candidates.append((own, compared))
        rows.append(Row(None, every, compared))
    sure = holm([compared.p_value for _, compared in candidates], 1 - LEVEL)
    better = [(c.value, shares) for (shares, c), ok in zip(candidates, sure, strict=True) if ok]
    shares = max(better)[1] if better else (0.0,) * size
    rows = [replace(row, chosen=_is_chosen(row, shares, every)) for row in rows]
    return Outcome(shares, tuple(rows))


def first_look(question: Question) -> Outcome:
    """Decide from a few images whether making thousands can pay; `hopeless` says why not."""
    filled = tuple(k for k, n in enumerate(question.fill) if n)
    runs = _Runs(question, question.updates // 2, repeats=1)
    candidates = [tuple(s if k in filled else 0.0 for k in range(len(question.fill))) for s in FIRST_SHARES]
    found = runs.compare(candidates, class_groups(question.real, question.fill), seed=0)
    rows = tuple(Row(share, filled, of[0]) for share, of in zip(FIRST_SHARES, found, strict=True))
    recognised, real = runs.recognition()
    outcome = Outcome((0.0,) * len(question.fill), rows, recognised, real)
    return replace(outcome, hopeless=_hopeless(question.material, filled, outcome, found))


def _hopeless(material: Material, filled: Sequence[int], outcome: Outcome, found: list[list[Compared]]) -> str:
    made, real = outcome.recognised, outcome.recognised_real
    if real > 0 and made <= RECOGNISED * real:
        points = f"{100 * max(0, made):.0f} points above chance, against {100 * real:.0f} for real images"
        return f"classifiers trained on real images hardly recognise them ({points})"
    if all(compared.high < 0 for of_groups in found for compared in of_groups):
        return "classifiers that train with them recognise real images clearly less well"
    alike = [k for k in filled if (spread := _diversity(material, k)) is not None and spread < ALIKE]
    if filled and len(alike) == len(filled):
        return "the images of every class are almost the same"
    return ""


RECOGNISED = 0.15
"""Hopeless if generated images are recognised to no more than this part of what real images are."""
ALIKE = 0.1
"""Collapsed if generated images differ from each other by no more than this part of what real images do."""


def _diversity(material: Material, label: int) -> float | None:
    """Mean deviation of generated images from their mean, relative to that of real ones."""
    fake, real = (pool.images[pool.labels == label].astype(np.float32) for pool in (material.fake, material.real))
    if min(len(fake), len(real)) < 2:
        return None
    made, expected = (float(np.sqrt(((x - x.mean(axis=0)) ** 2).mean())) for x in (fake, real))
    return made / max(expected, 1e-9)


def _own_shares(groups: Sequence[tuple[int, ...]], rows: Sequence[Row], size: int) -> tuple[float, ...]:
    """Each group's best share, 0 where none was better."""
    shares = [0.0] * size
    for group in groups:
        best = max((row for row in rows if row.group == group), key=lambda row: row.compared.value)
        for k in group:
            shares[k] = (best.share or 0.0) if best.compared.value > 0 else 0.0
    return tuple(shares)


def _is_chosen(row: Row, shares: tuple[float, ...], every: tuple[int, ...]) -> bool:
    """Whether the choice follows this row."""
    mine = {shares[k] for k in row.group}
    if row.share is None:
        return len({shares[k] for k in every}) > 1
    return mine == {row.share} and (row.group != every or len({shares[k] for k in every}) == 1)


@dataclass
class _Runs:
    """Trains and compares; keeps the baseline's answers on generated images."""

    question: Question
    updates: int
    repeats: int = REPEATS
    _shown: list[NDArray[np.float32]] = field(default_factory=list)  # mean probabilities (n, K) of the generated images
    _real: list[tuple[Labels, NDArray[np.int64]]] = field(default_factory=list)  # true and predicted classes

    def compare(
        self, candidates: Sequence[tuple[float, ...]], groups: Sequence[tuple[int, ...]], seed: int
    ) -> list[list[Compared]]:
        """Compare each candidate (shares by class, K) with share 0: by all classes first, then by each group of them.

        `seed` is that of the first repeat: other repeats have other folds and other initial weights.
        """
        q, material = self.question, self.question.material
        zero = (0.0,) * len(q.fill)
        pool, plans = self._plans(seed)
        varied = material.variations
        shelf = Shelf.of([pool, material.fake, varied.pool], len(q.fill), q.network.side, q.device)
        looked = shelf.starts[1] + self._looked
        jobs = []
        for repeat, plan in plans:
            usable = allowed_images(material, pool, plan, material.fake)
            for shares in (zero, *candidates):
                rows = (
                    (pool, plan.train),
                    (material.fake, self._held(usable, shares)),
                    (varied.pool, varied.of(plan.train)),
                )
                test = np.concatenate([plan.test, looked]) if shares == zero else plan.test
                parts = [
                    Part(start + mine, of.labels[mine], share)
                    for start, (of, mine), share in zip(shelf.starts, rows, self._contents(shares), strict=False)
                ]
                job = Job(
                    arm_named(BASELINE),
                    repeat,
                    SplitPlan(plan.train, test),
                    mixed_draw(parts, balanced=True),
                    FLIPS if q.flips else CROPS,
                    self.updates,
                )
                jobs.append(job)
        results = train_jobs(jobs, shelf, q.network, q.device, partial(q.progress, "search"))
        step = 1 + len(candidates)
        return self._compared(pool, plans, [results[k::step] for k in range(step)], groups)

    def _held(self, usable: NDArray[np.intp], shares: tuple[float, ...]) -> NDArray[np.intp]:
        """The generated images that the folder would hold: as many of each class as it gets, if there are so many."""
        wanted = [max(1, round(share * n)) for share, n in zip(shares, self.question.fill, strict=True)]
        return usable[first_of_each(self.question.material.fake.labels[usable], wanted)]

    @property
    def _looked(self) -> NDArray[np.intp]:
        """Rows of the generated images of the GAN-test."""
        return first_of_each(self.question.material.fake.labels, [LOOKED_AT] * len(self.question.fill))

    def _contents(self, shares: tuple[float, ...]) -> list[Floats]:
        """How many images of each kind the folder holds: real, generated, transformed; (K,) each."""
        q = self.question
        fill, part = np.array(q.fill, np.float64), np.array(shares)
        return [np.array(q.real, np.float64), part * fill, (1 - part) * fill]

    def _plans(self, seed: int) -> tuple[Pool, list[tuple[int, SplitPlan]]]:
        """The real images in one pool, and what each run trains and tests on; runs with equal seeds share a repeat."""
        material, repeats = self.question.material, range(seed, seed + self.repeats)
        real = material.real
        if material.test is not None:
            pool, plans = split_plans(material, self.repeats)
            return pool, list(zip(repeats, plans, strict=True))
        return real, [(repeat, plan) for repeat in repeats for plan in folds(real.labels, material.groups, repeat)]

    def _compared(
        self,
        pool: Pool,
        plans: Sequence[tuple[int, SplitPlan]],
        results: Sequence[Sequence[Result]],
        groups: Sequence[tuple[int, ...]],
    ) -> list[list[Compared]]:
        classes, repeats = len(self.question.fill), sorted({repeat for repeat, _ in plans})
        losses = np.full((len(results), len(repeats), len(pool)), np.nan)
        for i, (repeat, plan) in enumerate(plans):
            truth = pool.labels[plan.test]
            for c, of_candidate in enumerate(results):
                answers = of_candidate[i].probabilities.astype(np.float64)
                losses[c, repeats.index(repeat), plan.test] = calibrated_losses(answers[: len(truth)], truth, classes)
            baseline = results[0][i].probabilities
            self._shown.append(baseline[len(truth) :])
            self._real.append((truth, baseline[: len(truth)].argmax(1)))
        tested = ~np.isnan(losses[0]).all(axis=0)
        counted = counted_classes(np.bincount(pool.labels[tested], minlength=classes).tolist())
        within = self.question.material.groups
        if within is None or len(within) != len(pool):  # images of a val split are taken for independent
            within = np.arange(len(pool))
        gains = losses[:1] - losses[1:]  # (C, R, n)
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
        truth, said = (np.concatenate([pair[i] for pair in self._real]) for i in (0, 1))
        filled = np.unique(shown)
        answers = np.mean(self._shown, axis=0).argmax(1)
        real, made = (truth, said), (shown, answers)
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
