"""`augment`: from a trained run to a balanced folder and its quality report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan.commands.augment_document import (
    AugmentOptions,
    finished_document,
    folder_report,
    result_document,
    write_card,
)
from balancegan.compute.device import use_device
from balancegan.core.errors import UsageError
from balancegan.core.options import (
    MOST_AUGMENT_SEED,
    Filter,
    SamplingOptions,
    require_choices,
    require_range,
)
from balancegan.core.progress import Progress, silent
from balancegan.core.version import __version__
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet, reopen_training_set
from balancegan.evaluation import assembly as judge
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.class_assignment import describe_assignment
from balancegan.evaluation.document import summary
from balancegan.folder.checkpoint_choice import best_step, compared_steps
from balancegan.folder.destination import check_destination, finished_result, plan_key
from balancegan.folder.export import BalancedFolder
from balancegan.folder.fill import Filled, Filling, Generator
from balancegan.folder.quality_filter import QualityFilter
from balancegan.folder.real_files import RealFile, check_space, plan_real
from balancegan.folder.recipe import (
    TRIES,
    Recipe,
    amounts,
    given_recipe,
    require_share,
    targets,
)
from balancegan.folder.recipe_search import measured_recipe
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.extractors import choose
from balancegan.runs.directory import NEWEST, RUNS, RunDir, find_run
from balancegan.runs.restore import Restored, restore
from balancegan.sampling.choice import make_samplers
from balancegan.sampling.samplers import SEED_STRIDE, Sampler
from balancegan.verdict.rule import parse_least


def augment(
    run: RunDir | str | Path | None,
    options: AugmentOptions,
    *,
    runs: Path = RUNS,
    device: torch.device | str = "auto",
    progress: Progress = silent,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Fill up the minority classes and write the balanced folder; returns the command's JSON document.

    `run` is a run, its path, name or number in `runs`, or None for the newest there.

    Raises `UsageError` for invalid options or folders, `DatasetError` if the data has changed since training,
    `CheckpointError`, `WeightsMissingError`, `DiskError`.
    """
    require_choices(options)
    require_range("seed", options.seed, 0, MOST_AUGMENT_SEED)
    require_share(options.fill, options.share)
    least = parse_least(options.fail_under, utility=options.utility and options.report)
    options = replace(options, fail_under=least)
    device = use_device(device)
    run = find_run(run, runs)
    judging = None
    if options.report:
        choice = choose(options.extractor, options.weights)
        judging = Judging(choice, device, utility=options.utility)
    restored, data = _open(run, options, device, note, progress)
    need = targets(data.split_counts(), totals=options.counts, target_ir=options.target_ir, classes=options.classes)
    places = _Places.of(options, data, _plan(restored, data, need, options))
    card = finished_result(options.out).get("card")  # hash of the README.md written by an earlier call
    if places.whole:
        result = finished_document(options, judging)
        if result is not None:
            return result
    work = _Balancing(restored, data, need, options, places, judging, device, progress, note or _say_nothing)
    return work.write(card)


