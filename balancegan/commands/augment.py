"""`augment`: from a trained run to a balanced folder and its quality report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan.compute.device import use_device
from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors, sha256, write_atomic
from balancegan.core.options import (
    MOST_AUGMENT_SEED,
    Extractor,
    Filter,
    Format,
    OutSize,
    Real,
    Sampler,
    SamplingOptions,
    require_choices,
    require_range,
)
from balancegan.core.progress import Progress, silent
from balancegan.core.version import __version__
from balancegan.data.imbalance import imbalance_rate
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import TrainingSet, reopen_training_set
from balancegan.evaluation import assembly as judge
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.class_assignment import describe_assignment
from balancegan.evaluation.document import summary
from balancegan.evaluation.shortcuts import shortcut_checks
from balancegan.folder import export
from balancegan.folder.card import Card, copies_line, dataset_card
from balancegan.folder.destination import check_destination, finished_result, is_whole, plan_key
from balancegan.folder.fill import Filled, Filling
from balancegan.folder.quality_filter import QualityFilter
from balancegan.folder.real_files import check_space, plan_real
from balancegan.folder.recipe import capped_note, targets
from balancegan.metrics.extractors import choose
from balancegan.report.write import write_report
from balancegan.runs.directory import AUTO, RUNS, RunDir, find_run
from balancegan.runs.restore import Restored, restore
from balancegan.sampling.choice import make_samplers
from balancegan.sampling.samplers import SEED_STRIDE
from balancegan.verdict.material import ClassImages
from balancegan.verdict.rule import gate_json, parse_least


@dataclass(frozen=True)
class AugmentOptions:
    """Options of `augment`, with the command line's defaults."""

    out: Path = Path("balanced")
    target_ir: float | None = None  # None: 1, limited by `PER_REAL`
    counts: dict[str, int] = field(default_factory=dict)  # class -> total to reach, instead of `target_ir`
    classes: tuple[str, ...] = ()  # only these get synthetic images; empty: all that need them
    data: Path | None = None
    real: Real = "copy"
    filter: Filter = "copies"
    sampler: Sampler = "auto"
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    out_size: OutSize = "native"
    format: Format = "match"
    seed: int = 0
    report: bool = True
    weights: Path | None = None
    extractor: Extractor = "auto"
    utility: bool = True
    fail_under: str | float | None = None
    checkpoint: str = AUTO


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
    least = parse_least(options.fail_under, utility=options.utility and options.report)
    options = replace(options, fail_under=least)
    device = use_device(device)
    run = find_run(run, runs)
    judging = None
    if options.report:
        choice = choose(options.extractor, options.weights)
        judging = Judging(choice, device, utility=options.utility)
    restored, data = _open(run, options, device, note, progress)
    counts = data.split_counts()
    need = targets(counts, totals=options.counts, target_ir=options.target_ir, classes=options.classes)
    key = plan_key(_plan(restored, data, need, options))
    whole = check_destination(options.out, data.folder, key)
    card = finished_result(options.out).get("card")  # hash of the README.md written by an earlier call
    if whole:
        result = _finished(options, judging)
        if result is not None:
            return result
    if any(need.values()):
        restored.require_trained()
    restored.make_ready(data)
    samplers = make_samplers(restored.method, restored.device, options.sampler, SourceImages.of(data), options.sampling)
    real, notes = plan_real(data, options.real)
    if not options.counts and options.target_ir is None and (capped := capped_note(counts, need, options.classes)):
        notes = [*notes, capped]
    note = note or _say_nothing
    note(f"{restored.progress} of {data.folder.root}")
    if size := _other_size(data, need, options):
        note(f"synthetic images will be {size}; leave out --out-size model to get the sizes of the real ones")
    check_space(options.out, real, options.real, sum(need.values()), _bytes_each(data, options))
    quality = _quality(data, progress) if options.filter == "quality" and any(need.values()) else None

    with export.BalancedFolder(
        options.out, data, key, real=options.real, format=options.format, out_size=options.out_size
    ) as folder:
        for i, file in enumerate(real):
            folder.add_real(file)
            progress("copy real images", i + 1, len(real))
        make = Filling(
            folder,
            samplers,
            data,
            run=(run.name, run.number, restored.checkpoint.sha256),
            first_seed=options.seed * SEED_STRIDE,
            filter=options.filter,
            note=note,
            quality=quality,
        )
        filled = make.fill(need, shown=judge.REPORT_IMAGES if options.report else 0, progress=progress)
        folder.write_metadata()
        result = _result(restored, options, filled.classes, notes)
        result["assignment"] = describe_assignment(
            restored, data, samplers, filled.tallies, shares=options.report, progress=progress
        )
        document = None
        if judging:
            document = _report(restored, data, filled, result, real, options, judging, progress)
            result["report"] = str((options.out / "report.html").absolute())
            result |= summary(document, options.fail_under)
        result["card"] = _write_card(restored, data, result, document, options, card, note)
        folder.finish(result)
    return result


def _open(
    run: RunDir, options: AugmentOptions, device: torch.device, note: Callable[[str], None] | None, progress: Progress
) -> tuple[Restored, TrainingSet]:
    """The run's generator and the data it was trained on."""
    restored = restore(run, device, warn=note, checkpoint=options.checkpoint)
    if restored.method.cfg.train_ir:
        raise UsageError(
            f"{run.name} was trained on a thinned training set (train_ir = {restored.method.cfg.train_ir:g})",
            "use a run that was trained on all images",
        )
    recorded = run.read_json("dataset.json")
    return restored, reopen_training_set(recorded, restored.method.cfg, data=options.data, progress=progress)


