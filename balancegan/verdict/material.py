"""The images that the verdict's classifiers are trained and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.core.rows import rows_by_class
from balancegan.data.training_set import TrainingSet
from balancegan.metrics.features import Images

REPORT_IMAGES = 2000  # per class and set; more do not change the measures and cost memory


def pool(images: Sequence[Images], empty: Images) -> Pool:
    """Images by class, in the order of the classes, as one pool; `empty` gives the shape where there is none."""
    labels = np.repeat(np.arange(len(images)), [len(of_class) for of_class in images])
    return Pool(np.concatenate([empty[:0], *images]), labels.astype(np.int64))


def run_material(data: TrainingSet, classes: Sequence[ClassImages]) -> Material:
    """What the classifiers get of a run: the images that the generator saw, those that it did not, and what it made."""
    images, seen, unseen = data.store.images, data.train_rows, data.unseen_rows
    kind = str(data.store.splits[unseen[0]]) if len(data.other_rows) else "holdout"
    train = set(data.store.pixel_digests(seen))
    fresh = np.array([digest not in train for digest in data.store.pixel_digests(unseen)], bool)
    filtered = any(c.unfiltered is not None for c in classes)
    others = [c.fake if c.unfiltered is None else c.unfiltered for c in classes]
    return Material(
        names=data.class_names,
        real=Pool(images[seen], data.labels[seen]),
        fake=pool([c.fake for c in classes], images),
        test=Pool(images[unseen[fresh]], data.labels[unseen[fresh]]),
        kind=kind,
        delivered=[c.synthetic for c in classes],
        unfiltered=pool(others, images) if filtered else None,
        delivered_unfiltered=[_without_filter(c) for c in classes] if filtered else (),
        leaks=int((~fresh).sum()),
    )


def _without_filter(images: ClassImages) -> int:
    """How many synthetic images the class would have got without the quality filter."""
    if images.unfiltered is None:
        return images.synthetic
    complete = len(images.unfiltered) >= min(images.requested, REPORT_IMAGES)
    return images.requested if complete else len(images.unfiltered)


Labels = NDArray[np.int64]
TEST_SHARE = 0.3  # of the real images, where they are split here


@dataclass(frozen=True)
class Pool:
    """Images (n, C, S, S) and their classes (n,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Material:
    """What there is to train and to test on.

    `test` None: `real` is split anew for every seed. `delivered` (K,): how many synthetic images each class really
    got, `delivered_unfiltered` (K,) how many it would have got of `unfiltered`; the pools may hold fewer or more, and
    stand for them when real and synthetic images are mixed.
    `kind`: where the test images come from (test, val, holdout, splits). `may_have_seen`: whether the generator may
    have been trained on them; then synthetic near-copies of test images are kept from the classifiers.
    """

    names: Sequence[str]
    real: Pool
    fake: Pool
    test: Pool | None
    kind: str
    delivered: Sequence[int]
    unfiltered: Pool | None = None
    delivered_unfiltered: Sequence[int] = ()
    may_have_seen: bool = False
    leaks: int = 0  # test images that were left out because they are among the training images


def not_measured(note: str) -> Json:
    """The document where nothing could be or should be measured."""
    return {"measured": False, "verdict": None, "note": note, "arms": [], "warnings": []}


def why_not(material: Material) -> str | None:
    """Why there can be no verdict, or None."""
    counts = np.bincount(material.real.labels, minlength=len(material.names))
    if not len(material.fake):
        return "There are no synthetic images to judge."
    if (counts > 0).sum() < 2:
        return "A classifier needs two classes with real images."
    if material.test is not None and len(np.unique(material.test.labels)) < 2:
        return (
            "Whether the images help was not measured: there are no real images of two classes that the generator has "
            "not seen. Train with --holdout, or give the data a test split."
        )
    if material.test is None and (counts >= 2).sum() < 2:
        return "Whether the images help was not measured: too few real images to set some aside for testing."
    return None


@dataclass(frozen=True)
class TestPlan:
    """Rows of the pool of real images that one seed trains on and tests on."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def test_plans(material: Material, seeds: int) -> tuple[Pool, list[TestPlan]]:
    """All real images in one pool, and what each seed does with them."""
    real, test = material.real, material.test
    if test is None:
        return real, [TestPlan(*stratified_split(real.labels, TEST_SHARE, seed)) for seed in range(seeds)]
    pool = Pool(np.concatenate([real.images, test.images]), np.concatenate([real.labels, test.labels]))
    rows = np.arange(len(pool))
    return pool, [TestPlan(rows[: len(real)], rows[len(real) :])] * seeds


def stratified_split(labels: Labels, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that stay, and `share` of every class that is set aside: one at least, but for a class of one image."""
    rng = np.random.default_rng(seed)
    aside = np.zeros(len(labels), bool)
    for rows in _groups(labels):
        mine = rng.permutation(rows)
        aside[mine[: max(int(len(mine) > 1), round(share * len(mine)))]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def at_most(rows: NDArray[np.intp], labels: Labels, limit: int) -> NDArray[np.intp]:
    """The first `limit` rows of each class."""
    return np.concatenate([rows[:0], *(rows[mine[:limit]] for mine in _groups(labels[rows]))])


def _groups(labels: Labels) -> list[NDArray[np.intp]]:
    """The rows of each class that is there."""
    return [rows for rows in rows_by_class(labels, int(labels.max(initial=-1)) + 1) if len(rows)]


@dataclass(frozen=True)
class ClassImages:
    """One class as the report sees it. Image arrays are uint8 (n, C, H, W) at the model's size.

    `real_holdout` are images that the GAN never saw (may be empty); `real` and `synthetic` count the images in the
    balanced folder's training part, `requested` is how many synthetic ones were asked for, `rejected` how many
    samples were dropped on the way, and `refused` how many of those by the quality filter. `unfiltered`: what would
    have been delivered without that filter. `reference`: real images to compare with instead of the held-out or
    training ones, where those would not do.
    """

    name: str
    real_train: Images
    real_holdout: Images
    fake: Images
    real: int
    synthetic: int
    rejected: int = 0
    requested: int = 0
    refused: int = 0
    unfiltered: Images | None = None
    reference: Images | None = None
