"""Chooses which part of the synthetic images should be generated: the rest are transformed real images.

Small classifiers are trained as the balanced folder will be used, every class drawn equally often, with different
shares of generated images. They are compared with share 0 by the log loss on real images that did not train them: the
mean over classes, after one temperature is fitted to each classifier's answers (Guo et al. 2017,
https://arxiv.org/abs/1706.04599), since otherwise images with wrong labels would seem to help by making an
overconfident classifier doubt. A share above 0 must be better with 95% confidence (one-sided; Holm over the shares).
After each repeat of the trainings, only the leading shares go on, until one is sure or none is likely to help.

The images come from cross-validation on the training images, or from a val split that the verdict leaves alone; groups
stay whole. The generator has seen the training images, so what copies a fold's test images is left out of that fold's
training (`copy_guard.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from balancegan.core.rows import rows_by_class
from balancegan.metrics.multiple_tests import holm
from balancegan.verdict.folds import FOLDS, class_groups
from balancegan.verdict.material import Material
from balancegan.verdict.paired_gains import LEVEL, Compared
from balancegan.verdict.scores import MIN_TEST
from balancegan.verdict.share_runs import Question, Runs, Shares

SHARES = (0.25, 0.5, 0.75)
FIRST_SHARES = (0.25, 0.5)  # of the first look, which trains half as long
FEWEST, REPEATS = 3, 5  # repeats that show how much trainings differ, and most of them
UNLIKELY = 0.3  # a share with a p-value above this is not trained again
SURE = 0.001  # nor is any, after `FEWEST` repeats, if the p-value of one is below this


@dataclass(frozen=True)
class Row:
    """One share, compared for one group of classes (indices)."""

    share: float | None  # None: each group has its own
    group: tuple[int, ...]
    compared: Compared
    repeats: int  # bounds of fewer than `FEWEST` are too narrow: they do not know how much trainings differ
    chosen: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the search found: each class's share (K,), and the table."""

    shares: Shares
    rows: tuple[Row, ...]
    alternative: Compared | None = None  # what the alternative images gain over the question's own
    recognised: float = 0.0  # GAN-test; see `Runs.recognition`
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


def search_shares(question: Question, alternative: Callable[[], Question] | None = None) -> Outcome:
    """Compare shares, uniform first; then each group's best together, on other folds, if groups differ.

    After each repeat, only shares that lead, for all classes or a group of them, are trained again.

    `alternative` asks with other generated images. If a share above 0 is chosen, they are compared with the question's,
    with that share, on folds that are new to both.
    """
    size = len(question.fill)
    every = tuple(k for k, n in enumerate(question.fill) if n)
    groups = class_groups(question.real, question.fill)
    runs = Runs(question, question.updates)
    uniform = {share: tuple(share if k in every else 0.0 for k in range(size)) for share in SHARES}
    found: dict[float, list[Compared]] = {}
    trained: dict[float, int] = {}  # how often
    tried: Sequence[float] = SHARES
    for repeats in range(1, REPEATS + 1):
        again = runs.compare([uniform[share] for share in tried], groups, range(repeats))
        found.update(zip(tried, again, strict=True))
        trained |= dict.fromkeys(tried, repeats)
        if repeats == REPEATS or (repeats >= FEWEST and min(found[share][0].p_value for share in tried) < SURE):
            break
        tried = _leading(found, tried)
        if not tried:
            break
    rows = [
        Row(share, group, compared, trained[share])
        for share, of_groups in found.items()
        for group, compared in zip([every, *groups], of_groups, strict=True)
    ]
    # A share that was dropped is not chosen.
    candidates = [
        (uniform[share], of[0] if share in tried else replace(of[0], p_value=1.0)) for share, of in found.items()
    ]
    own = _own_shares(groups, rows, size)
    if any(own) and own not in uniform.values():
        ((compared,),) = runs.compare([own], [], range(REPEATS, REPEATS + FEWEST))
        # The other folds hold the same images, and these chose among so many.
        compared = replace(compared, p_value=min(1.0, len(groups) * len(SHARES) * compared.p_value))
        candidates.append((own, compared))
        rows.append(Row(None, every, compared, FEWEST))
    sure = holm([compared.p_value for _, compared in candidates], 1 - LEVEL)
    better = [(c.value, shares) for (shares, c), ok in zip(candidates, sure, strict=True) if ok]
    shares = max(better)[1] if better else (0.0,) * size
    rows = [replace(row, chosen=_is_chosen(row, shares, every)) for row in rows]
    if alternative is None or not better:
        return Outcome(shares, tuple(rows))
    others = Runs(alternative(), question.updates)
    # Not on the repeats that led to this share: by chance, it did too well there.
    before, after = (of.losses([shares], range(2 * REPEATS, 3 * REPEATS)) for of in (runs, others))
    return Outcome(shares, tuple(rows), runs.summaries(before - after, [])[0][0])


def _leading(found: Mapping[float, Sequence[Compared]], shares: Sequence[float]) -> list[float]:
    """Of these shares, the best for all classes, and the best for each group, unless they are unlikely to help."""
    groups = range(len(next(iter(found.values()))))
    best = [(max(shares, key=lambda share: found[share][k].value), k) for k in groups]
    likely = {share for share, k in best if found[share][k].p_value <= UNLIKELY}
    return [share for share in shares if share in likely]


def first_look(question: Question) -> Outcome:
    """Decide from a few images whether making thousands can pay; `hopeless` says why not."""
    filled = tuple(k for k, n in enumerate(question.fill) if n)
    runs = Runs(question, question.updates // 2)
    candidates = [tuple(s if k in filled else 0.0 for k in range(len(question.fill))) for s in FIRST_SHARES]
    found = runs.compare(candidates, class_groups(question.real, question.fill), range(1))
    rows = tuple(Row(share, filled, of[0], 1) for share, of in zip(FIRST_SHARES, found, strict=True))
    recognised, real = runs.recognition()
    outcome = Outcome((0.0,) * len(question.fill), rows, recognised=recognised, recognised_real=real)
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


def _own_shares(groups: Sequence[tuple[int, ...]], rows: Sequence[Row], size: int) -> Shares:
    """Each group's best share; 0 where none was better, and for all if none of them was surely better."""
    shares = [0.0] * size
    if any(row.group in groups and row.repeats >= FEWEST and row.compared.low > 0 for row in rows):
        for group in groups:
            best = max((row for row in rows if row.group == group), key=lambda row: row.compared.value)
            for k in group:
                shares[k] = (best.share or 0.0) if best.compared.value > 0 else 0.0
    return tuple(shares)


def _is_chosen(row: Row, shares: Shares, every: tuple[int, ...]) -> bool:
    """Whether the choice follows this row."""
    mine = {shares[k] for k in row.group}
    if row.share is None:
        return len({shares[k] for k in every}) > 1
    return mine == {row.share} and (row.group != every or len({shares[k] for k in every}) == 1)
