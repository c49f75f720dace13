"""Fill small classes with generated images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from balancegan.core.progress import Progress
from balancegan.data.training_set import TrainingSet
from balancegan.folder.copy_filter import CopyFilter
from balancegan.folder.export import BalancedFolder
from balancegan.folder.quality_filter import QualityFilter, QualityKeep
from balancegan.sampling.accepted import Tally, accepted_images
from balancegan.sampling.samplers import Sampler
from balancegan.verdict.material import ClassImages


@dataclass
class Filled:
    """What was made: the report's classes, the synthetic files' names, and counts of the samples."""

    classes: list[ClassImages] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)  # class -> sampler -> counts


class Filling:
    """Takes images of each class from the samplers in turn, until there are enough or the last one gives up.

    Args:
        folder: where they go.
        samplers: of the run's method.
        data: what it was trained on.
        run: the run's name, its number, and the SHA-256 of the checkpoint in use.
        first_seed: first of the images' seeds.
        filter: `copies` rejects near-copies, `quality` also images that do not look like their class, `none` nothing.
        quality: the filter behind `quality`.
        note: called with a message when the next sampler takes over a class.
    """

    def __init__(
        self,
        folder: BalancedFolder,
        samplers: Sequence[Sampler],
        data: TrainingSet,
        *,
        run: tuple[str, str, str],
        first_seed: int,
        filter: str,
        note: Callable[[str], None],
        quality: QualityFilter | None = None,
    ) -> None:
        self.folder, self.samplers, self.data, self.run = folder, samplers, data, run
        self.first_seed, self.filter, self.note, self.quality = first_seed, filter, note, quality
        self._train, self._unseen = data.by_class(data.train_rows), data.by_class(data.unseen_rows)
        self._real = data.split_counts()

    def fill(self, need: dict[str, int], *, shown: int, progress: Progress) -> Filled:
        """Make as many images of each class as `need` says, and keep the first `shown` of each for the report."""
        filled, total = Filled(), sum(need.values())
        for label, name in enumerate(self.data.class_names):
            images: list[np.ndarray] = []
            made = 0
            tallies = filled.tallies[name] = {}
            keep = self._keep(label, need[name], shown)
            for seed, image in self._images(label, need[name], keep, tallies):
                filled.names.append(self._write(image, label, seed))
                made += 1
                if made <= shown:
                    images.append(image)
                progress("generate", len(filled.names), total)
            of_class = self._class_images(label, images, made, need[name], keep_real=shown > 0)
            rejected = sum(tally.rejected for tally in tallies.values())
            filled.classes.append(replace(of_class, rejected=rejected, **self._refused(keep, rejected)))
        return filled

    def _keep(self, label: int, need: int, shown: int) -> CopyFilter | QualityKeep | None:
        """Return what decides which samples of a class are kept; None keeps all."""
        if self.filter == "none" or not need:
            return None
        train = self._train[label]
        copies = partial(CopyFilter, self.data.store.images[train], len(train) + need, self.samplers[0].origins(label))
        if self.quality is None:
            return copies()
        return QualityKeep(copies(), copies(), partial(self.quality, label=label), limit=min(need, shown))

    def _refused(self, keep: CopyFilter | QualityKeep | None, rejected: int) -> dict[str, Any]:
        """Return the fields of the report's class that only the quality filter fills."""
        if not isinstance(keep, QualityKeep):
            return {}
        shape = self.data.store.images.shape[1:]
        unfiltered = np.stack(keep.passed) if keep.passed else np.empty((0, *shape), np.uint8)
        return {"refused": min(keep.refused, rejected), "unfiltered": unfiltered}

    def _images(
        self, label: int, need: int, keep: CopyFilter | QualityKeep | None, tallies: dict[str, Tally]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield seeds and images of one class, filling `tallies` on the way."""
        for sampler in self.samplers:
            left = need - sum(tally.accepted for tally in tallies.values())
            if not left:
                return
            if tallies:
                self.note(
                    f"{self.data.class_names[label]}: {left} of {need} still missing; trying {sampler.name} sampling"
                )
            tally = tallies[sampler.name] = Tally()
            yield from accepted_images(sampler, label, left, keep, self.first_seed + sampler.first_seed, tally)

    def _write(self, image: np.ndarray, label: int, seed: int) -> str:
        name, number, checkpoint = self.run
        rows = self.samplers[0].source_rows(label, [seed])
        source = None if rows is None else self.data.folder.path(self.data.store.files[rows[0]])
        return self.folder.add_synthetic(
            image, label, seed, run=name, number=number, checkpoint=checkpoint, source=source
        )

    def _class_images(
        self, label: int, fake: list[np.ndarray], synthetic: int, requested: int, *, keep_real: bool
    ) -> ClassImages:
        """Return one class for the report; without its real images if there will be no report."""
        images, name = self.data.store.images, self.data.class_names[label]
        train, unseen = self._train[label], self._unseen[label]
        return ClassImages(
            name=name,
            real_train=images[train if keep_real else train[:0]],
            real_holdout=images[unseen if keep_real else unseen[:0]],
            fake=np.stack(fake) if fake else np.empty((0, *images.shape[1:]), np.uint8),
            real=self._real[name],
            synthetic=synthetic,
            requested=requested,
        )
