"""`evaluate RUN`: the quality report of a run's generator, and what it shares with the report on two folders."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors, is_litter, refuse_source
from balancegan.core.options import PLAIN_DATA, DataOptions, Judged, SamplingOptions
from balancegan.core.progress import Progress, silent
from balancegan.data.scan import ImageFolder
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet, reopen_training_set
from balancegan.evaluation import assembly as judge
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.class_assignment import describe_assignment
from balancegan.folder.recipe import first_of, mixed_classes, recipe_json
from balancegan.folder.recipe_search import measured_recipe
from balancegan.report.write import write_report
from balancegan.runs.directory import AUTO, RunDir
from balancegan.runs.restore import Restored, restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers
from balancegan.sampling.samplers import SEED_STRIDE
from balancegan.verdict.material import ClassImages, Pool, Resampling, pool
from balancegan.verdict.rule import gate_json

Note = Callable[[str], None]

OUT = Path("evaluation")
MEASURED = 500  # images per class to generate for the measures if the folder would need fewer

REPORT = ("report.html", "report.json")


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate` besides its `Judging`."""

    out: Path | None = None  # default: a run's report/, or `OUT`
    data: Path | None = None
    images: int | None = None  # per class, from a run
    image_size: int | None = None  # for two folders
    group_by: str | None = None  # of two folders: which real images stay on one side of a split; None: auto
    fail_under: str | float | None = None
    checkpoint: str = AUTO  # of a run
    sampling: SamplingOptions = field(default_factory=SamplingOptions)  # of a run
    how: DataOptions = PLAIN_DATA  # of two folders; the table of labels is that of the real one
    fill: Judged = "generated"  # the images as they are; auto: mixed with real ones by a measured recipe


# --- a run ------------------------------------------------------------------------------------------------------------


def evaluate_run(
    run: RunDir, options: EvaluateOptions, judging: Judging, *, progress: Progress = silent, note: Note | None = None
) -> Json:
    """Generate images of every class, without any filter, and report on them; returns the command's document.

    The classifiers get as many images of each class as `augment --target-ir 1` would add. Raises as `augment` does.
    """
    if options.image_size is not None:
        raise UsageError("--image-size applies only to two folders; a run has its own", "leave it out")
    if options.group_by is not None:
        raise UsageError("--group-by applies only to two folders; a run has its own groups", "leave it out")
    if options.how != PLAIN_DATA:
        raise UsageError("--labels, --layout, --page and --max-pixels apply only to two folders", "leave them out")
    restored = restore(run, judging.device, warn=note, checkpoint=options.checkpoint)
    restored.require_trained()
    data = reopen_training_set(run.read_json("dataset.json"), restored.method.cfg, data=options.data, progress=progress)
    out = options.out or run.path / "report"
    check_out(out, data.folder, given=options.out is not None)
    restored.method.sample_with(options.sampling)
    try_out(out)
    restored.make_ready(data)
    classes, resampling = _generate(restored, data, options.images or min(MEASURED, judging.limit), progress)
    recipe = None
    if options.fill == "auto":
        fill, fakes = [c.requested for c in classes], [c.fake for c in classes]
        drawn = partial(first_of, fakes)
        recipe = measured_recipe(data, fill, drawn, judging.device, progress)
        classes = mixed_classes(classes, recipe, fill, more=True)
    extractor = judge.run_extractor(data, judging, progress)
    inp = judge.run_input(
        restored,
        data,
        classes,
        describe_assignment(restored, data, progress=progress),
        judging,
        title=f"Evaluation of {run.name}",
        delivered=False,
        notes=[
            "Only this report was written. Counts are those of a folder filled to imbalance rate 1; the images are the "
            "first that the generator makes, unfiltered.",
            *restored.method.notes(),
        ],
        plain=True,
        resampling=None if recipe else resampling,
        recipe=recipe_json(recipe, classes) if recipe else None,
        changes=recipe.changes if recipe else None,
        progress=progress,
    )
    document = judge.report_document(inp, extractor, judging, progress)
    write_report(document, inp, out, figures=out / "figures")
    sampling = options.sampling.to_json()
    return command_document(document, out, options, run=str(run.path), step=restored.checkpoint.step, sampling=sampling)


def _tick(progress: Progress, before: int, total: int, made: int) -> None:
    progress("generate", before + made, total)


def _generate(
    restored: Restored, data: TrainingSet, measured: int, progress: Progress
) -> tuple[list[ClassImages], Resampling]:
    """Generate the first images of every class: as many as it needs, and at least enough to measure.

    Also returns how to generate others.
    """
    began = time.monotonic()
    samplers = make_samplers(restored.method, restored.device, sources=SourceImages.of(data))
    counts = data.split_counts()
    goal = max(counts.values())
    train, unseen = data.by_class(data.train_rows), data.by_class(data.unseen_rows)
    wanted = [max(measured, min(goal - counts[name], judge.REPORT_IMAGES)) for name in data.class_names]
    classes: list[ClassImages] = []
    for label, name in enumerate(data.class_names):
        need = goal - counts[name]
        made = partial(_tick, progress, sum(wanted[:label]), sum(wanted))
        _, fake = first_images(samplers, label, wanted[label], made)
        short = len(fake) < min(need, judge.REPORT_IMAGES)
        classes.append(
            ClassImages(
                name=name,
                real_train=data.store.images[train[label]],
                real_holdout=data.store.images[unseen[label]],
                fake=fake,
                real=counts[name],
                generated=len(fake) if short else need,
                requested=need,
            )
        )

    def others(seed: int) -> Pool:
        first = seed * SEED_STRIDE
        images = [first_images(samplers, k, n, first_seed=first)[1] for k, n in enumerate(wanted)]
        return pool(images, data.store.images)

    return classes, Resampling(others, time.monotonic() - began)


# --- both -------------------------------------------------------------------------------------------------------------


def check_out(out: Path, source: ImageFolder, *, given: bool) -> None:
    """Refuse a folder of the data, or one that contains other files than a report's, which would be replaced."""
    refuse_source(out, source.folders())
    if not given:
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "choose another folder with --out")
    with disk_errors(f"read {out}"):
        ours = (*REPORT, "figures")
        foreign = out.is_dir() and [p for p in out.iterdir() if p.name not in ours and not is_litter(p.name)]
    if foreign:
        raise UsageError(f"{out} contains other files, such as {foreign[0].name}", "choose a new folder with --out")


def try_out(out: Path) -> None:
    """Check that the report can be written before doing all the work."""
    with disk_errors(f"write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".tmp-{os.getpid()}"
        probe.touch()
        probe.unlink()


def command_document(document: Json, out: Path, options: EvaluateOptions, **what: Any) -> Json:
    """Return the command's document: the report's measures, without the data for its pictures."""
    left_out = ("pairs",)
    return {
        "schema_version": 1,
        **what,
        "out": str(out.absolute()),
        "report": str((out / REPORT[0]).absolute()),
        "extractor": document["extractor"]["name"],
        "classes": [{key: value for key, value in row.items() if key not in left_out} for row in document["classes"]],
        "overall": document["overall"],
        "utility": document["utility"] | {"next": document["next"]},
        "recipe": document["recipe"],
        "next": document["next"],
        "findings": document["findings"],
        "notes": document["notes"],
        "gate": gate_json(document["utility"], options.fail_under),
    }
