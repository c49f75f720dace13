"""Fill small classes with generated images, and with transformed real ones."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from balancegan.core.progress import Progress
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import order
from balancegan.folder.copy_filter import CopyFilter
from balancegan.folder.export import BalancedFolder
from balancegan.folder.quality_filter import QualityFilter, QualityKeep
from balancegan.folder.recipe import Amounts, Recipe
from balancegan.metrics.features import Images
from balancegan.sampling.accepted import Tally, accepted_chunks, accepted_images
from balancegan.sampling.samplers import CHUNK, Sampler
from balancegan.verdict.material import ClassImages

Generated = tuple[int, np.ndarray]
"""A seed and its image, uint8 (C, S, S)."""
_FORGOTTEN = np.empty(0, np.uint8)
"""In place of an image that is not needed any more; a part of the image would keep the whole chunk in memory."""


@dataclass
class Filled:
    """What was made: the report's classes, the synthetic files' names by kind, and counts of the samples."""

    classes: list[ClassImages] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    transformed: list[str] = field(default_factory=list)
    beside: dict[str, int] = field(default_factory=dict)  # class -> generated images beside the folder
    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)  # class -> sampler -> counts


@dataclass(frozen=True)
class _Seen:
    """A class's images after a draw, and the counts of the samples so far."""

    images: int
    tallies: dict[str, Tally]
    refused: int = 0  # by the quality filter
    passed: int = 0  # images that would be kept without it


class Generator:
    """Generated images of each class that pass the filter, in the order of their seeds; those drawn are remembered.

    Args:
        samplers: of the run's method; each takes over a class when the one before it gives up.
        data: what it was trained on.
        need: most images that each class can be asked for (K,).
        first_seed: first of the images' seeds.
        filter: `copies` rejects near-copies, `quality` also images that do not look like their class, `none` nothing.
        note: called with a message when the next sampler takes over a class.
        quality: the filter behind `quality`.
        tries: samples for each image asked for, at most; None: as many as the samplers' patience allows.
        shown: images of each class that the report shows.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        data: TrainingSet,
        need: Sequence[int],
        *,
        first_seed: int,
        filter: str,
        note: Callable[[str], None],
        quality: QualityFilter | None = None,
        tries: int | None = None,
        shown: int = 0,
    ) -> None:
        self.samplers, self.data, self.need, self.first_seed, self.tries = samplers, data, need, first_seed, tries
        self.filter, self.note, self.quality, self.shown = filter, note, quality, shown
        self._train = data.by_class(data.train_rows)
        classes = range(len(need))
        self._tallies: list[dict[str, Tally]] = [{} for _ in classes]
        self._keeps = [self._keep(label) for label in classes]
        self._streams = [self._chunks(label) if tries else self._patient(label) for label in classes]
        self._drawn: list[list[Generated]] = [[] for _ in classes]
        self._seen: list[list[_Seen]] = [[] for _ in classes]  # what each draw from the stream brought

    def first(self, label: int, n: int, asked: int = 0) -> list[Generated]:
        """Return a class's first n images, or as many as can be made; they are remembered.

        Which ones depends on the numbers given here alone, not on earlier calls. `asked`: how many will be asked for in
        the end, if more.
        """
        return self._drawn[label][: self._draw(label, n, asked)]

    def _draw(self, label: int, n: int, asked: int) -> int:
        """Draw until there are n images, or as many as can be made; returns how many of the n there are."""
        drawn, seen = self._drawn[label], self._seen[label]
        limit = math.ceil(self.tries * max(n, asked) / CHUNK) if self.tries else sys.maxsize
        while len(drawn) < n and len(seen) < limit:
            more = next(self._streams[label], None)
            if more is None:
                break
            drawn += more
            tallies = {name: replace(tally) for name, tally in self._tallies[label].items()}
            keep = self._keeps[label]
            filtered = (keep.refused, len(keep.passed)) if isinstance(keep, QualityKeep) else (0, 0)
            seen.append(_Seen(len(drawn), tallies, *filtered))
        return min(n, len(drawn), seen[limit - 1].images if len(seen) >= limit else n)

    def images(self, label: int, n: int) -> Images:
        """Return the same without their seeds, uint8 (m, C, S, S)."""
        found = [image[None] for _, image in self.first(label, n)]
        return np.concatenate([np.empty((0, *self.samplers[0].shape), np.uint8), *found])

    def take(self, label: int, n: int) -> Iterator[Generated]:
        """Yield the same one by one, and forget them."""
        for k in range(n):
            if self._draw(label, k + 1, asked=n) <= k:
                return
            seed, image = self._drawn[label][k]
            yield seed, image
            self._drawn[label][k] = (seed, _FORGOTTEN)

    def counts(self, label: int, n: int) -> dict[str, Tally]:
        """Return the counts of the samples, by sampler, that a class's first n images took."""
        seen = self._used(label, n)
        return seen.tallies if seen else dict(self._tallies[label]) if n else {}

    def _used(self, label: int, n: int) -> _Seen | None:
        """What had been seen after the draw that brought the n-th image; None if every draw counts."""
        draws = self._seen[label]
        if not self.tries or not n or not draws:  # the patient way draws no sample after the last image
            return None
        used = next((k for k, seen in enumerate(draws) if seen.images >= n), len(draws) - 1)
        return draws[min(used, math.ceil(self.tries * n / CHUNK) - 1)]

    def refused(self, label: int, n: int, rejected: int) -> dict[str, Any]:
        """Return the fields of the report's class that only the quality filter fills, for a class's first n images."""
        keep = self._keeps[label]
        if not isinstance(keep, QualityKeep):
            return {}
        seen, shape = self._used(label, n), self.data.store.images.shape[1:]
        refused, passed = (seen.refused, keep.passed[: seen.passed]) if seen else (keep.refused, keep.passed)
        unfiltered = np.stack(passed) if passed else np.empty((0, *shape), np.uint8)
        return {"refused": min(refused, rejected), "unfiltered": unfiltered}

    def _keep(self, label: int) -> CopyFilter | QualityKeep | None:
        """Return what decides which samples of a class are kept; None keeps all."""
        need = self.need[label]
        if self.filter == "none" or not need:
            return None
        train = self._train[label]
        copies = partial(CopyFilter, self.data.store.images[train], len(train) + need, self.samplers[0].origins(label))
        if self.quality is None:
            return copies()
        return QualityKeep(copies(), copies(), partial(self.quality, label=label), limit=min(need, self.shown))

    def _patient(self, label: int) -> Iterator[list[Generated]]:
        """Yield images one by one until the class has all that it needs or the last sampler gives up."""
        need, tallies, keep = self.need[label], self._tallies[label], self._keeps[label]
        for sampler in self.samplers:
            left = need - sum(tally.accepted for tally in tallies.values())
            if not left:
                return
            tally = self._taken_over(label, sampler, left)
            for image in accepted_images(sampler, label, left, keep, self.first_seed + sampler.first_seed, tally):
                yield [image]

    def _chunks(self, label: int) -> Iterator[list[Generated]]:
        """Yield images by chunks; which ones does not depend on how many are asked for at a time."""
        for sampler in self.samplers:
            tally = self._taken_over(label, sampler, self.need[label])
            first = self.first_seed + sampler.first_seed
            for chunk in accepted_chunks(sampler, label, self._keeps[label], first, tally):
                yield chunk.images

    def _taken_over(self, label: int, sampler: Sampler, left: int) -> Tally:
        if self._tallies[label]:
            name, need = self.data.class_names[label], self.need[label]
            self.note(f"{name}: {left} of {need} still missing; trying {sampler.name} sampling")
        return self._tallies[label].setdefault(sampler.name, Tally())


