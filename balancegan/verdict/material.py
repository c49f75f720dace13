"""The images that the verdict's classifiers are trained and tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.data.groups import of_one_group
from balancegan.data.holdout import choose_holdout
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes, variations
from balancegan.metrics.features import Images

REPORT_IMAGES = 2000  # per class and set; more would cost memory and hardly change the measures


def pool(images: Sequence[Images], empty: Images) -> Pool:
    """Join lists of images, one per class in class order, into a pool; `empty` gives the shape if all are empty."""
    labels = np.repeat(np.arange(len(images)), [len(of_class) for of_class in images])
    return Pool(np.concatenate([empty[:0], *images]), labels.astype(np.int64))


def run_material(
    data: TrainingSet,
    classes: Sequence[ClassImages],
    resampling: Resampling | None = None,
    transformed: Varied | None = None,
) -> Material:
    """The classifiers' material from a run: images the generator saw, images it did not see, and its own images.

    `transformed`: variations of the images that the generator saw, with the rows of `data.train_rows` they come from.
    """
    images, seen, tested = data.store.images, data.train_rows, data.independent_rows
    kind = str(data.store.splits[data.other_rows[0]]) if len(data.other_rows) else "holdout"
    filtered = any(c.unfiltered is not None for c in classes)
    others = [c.fake if c.unfiltered is None else c.unfiltered for c in classes]
    return Material(
        names=data.class_names,
        real=Pool(images[seen], data.labels[seen]),
        fake=pool([c.fake for c in classes], images),
        test=Pool(images[tested], data.labels[tested]),
        kind=kind,
        delivered=[c.generated for c in classes],
        unfiltered=pool(others, images) if filtered else None,
        delivered_unfiltered=[_without_filter(c) for c in classes] if filtered else (),
        leaks=len(data.unseen_rows) - len(tested),
        groups=data.groups[seen],
        resampling=resampling,
        transformed=transformed,
        varied=[c.transformed for c in classes] if transformed else (),
    )


def folder_material(
    names: Sequence[str],
    real: Pool,
    fake: Pool,
    test: Pool,
    groups: Labels | None,
    groups_test: Labels | None,
    *,
    kind: str,
    delivered: Sequence[int],
) -> Material:
    """The classifiers' material from two folders; without test images, the real ones are split anew for every seed.

    Test images (n,) whose group has an image among the real ones (N,) are left out.
    """
    apart = test
    if groups is not None and groups_test is not None:
        kept = ~np.isin(groups_test, groups)
        apart = Pool(test.images[kept], test.labels[kept])
    return Material(
        names=names,
        real=real,
        fake=fake,
        test=apart if len(test) else None,
        kind=kind,
        delivered=delivered,
        may_have_seen=True,
        leaks=len(test) - len(apart),
        groups=groups,
    )


def _without_filter(images: ClassImages) -> int:
    """Number of synthetic images the class would have received without the quality filter."""
    if images.unfiltered is None:
        return images.generated
    wanted = images.requested - images.transformed
    complete = len(images.unfiltered) >= min(wanted, REPORT_IMAGES)
    return wanted if complete else len(images.unfiltered)


Labels = NDArray[np.int64]
TEST_SHARE = 0.3  # of the real images, if they have no test split


@dataclass(frozen=True)
class Pool:
    """Images (n, C, S, S) and their classes (n,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Resampling:
    """How to draw new synthetic images: which latents are drawn changes accuracy more than classifiers' seeds do."""

    pool: Callable[[int], Pool]  # number of a seed -> images
    seconds: float  # that it takes


@dataclass(frozen=True)
class Varied:
    """Transformed real images, and which row of the real images each one comes from (n,)."""

    pool: Pool
    sources: NDArray[np.intp]

    def of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows of the transformed images that come from these rows of the real ones."""
        return np.flatnonzero(np.isin(self.sources, rows))


@dataclass(frozen=True)
class Material:
    """The images to train and test classifiers on.

    If `test` is None, `real` is split anew for every seed. `groups` (n,) numbers the groups of `real` that no split may
    divide; None if every image is its own. `delivered` (K,) is the number of generated images that each class
    received, `varied` (K,) that of transformed ones, and `delivered_unfiltered` (K,) the number it would have received
    from `unfiltered`. The pools may hold more or fewer images; these numbers set the proportions in which they are
    mixed.
    `kind` says where the test images come from (test, val, holdout, splits). `may_have_seen` says whether the generator
    may have been trained on them; if so, what copies test images is excluded from training.
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
    leaks: int = 0  # test images left out because training images are identical to them or their siblings
    groups: Labels | None = None  # (n,) of the real images; a group stays on one side of a split
    resampling: Resampling | None = None  # where new generated images like `fake` can be drawn
    transformed: Varied | None = None
    varied: Sequence[int] = ()

    @property
    def variations(self) -> Varied:
        """The transformed images; none if there are none."""
        return self.transformed or Varied(Pool(self.real.images[:0], self.real.labels[:0]), np.empty(0, np.intp))

    @property
    def filled(self) -> list[int]:
        """Number of synthetic images of both kinds that each class received (K,)."""
        return [a + b for a, b in zip(self.delivered, self.varied or [0] * len(self.delivered), strict=True)]


def transformed_pool(real: Pool, counts: Sequence[int], changes: Changes, seed: int) -> Varied:
    """Return variations of real images at the model's size, `counts` (K,) of each class."""
    images, labels, sources = [real.images[:0]], [], []
    for label, count in enumerate(counts):
        made, rows = variations(real.images, np.flatnonzero(real.labels == label), count, changes, seed)
        images.append(made)
        labels.append(np.full(len(rows), label, np.int64))
        sources.append(rows)
    return Varied(Pool(np.concatenate(images), np.concatenate(labels)), np.concatenate(sources))


def not_measured(note: str) -> Json:
    """The `utility` document when nothing was measured; `note` says why."""
    return {"measured": False, "verdict": None, "note": note, "arms": [], "warnings": []}


def why_not(material: Material) -> str | None:
    """Why no verdict is possible, or None."""
    counts = np.bincount(material.real.labels, minlength=len(material.names))
    if not len(material.fake) and not any(material.varied):
        return "There are no synthetic images to judge."
    if (counts > 0).sum() < 2:
        return "A classifier needs at least two classes with real images."
    if material.test is not None and len(np.unique(material.test.labels)) < 2:
        if material.leaks:
            return (
                "Whether the images help was not measured: nearly all test images have siblings among the training "
                "images, so no honest test is possible. Keep the images of one object or film in one split."
            )
        return (
            "Whether the images help was not measured: that takes real images of at least two classes that the "
            "generator has not seen. Train with --holdout, or add a test split to the data."
        )
    if material.test is None and (counts >= 2).sum() < 2:
        return "Whether the images help was not measured: there are too few real images to set some aside for testing."
    if material.test is None and (counts >= 2).sum() - len(untestable(material)) < 2:
        return (
            "Whether the images help was not measured: all real images of nearly every class belong to one group (one "
            "object, or one scene), so no honest test is possible."
        )
    return None


def untestable(material: Material) -> list[int]:
    """Classes whose real images all belong to one group, so that some cannot be tested on while others are learned."""
    return [] if material.groups is None else of_one_group(material.real.labels, material.groups)


@dataclass(frozen=True)
class SplitPlan:
    """Rows of the pool of real images that one seed trains on, and those it tests on."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def split_plans(material: Material, seeds: int) -> tuple[Pool, list[SplitPlan]]:
    """All real images in one pool, and the train and test rows of each seed."""
    real, test = material.real, material.test
    if test is None:
        splits = (stratified_split(real.labels, TEST_SHARE, seed, material.groups) for seed in range(seeds))
        return real, [SplitPlan(*split) for split in splits]
    pool = Pool(np.concatenate([real.images, test.images]), np.concatenate([real.labels, test.labels]))
    rows = np.arange(len(pool))
    return pool, [SplitPlan(rows[: len(real)], rows[len(real) :])] * seeds


def stratified_split(
    labels: Labels, share: float, seed: int, groups: Labels | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows kept, and rows set aside: `share` of every class, and at least one unless the class has one image.

    `groups` (n,): images with the same number stay together, as `choose_holdout` describes.
    """
    keys = range(len(labels)) if groups is None else groups.tolist()
    aside = choose_holdout(labels, keys, share, seed, least=2)
    return np.flatnonzero(~aside), np.flatnonzero(aside)


@dataclass(frozen=True)
class ClassImages:
    """One class's images and counts for the report. Image arrays are uint8 (n, C, H, W) at the model's size.

    `real_holdout` holds images that the generator never saw (may be empty). `real`, `generated` and
    `transformed` count the images in the balanced folder's training split. `fake` holds generated images, from the
    folder or beside it. `requested` is the number of synthetic images asked for, `rejected` the number
    of samples dropped, and `refused` the number of those dropped by the quality filter. `unfiltered` holds what would
    have been delivered without that filter. `reference` holds real images to compare with in place of the held-out or
    training images, and `apart` the training images that the small classifier was not trained on, if it was trained on
    a part of them.
    """

    name: str
    real_train: Images
    real_holdout: Images
    fake: Images
    real: int
    generated: int
    rejected: int = 0
    requested: int = 0
    refused: int = 0
    unfiltered: Images | None = None
    reference: Images | None = None
    apart: Images | None = None
    transformed: int = 0

    @property
    def synthetic(self) -> int:
        """Number of synthetic images of both kinds."""
        return self.generated + self.transformed

    @property
    def unseen(self) -> Images:
        """Real images that the small classifier was not trained on."""
        return self.real_holdout if self.apart is None else self.apart