@dataclass(frozen=True)
class _Balancing:
    """The writing of one folder."""

    restored: Restored
    data: TrainingSet
    need: dict[str, int]  # synthetic images of each class
    options: AugmentOptions
    places: _Places
    judging: Judging | None
    device: torch.device
    progress: Progress
    note: Callable[[str], None]

    def write(self, card: str | None) -> dict[str, Any]:
        """Write everything, and return the command's document; `card`: hash of the README.md of an earlier call."""
        data, options = self.data, self.options
        if any(self.need.values()) and options.fill != "transformed":
            self.restored.require_trained()
        real, notes = plan_real(data, options.real)
        if size := _other_size(data, self.need, options):
            self.note(f"synthetic images will be {size}; leave out --out-size model to get the sizes of the real ones")
        check_space(options.out, real, options.real, sum(self.need.values()), _bytes_each(data, options))
        filter = "copies" if options.filter == "auto" else options.filter
        samplers = self._samplers(self.restored)  # before anything is written: options may not apply
        if filter == "quality":
            self._generator(samplers, filter)
        with ExitStack() as stack:
            folder = stack.enter_context(self.places.folder(data, options))
            for i, file in enumerate(real):
                folder.add_real(file)
                self.progress("copy real images", i + 1, len(real))
            restored = self._at_best(folder)
            self.note(f"{restored.progress} of {data.folder.root}")
            made = cache(partial(self._generator, self._samplers(restored)))  # by filter
            recipe = self._recipe(folder, made(filter), partial(made, "quality"))
            generator = made(recipe.filter)
            wanted = amounts(
                recipe, generator.need, list(data.split_counts().values()), beside=self.places.beside is not None
            )
            run = (restored.run.name, restored.run.number, restored.checkpoint.sha256)
            filling = Filling(
                folder,
                lambda: stack.enter_context(self.places.folder_beside(data, options)),
                generator,
                recipe,
                run=run,
                seed=options.seed,
                top_up=options.fill != "generated",
            )
            filled = filling.fill(wanted, shown=generator.shown, progress=self.progress)
            folder.write_metadata()
            notes += folder.notes
            result = result_document(
                restored, options, filled, recipe, notes, self.places.beside if filling.beside else None
            )
            if filling.beside:
                filling.beside.write_metadata()
                filling.beside.finish(result)
            document = self._judge(restored, generator, recipe, filled, result, real)
            result["card"] = write_card(restored, data, recipe, result, document, options, card, self.note)
            folder.finish(result)
        return result

    def _judge(
        self,
        restored: Restored,
        generator: Generator,
        recipe: Recipe,
        filled: Filled,
        result: dict[str, Any],
        real: list[RealFile],
    ) -> dict[str, Any] | None:
        """Add to the result what classifiers say of the images; returns the report's document, if one is wanted."""
        data, options, progress = self.data, self.options, self.progress
        result["assignment"] = describe_assignment(
            restored, data, generator.samplers, filled.tallies, shares=options.report, progress=progress
        )
        if not self.judging:
            return None
        document = folder_report(
            restored, data, filled, recipe, result, real, options, self.judging, lambda: self.own, progress
        )
        result["report"] = str((options.out / "report.html").absolute())
        result |= summary(document, options.fail_under)
        return document

    @cached_property
    def own(self) -> OwnExtractor:
        """The small classifier of the training images."""
        return OwnExtractor.of(self.data, device=str(self.device), progress=self.progress)

    def _at_best(self, folder: BalancedFolder) -> Restored:
        """The run at the checkpoint that an earlier call or the user chose, or whose images are the best."""
        labels = [label for label, name in enumerate(self.data.class_names) if self.need[name]]
        steps = compared_steps(self.restored)
        if not (self.options.chooses_checkpoint and labels and len(steps) > 1):
            return self.restored
        if "step" not in folder.recorded:
            folder.record({"step": best_step(self.restored, steps, self.data, labels, self.own, self.progress)})
        step = folder.recorded["step"]
        if step == self.restored.checkpoint.step:
            return self.restored
        self.note(f"using step {step}, whose images are the nearest to real ones (--checkpoint newest uses the latest)")
        return restore(self.restored.run, self.restored.device, checkpoint=str(step))

    def _samplers(self, restored: Restored) -> tuple[Sampler, ...]:
        restored.make_ready(self.data)
        options = self.options
        sources = SourceImages.of(self.data)
        return make_samplers(restored.method, restored.device, options.sampler, sources, options.sampling)

    @cached_property
    def quality(self) -> QualityFilter:
        """The quality filter, fitted to the generator's training images; the verdict's test images stay unseen.

        It runs on the CPU, where training is deterministic: a repeated command must accept the same samples.
        """
        data, rows = self.data, self.data.train_rows
        images, labels = data.store.images[rows], data.labels[rows]
        return QualityFilter.fit(images, labels, len(data.class_names), progress=self.progress)

    def _generator(self, samplers: Sequence[Sampler], filter: Filter) -> Generator:
        options = self.options
        return Generator(
            samplers,
            self.data,
            [self.need[name] for name in self.data.class_names],
            first_seed=options.seed * SEED_STRIDE,
            filter=filter,
            note=self.note,
            quality=self.quality if filter == "quality" and any(self.need.values()) else None,
            tries=None if options.fill == "generated" else TRIES,
            shown=judge.REPORT_IMAGES if options.report else 0,
        )

    def _recipe(self, folder: BalancedFolder, generator: Generator, strict: Callable[[], Generator]) -> Recipe:
        """The recipe of an earlier call, or the one that the user named, or a measured one.

        `strict` returns the generator with the quality filter.
        """
        if "recipe" in folder.recorded:
            return Recipe.from_json(folder.recorded["recipe"])
        fill, options = generator.need, self.options
        recipe = given_recipe(self.data, options.fill, options.share) if any(fill) else Recipe((0.0,) * len(fill))
        if recipe is None:
            filtered = (lambda label, n: strict().images(label, n)) if options.filter == "auto" else None
            recipe = measured_recipe(self.data, fill, generator.images, self.device, self.progress, filtered=filtered)
        if options.filter != "auto":
            recipe = replace(recipe, filter=options.filter)
        folder.record({"recipe": recipe.to_json()})
        return recipe


