"""Measures which part of the synthetic images should be generated, and whether the quality filter helps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from balancegan.core.documents import Json
from balancegan.core.progress import Progress
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes
from balancegan.folder.recipe import LOOK, Recipe, class_keeping_changes, searched
from balancegan.metrics.features import Images
from balancegan.verdict.material import REPORT_IMAGES, Material, Pool, pool, transformed_pool
from balancegan.verdict.share_runs import Question
from balancegan.verdict.share_search import FEWEST, LEVEL, Outcome, first_look, search_shares, why_not

Drawn = Callable[[int, int], Images]
"""From a class and a number n to its first n generated images that pass the filter, uint8 (m, C, S, S) with m ≤ n."""


def measured_recipe(
    data: TrainingSet,
    fill: Sequence[int],
    drawn: Drawn,
    device: torch.device,
    progress: Progress,
    *,
    filtered: Drawn | None = None,
) -> Recipe:
    """Choose the shares on real images that are not behind the verdict.

    Args:
        data: the run's training set.
        fill: synthetic images that each class gets (K,).
        drawn: generated images; few are drawn unless the first look says that more could help.
        filtered: those that pass the quality filter too; drawn if the others help.
        device: where the classifiers are trained.
        progress: called during every step.
    """
    changes = class_keeping_changes(data)
    rows = data.spare_rows
    material = Material(
        names=data.class_names,
        real=Pool(data.store.images[data.train_rows], data.labels[data.train_rows]),
        fake=Pool(data.store.images[:0], data.labels[:0]),
        test=Pool(data.store.images[rows], data.labels[rows]) if len(rows) else None,
        kind="val" if len(rows) else "folds",
        delivered=(),
        may_have_seen=not len(rows),
        groups=data.groups[data.train_rows],
    )
    return search_recipe(
        material,
        list(data.split_counts().values()),
        fill,
        changes,
        drawn,
        device=device,
        progress=progress,
        filtered=filtered,
    )


def search_recipe(
    material: Material,
    real: Sequence[int],
    fill: Sequence[int],
    changes: Changes,
    drawn: Drawn,
    *,
    device: torch.device,
    progress: Progress,
    filtered: Drawn | None = None,
) -> Recipe:
    """Look at a few generated images first, then at more, and choose the shares.

    Args:
        material: the real images; see `Question`.
        real, fill: real and synthetic images that each class of the folder has (K,).
        changes: those that keep the class.
        drawn: generated images.
        device: where the classifiers are trained.
        progress: called during every step.
        filtered: generated images that pass the quality filter too.
    """
    nothing = Recipe((0.0,) * len(fill), changes)
    if not any(fill):
        return replace(nothing, why="Every class already has as many images as it should.")
    varied = transformed_pool(material.real, [min(n, REPORT_IMAGES) for n in fill], changes, seed=0)
    material = replace(material, transformed=varied)

    def question(n: int, source: Drawn = drawn) -> Question:
        asked = [max(LOOK, min(n, needed)) if needed else 0 for needed in fill]
        images = [source(label, m) if m else material.real.images[:0] for label, m in enumerate(asked)]
        most = [len(found) if len(found) < m else math.inf for found, m in zip(images, asked, strict=True)]
        shown = replace(material, fake=pool(images, material.real.images))
        return Question(shown, real, fill, device, flips=changes.flips, most=most, progress=progress)

    def impossible() -> str | None:
        return why_not(Question(material, real, fill, device))

    if material.test is not None and impossible():  # a val split with too few images
        material = replace(material, test=None, may_have_seen=True)
    if reason := impossible():
        return replace(nothing, why=f"No generated image was used: {reason}.", hopeless=True)
    look = question(LOOK)
    how = (
        "the val split, on which no network was trained"
        if material.test is not None
        else "training images that the classifiers had not seen (cross-validation; near-copies of them were left out)"
    )
    if not len(look.material.fake):
        return replace(nothing, why="The generator made no image that could be used.", hopeless=True)
    outcome = first_look(look)
    if outcome.hopeless:
        why = f"No generated image was used: in a first look at {LOOK} images of each class, {outcome.hopeless}."
        return Recipe(outcome.shares, changes, why, how, tuple(_rows(outcome, material.names)), hopeless=True)
    n = searched(fill)
    outcome = search_shares(question(n), partial(question, n, filtered) if filtered else None)
    rows, gain = tuple(_rows(outcome, material.names)), outcome.alternative
    recipe = Recipe(outcome.shares, changes, _why(outcome, fill), how, rows)
    if gain is None or gain.low <= 0:
        return recipe
    return replace(recipe, why=f"{recipe.why} {_BETTER}", filter="quality")


_BETTER = f"Images that also pass the quality filter help more ({LEVEL:.0%} confidence), so that filter is used."


def _rows(outcome: Outcome, names: Sequence[str]) -> list[Json]:
    """The table in the document: one row per share and group of classes."""
    return [
        {
            "share": row.share,
            "group": [names[k] for k in row.group],
            "score": row.compared.value,
            # Bounds of fewer repeats do not know how much trainings differ.
            "score_low": row.compared.low if row.repeats >= FEWEST else None,
            "score_high": row.compared.high if row.repeats >= FEWEST else None,
            "repeats": row.repeats,
            "chosen": row.chosen,
        }
        for row in outcome.rows
    ]


def _why(outcome: Outcome, fill: Sequence[int]) -> str:
    used = {share for share, n in zip(outcome.shares, fill, strict=True) if n}
    if not any(used):
        return (
            "No generated image was used: no share of them was better than transformed real images alone "
            f"({LEVEL:.0%} confidence)."
        )
    if len(used) == 1:
        return (
            f"{max(used):.0%} of the synthetic images are to be generated: better than none ({LEVEL:.0%} confidence)."
        )
    return (
        f"Between {min(used):.0%} and {max(used):.0%} of the synthetic images are generated, depending on the class: "
        f"better than none ({LEVEL:.0%} confidence)."
    )