def _finished(options: AugmentOptions, judging: Judging | None) -> dict[str, Any] | None:
    """Return the document of a finished folder, or None if its report lacks something that is asked for."""
    result = {**finished_result(options.out), "out": str(options.out.absolute())}
    page = options.out / "report.html"
    result["report"] = str(page.absolute()) if page.is_file() else None
    if not is_whole(result):
        return None
    if judging is None:
        return {**result, "gate": None}
    if not result["report"] or "utility" not in result:
        return None
    better = judging.choice.name == "own" and options.extractor == "auto"  # Inception will do too
    extractor, utility = result["extractor"], result["utility"]
    if extractor != judging.choice.name and not (better and extractor == "inception"):
        return None
    try:
        if options.utility and utility["measured"] is False and utility.get("asked") is False:
            return None
        return {**result, "gate": gate_json(utility, options.fail_under)}
    except (AttributeError, KeyError, TypeError):
        return None


def _quality(data: TrainingSet, progress: Progress) -> QualityFilter:
    """Train the quality filter on the generator's training images; the verdict's test images stay unseen.

    It runs on the CPU, where training is deterministic: a repeated command must accept the same samples.
    """
    rows = data.train_rows
    return QualityFilter.fit(data.store.images[rows], data.labels[rows], len(data.class_names), progress=progress)


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


def _result(
    restored: Restored, options: AugmentOptions, classes: list[ClassImages], notes: list[str]
) -> dict[str, Any]:
    """Return the command's document, without the report's part."""
    notes = [*notes, *options.sampling.notes()]
    if options.real == "none":
        notes = [*notes, "The real images were left out (--real none); counts and imbalance rates include them."]
    return {
        "schema_version": 1,
        "run": str(restored.run.path),
        "step": restored.checkpoint.step,
        "out": str(options.out.absolute()),
        "complete": all(c.synthetic >= c.requested for c in classes),
        "imbalance_rate_before": imbalance_rate({c.name: c.real for c in classes}),
        "imbalance_rate_after": imbalance_rate({c.name: c.real + c.synthetic for c in classes}),
        "classes": [
            {
                "name": c.name,
                "real": c.real,
                "synthetic": c.synthetic,
                "rejected": c.rejected,
                "refused": c.refused,  # those of `rejected` that failed the quality filter
            }
            for c in classes
        ],
        "short": [c.name for c in classes if c.synthetic < c.requested],
        "sampling": options.sampling.to_json(),
        "notes": notes,
        "report": None,
        "extractor": None,
    }


def _plan(restored: Restored, data: TrainingSet, need: dict[str, int], options: AugmentOptions) -> dict[str, Any]:
    """Return everything that determines the output's bytes."""
    return {
        "checkpoint": restored.checkpoint.sha256,
        "data": data.store.fingerprint,
        "version": __version__,
        "need": need,
        **({} if options.sampling == SamplingOptions() else {"sampling": options.sampling.to_json()}),
        **{name: getattr(options, name) for name in ("real", "filter", "sampler", "out_size", "format", "seed")},
    }


def _report(
    restored: Restored,
    data: TrainingSet,
    filled: Filled,
    result: dict[str, Any],
    real: list[export.RealFile],
    options: AugmentOptions,
    judging: Judging,
    progress: Progress,
) -> dict[str, Any]:
    """Measure, judge and write the report; returns its document."""
    made = {c.name for c in filled.classes if c.synthetic}
    train = set(data.split_rows.tolist())
    real_files = [options.out / f.target for f in real if f.label in made and f.row in train]
    extractor = judge.run_extractor(data, judging, progress)
    inp = judge.run_input(
        restored,
        data,
        filled.classes,
        result["assignment"],
        judging,
        title=f"Balanced {data.folder.root.name}",
        delivered=True,
        notes=result["notes"],
        shortcuts=shortcut_checks(real_files, [options.out / name for name in filled.names]),
        progress=progress,
    )
    document = judge.report_document(inp, extractor, judging, progress)
    write_report(document, inp, options.out, figures=restored.run.path / "figures")
    return document


def _write_card(
    restored: Restored,
    data: TrainingSet,
    result: dict[str, Any],
    document: dict[str, Any] | None,
    options: AugmentOptions,
    before: str | None,
    note: Callable[[str], None],
) -> str:
    """Write the balanced folder's README.md unless it was edited since its hash was `before`; returns its hash."""
    path = options.out / "README.md"
    if before and path.is_file() and sha256(path) != before:
        note("README.md was edited, so it is left unchanged")
        return before
    size = data.store.settings.image_size
    card = Card(
        source=data.folder.root.name,
        method=restored.method.title,
        paper=restored.method.paper,
        run=restored.run.name,
        number=restored.run.number,
        checkpoint_sha256=restored.checkpoint.sha256,
        counts={c["name"]: (c["real"], c["synthetic"]) for c in result["classes"]},
        imbalance_rates=(result["imbalance_rate_before"], result["imbalance_rate_after"]),
        image_size=f"{size}x{size}" if options.out_size == "model" else "those of the real images of their class",
        model_size=size,
        split_dirs=tuple(data.folder.split_dirs.values()),
        untouched=int((data.store.splits != "train").sum()),
        real_included=options.real != "none",
        short=tuple(result["short"]),
        verdict=document["utility"].get("headline", "") if document else "",
        copies=copies_line(document),
        notes=result["notes"],
        report=document is not None,
    )
    with disk_errors("write README.md"):
        write_atomic(path, dataset_card(card))
    return sha256(path)