@dataclass(frozen=True)
class _Places:
    """Where the folder goes, and the generated images that it does not use (None if nothing is left over)."""

    out: Path
    beside: Path | None
    key: str
    whole: bool  # whether everything is already there

    @classmethod
    def of(cls, options: AugmentOptions, data: TrainingSet, plan: dict[str, Any]) -> _Places:
        """Refuse places that must not be written; see `check_destination`."""
        key = plan_key(plan)
        whole = check_destination(options.out, data.folder, key)
        beside = None
        if options.fill == "auto" and any(plan["need"].values()):
            out = options.out.absolute().parent.resolve() / (options.out.name or options.out.resolve().name)
            beside = out.with_name(f"{out.name}-generated")
            used = finished_result(options.out).get("generated_folder") is not None
            whole = (check_destination(beside, data.folder, key) or not used) and whole
            if not beside.is_dir() and not os.access(_nearest_folder(beside.parent), os.W_OK):
                beside = None  # such as beside a mounted volume
        return cls(options.out, beside, key, whole)

    def folder(self, data: TrainingSet, options: AugmentOptions) -> BalancedFolder:
        """The folder to write."""
        return BalancedFolder(
            self.out, data, self.key, real=options.real, format=options.format, out_size=options.out_size
        )

    def folder_beside(self, data: TrainingSet, options: AugmentOptions) -> BalancedFolder:
        """The folder of generated images that the other one does not use."""
        assert self.beside is not None
        return BalancedFolder(
            self.beside, data, self.key, real="none", format=options.format, out_size=options.out_size, flat=True
        )


def _open(
    run: RunDir, options: AugmentOptions, device: torch.device, note: Callable[[str], None] | None, progress: Progress
) -> tuple[Restored, TrainingSet]:
    """The run's generator and the data it was trained on."""
    checkpoint = NEWEST if options.chooses_checkpoint else options.checkpoint  # whatever the alarms in training said
    restored = restore(run, device, warn=note, checkpoint=checkpoint)
    if restored.method.cfg.train_ir:
        raise UsageError(
            f"{run.name} was trained on a thinned training set (train_ir = {restored.method.cfg.train_ir:g})",
            "use a run that was trained on all images",
        )
    recorded = run.read_json("dataset.json")
    return restored, reopen_training_set(recorded, restored.method.cfg, data=options.data, progress=progress)


def _nearest_folder(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_dir())


def _say_nothing(_: str) -> None:
    pass


def _bytes_each(data: TrainingSet, options: AugmentOptions) -> int:
    """Return an upper estimate of one synthetic file's size in bytes."""
    _, channels, height, width = data.store.images.shape
    pixels = float(data.store.native_sizes.prod(axis=1).mean()) if options.out_size == "native" else height * width
    return int(pixels * channels) + 4096  # small files take whole blocks


def _other_size(data: TrainingSet, need: dict[str, int], options: AugmentOptions) -> str | None:
    """Return the model's image size if most real images of the classes to fill have another, else None."""
    _, _, height, width = data.store.images.shape
    labels = [label for label, name in enumerate(data.class_names) if need[name]]
    sizes = data.store.native_sizes[np.isin(data.labels, labels)]
    alike = (sizes == (width, height)).all(axis=1)
    return f"{width}x{height}" if options.out_size == "model" and len(sizes) and alike.mean() < 0.5 else None


_DETERMINE = ("filter", "sampler", "out_size", "format", "seed")


def _plan(restored: Restored, data: TrainingSet, need: dict[str, int], options: AugmentOptions) -> dict[str, Any]:
    """Return everything that determines the output's bytes."""
    return {
        "checkpoint": restored.checkpoint.sha256,
        "data": data.store.fingerprint,
        "version": __version__,
        "need": need,
        **({} if options.sampling == SamplingOptions() else {"sampling": options.sampling.to_json()}),
        **{name: getattr(options, name) for name in ("real", "fill", "share", *_DETERMINE)},
    }