class Filling:
    """Writes the synthetic images of every class.

    Args:
        folder: where they go.
        beside: opens the folder where generated images go that the other one does not use; called for the first one.
        generator: makes them.
        recipe: which changes transformed images show.
        run: the run's name, its number, and the SHA-256 of the checkpoint in use.
        seed: of the transformed images.
        top_up: whether transformed images replace generated ones that cannot be made.
    """

    def __init__(
        self,
        folder: BalancedFolder,
        beside: Callable[[], BalancedFolder],
        generator: Generator,
        recipe: Recipe,
        *,
        run: tuple[str, str, str],
        seed: int,
        top_up: bool,
    ) -> None:
        self.folder, self.generator, self.recipe = folder, generator, recipe
        self.beside: BalancedFolder | None = None
        self._open_beside = beside
        self.data, self.run, self.seed, self.top_up = generator.data, run, seed, top_up
        self._train, self._unseen = self.data.by_class(self.data.train_rows), self.data.by_class(self.data.unseen_rows)
        self._real = self.data.split_counts()

    def fill(self, amounts: Sequence[Amounts], *, shown: int, progress: Progress) -> Filled:
        """Make the images of every class, and keep the first `shown` generated ones of each for the report."""
        filled, total = Filled(), sum(of.fill + of.beside for of in amounts)
        done = 0

        def tick(count: int) -> None:
            progress("fill", done + count, total)

        for label, (name, wanted) in enumerate(zip(self.data.class_names, amounts, strict=True)):
            images: list[np.ndarray] = []
            made = 0
            for seed, image in self.generator.take(label, wanted.generated + wanted.beside):
                inside = made < wanted.generated
                if not inside and self.beside is None:
                    self.beside = self._open_beside()
                target = self.folder if inside or self.beside is None else self.beside
                file = self._write(target, image, label, seed)
                made += 1
                if inside:
                    filled.generated.append(file)
                if made <= shown:
                    images.append(image)
                tick(made)
            done += made
            generated = min(made, wanted.generated)
            filled.beside[name] = made - generated
            missing = wanted.fill - generated if self.top_up else wanted.transformed
            pairs = list(order(self._train[label], missing, self.seed))
            varied = self.folder.add_transformed(label, pairs, self.recipe.changes, self.seed, tick) if pairs else []
            done += len(varied)
            filled.transformed += varied
            most = wanted.generated + wanted.beside
            filled.tallies[name] = tallies = self.generator.counts(label, most)
            of_class = self._class_images(label, images, generated, len(varied), wanted.fill, keep_real=shown > 0)
            rejected = sum(tally.rejected for tally in tallies.values())
            filled.classes.append(replace(of_class, rejected=rejected, **self.generator.refused(label, most, rejected)))
        return filled

    def _write(self, folder: BalancedFolder, image: np.ndarray, label: int, seed: int) -> str:
        name, number, checkpoint = self.run
        rows = self.generator.samplers[0].source_rows(label, [seed])
        source = None if rows is None else self.data.folder.path(self.data.store.files[rows[0]])
        return folder.add_synthetic(image, label, seed, run=name, number=number, checkpoint=checkpoint, source=source)

    def _class_images(
        self, label: int, fake: list[np.ndarray], generated: int, transformed: int, requested: int, *, keep_real: bool
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
            generated=generated,
            transformed=transformed,
            requested=requested,
        )
