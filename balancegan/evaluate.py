"""`evaluate`: the quality report of a run's generator, or of any folder of synthetic images beside a real one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from balancegan import __version__, judge
from balancegan.assigned import assignment_json, assignment_notes, confusion, distribution_json
from balancegan.batches import RowReader
from balancegan.data.decode import DecodeSettings, ImageError, read_header
from balancegan.data.inspect import imbalance_rate
from balancegan.data.metadata import read_table
from balancegan.data.scan import ImageFile, ImageFolder, scan
from balancegan.data.store import Store, open_store
from balancegan.data.training_set import TrainingSet, reopen_training_set
from balancegan.errors import CheckpointError, UsageError
from balancegan.files import disk_errors, refuse_source
from balancegan.grouping import rows_by_class
from balancegan.judge import Judging
from balancegan.progress import Progress, silent
from balancegan.report.compute import ReportInput
from balancegan.report.measures import ClassImages
from balancegan.report.shortcuts import shortcut_checks
from balancegan.restore import Restored, restore
from balancegan.rundir import AUTO, RunDir
from balancegan.sample import first_images, make_samplers
from balancegan.utility import Material, Pool, stratified_split

Json = dict[str, Any]
Note = Callable[[str], None]

OUT = Path("evaluation")
MEASURED = 500  # images per class that are generated for the measures, where the folder would need fewer
SIDES = (8, 128)  # pixels at which two folders are compared, at least and at most
_HALVED = (
    "Half of the real images trained the small network behind the features; the other half is what the synthetic "
    "images are compared with. Near-copies are searched among all."
)

REPORT = ("report.html", "report.json")


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` can be asked for beside its `Judging`."""

    out: Path | None = None  # a run's report/ or `OUT`
    data: Path | None = None
    images: int | None = None  # per class, from a run
    image_size: int | None = None  # for two folders
    fail_under: str | float | None = None
    checkpoint: str = AUTO  # of a run


# --- a run ------------------------------------------------------------------------------------------------------------


def evaluate_run(
    run: RunDir, options: EvaluateOptions, judging: Judging, *, progress: Progress = silent, note: Note | None = None
) -> Json:
    """Generate images of every class, without any filter, and report on them; returns the command's document.

    The classifiers get as many of each class as `augment --target-ir 1` would add. Raises as `augment` does.
    """
    if options.image_size is not None:
        raise UsageError("--image-size is for two folders: a run has its own", "leave it out")
    restored = restore(run, judging.device, warn=note, checkpoint=options.checkpoint)
    if not restored.trained:
        raise CheckpointError(f"{run.name} stopped before its first adversarial step", "continue its training first")
    data = reopen_training_set(run.read_json("dataset.json"), restored.method.cfg, data=options.data, progress=progress)
    out = options.out or run.path / "report"
    _check_out(out, data.folder, given=options.out is not None)
    _try_out(out)
    restored.make_ready(data)
    classes = _generate(restored, data, options.images or min(MEASURED, judging.limit), progress)
    extractor = judge.run_extractor(data, judging, progress)
    assignment = _assignment(restored, data, judging, progress)
    notes, warnings = assignment_notes(assignment)
    inp = ReportInput(
        title=f"Evaluation of {run.name}",
        method=restored.method.title,
        run=run.name,
        data=str(data.folder.root),
        classes=tuple(classes),
        ir_before=imbalance_rate({c.name: c.real for c in classes}),
        ir_after=imbalance_rate({c.name: c.real + c.synthetic for c in classes}),
        complete=all(c.synthetic >= c.requested for c in classes),
        delivered=False,
        warnings=[*restored.warnings, *warnings],
        balancegan_version=__version__,
        notes=[
            "Nothing was written but this report. Counts are those of a folder filled to imbalance rate 1; the images "
            "are the generator's first ones, none of them filtered out.",
            *notes,
            *data.store.notes,
        ],
        distribution=(assignment or {}).get("distribution"),
        utility=judge.verdict_of(lambda: judge.run_material(data, classes), judging, progress),
        **judge.run_pictures(restored, data, plain=True, progress=progress),
    )
    document = judge.write(inp, extractor, out, judging, figures=out / "figures", progress=progress)
    return _result(document, out, options, run=str(run.path), step=restored.checkpoint.step)


def _generate(restored: Restored, data: TrainingSet, measured: int, progress: Progress) -> list[ClassImages]:
    """The first images of every class: as many as it lacks, and enough to measure."""
    samplers = make_samplers(restored.method, restored.device)
    counts = data.split_counts()
    goal = max(counts.values())
    train, unseen = (
        [rows[mine] for mine in rows_by_class(data.labels[rows], len(data.class_names))]
        for rows in (data.train_rows, data.unseen_rows)
    )
    classes = []
    for label, name in enumerate(data.class_names):
        need = goal - counts[name]
        _, fake = first_images(samplers, label, max(measured, min(need, judge.REPORT_IMAGES)))
        short = len(fake) < min(need, judge.REPORT_IMAGES)
        classes.append(
            ClassImages(
                name=name,
                real_train=data.store.images[train[label]],
                real_holdout=data.store.images[unseen[label]],
                fake=fake,
                real=counts[name],
                synthetic=len(fake) if short else need,
                requested=need,
            )
        )
        progress("generate", label + 1, len(data.class_names))
    return classes


def _assignment(restored: Restored, data: TrainingSet, judging: Judging, progress: Progress) -> Json | None:
    """How the classes were assigned, for a method that is not asked for them."""
    if restored.method.conditional:
        return None
    confused = confusion(restored, data)
    shares = distribution_json(restored, data, confused, progress=progress)
    return {**assignment_json(restored, data, confused, {}), "distribution": shares}


# --- two folders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """One of the two folders."""

    folder: ImageFolder
    store: Store
    wanted: np.ndarray  # (N,) which rows count: of a balanced folder only the real or only the synthetic ones

    @cached_property
    def _members(self) -> dict[tuple[str, str], np.ndarray]:
        """Rows of each split and class."""
        found: dict[tuple[str, str], np.ndarray] = {}
        for split in np.unique(self.store.splits).tolist():
            rows = np.flatnonzero((self.store.splits == split) & self.wanted)
            of_class = rows_by_class(self.store.labels[rows], len(self.store.classes))
            found |= {(split, name): rows[mine] for name, mine in zip(self.store.classes, of_class, strict=True)}
        return found

    def rows(self, name: str, splits: tuple[str, ...]) -> np.ndarray:
        """Rows of a class in the given splits, ascending."""
        found = [self._members[split, name] for split in splits if (split, name) in self._members]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def pool(self, names: list[str], split: str | None) -> Pool:
        """Images of the classes in a split, class by class, and their positions among the names; none without a split.

        Read from the store's file, so that its pages are not in memory a second time.
        """
        rows = [self.rows(name, (split,)) if split else np.empty(0, np.int64) for name in names]
        images = RowReader(self.store.images)(np.concatenate([np.empty(0, np.int64), *rows]))
        return Pool(images, np.repeat(np.arange(len(names)), [len(of_class) for of_class in rows]))

    def files(self, names: list[str], splits: tuple[str, ...]) -> list[Path]:
        """Their files."""
        rows = [row for name in names for row in self.rows(name, splits)]
        return [self.folder.path(self.store.files[row]) for row in rows]


def evaluate_folders(
    real: Path,
    fake: Path,
    options: EvaluateOptions,
    judging: Judging,
    *,
    progress: Progress = silent,
) -> Json:
    """Report on the synthetic images of one folder beside the real ones of another; returns the command's document.

    Classes go by their folders' names. Where `real` has a test or val split, that is what everything is compared and
    tested with; otherwise all its images are, and the classifiers' test images are split off it, again for each seed.
    Of a folder that `augment` wrote, only the real or only the synthetic images count. Raises `UsageError`,
    `DatasetError`, `WeightsMissingError`, `CheckpointError`, `DiskError`.
    """
    if options.data is not None or options.images is not None:
        raise UsageError("--data and --images are for a run", "leave them out")
    folders = [scan(path, least_classes=1, progress=progress) for path in (real, fake)]
    out = options.out or OUT
    for folder in folders:
        _check_out(out, folder, given=True)
    ours, theirs = _open_both(folders, options.image_size, progress)
    unknown = sorted(set(theirs.store.classes) - set(ours.store.classes))
    names = list(ours.store.classes)
    if len(unknown) == len(theirs.store.classes):
        raise UsageError(
            f"{fake} and {real} have no class in common",
            f"classes go by folder names: {_some(unknown)} there, {_some(names)} here",
        )
    held = next((split for split in ("test", "val") if (ours.store.splits == split).any()), None)
    train, test, fakes = ours.pool(names, "train"), ours.pool(names, held), theirs.pool(names, "train")
    classes = _folder_classes(names, train, test, fakes)
    if not any(len(c.fake) for c in classes):
        raise UsageError(f"{fake} holds no synthetic image of a class of {real}", "see its metadata.csv")
    if not len(train):
        raise UsageError(f"{real} holds no real images for training", "see its metadata.csv: only real ones count here")
    _try_out(out)
    seen = np.arange(len(train))
    notes = [f"Both folders are compared at {ours.store.settings.image_size} pixels a side, whatever their files have."]
    if judging.choice.name == "own" and not held:
        # A network knows the images that it was trained on better than others: they would seem apart from new ones.
        seen, rest = stratified_split(train.labels, 0.5, seed=judging.seed)
        of_class = rows_by_class(train.labels[rest], len(names))
        classes = [replace(c, reference=train.images[rest[mine]]) for c, mine in zip(classes, of_class, strict=True)]
        notes.append(_HALVED)
    own = judge.own_extractor(train.images, seen, train.labels, len(names), judging, progress)
    extractor = judging.choice.open(own, device=str(judging.device), progress=progress)

    def material() -> Material:
        return Material(
            names=names,
            real=train,
            fake=fakes,
            test=test if held else None,
            kind=held or "splits",
            delivered=[len(c.fake) for c in classes],
            may_have_seen=True,
        )

    made = [c.name for c in classes if len(c.fake)]
    inp = ReportInput(
        title=f"{fake.resolve().name} beside {real.resolve().name}",
        method="",
        run="",
        data=f"{real} (real), {fake} (synthetic)",
        classes=tuple(classes),
        ir_before=imbalance_rate({c.name: c.real for c in classes}),
        ir_after=imbalance_rate({c.name: c.real + c.synthetic for c in classes}),
        complete=True,
        origin="folders",
        delivered=False,
        shortcuts=shortcut_checks(ours.files(made, ("train",)), theirs.files(made, ("train",))),
        warnings=[f"{_some(unknown)}: only among the synthetic images; left out."] if unknown else [],
        balancegan_version=__version__,
        notes=[_unknown_generator(held), *notes, *ours.store.notes, *theirs.store.notes],
        utility=judge.verdict_of(material, judging, progress),
    )
    document = judge.write(inp, extractor, out, judging, figures=out / "figures", progress=progress)
    return _result(document, out, options, real=str(real.absolute()), fake=str(fake.absolute()))


def _open_both(folders: list[ImageFolder], size: int | None, progress: Progress) -> tuple[_Side, _Side]:
    """Decode both at one size, in colour if either has any."""
    side = size or _common_side(folders[1], _synthetic(folders[1], folders[1].files, none=True))
    stores = [_store(folder, DecodeSettings(image_size=side), progress) for folder in folders]
    if len({store.images.shape[1] for store in stores}) > 1:
        stores = [_store(folder, DecodeSettings(image_size=side, channels=3), progress) for folder in folders]
    (real, ours), (fake, theirs) = zip(folders, stores, strict=True)
    kept = ~_synthetic(real, ours.files, none=False)
    return _Side(real, ours, kept), _Side(fake, theirs, _synthetic(fake, theirs.files, none=True))


def _store(folder: ImageFolder, settings: DecodeSettings, progress: Progress) -> Store:
    return open_store(folder, settings, least_classes=1, progress=progress)


def _common_side(folder: ImageFolder, wanted: np.ndarray) -> int:
    """The usual longer side of the synthetic images, within `SIDES`: real ones are rarely smaller."""
    sides = []
    rows = np.flatnonzero(wanted)
    for row in rows[:: max(1, len(rows) // 50)]:
        try:
            sides.append(max(read_header(folder.path(folder.files[row])).size))
        except ImageError:
            continue
    return int(np.clip(np.median(sides or [64]), *SIDES))


def _synthetic(folder: ImageFolder, files: Sequence[ImageFile], *, none: bool) -> np.ndarray:
    """Which files (N,) are synthetic by the folder's metadata.csv; `none` where it does not say."""
    told: dict[str, bool] = {}
    for prefix in {"", *(f"{name}/" for name in folder.split_dirs.values())}:
        table = folder.root / f"{prefix}metadata.csv"
        if table.is_file():
            for row in read_table(table):
                if row.get("file_name") and "synthetic" in row:
                    told[prefix + row["file_name"]] = row["synthetic"].strip().lower() in ("1", "true", "yes")
    return np.array([told.get(file.rel, none) for file in files], bool)


def _folder_classes(names: list[str], train: Pool, test: Pool, fakes: Pool) -> list[ClassImages]:
    """The classes' images, which are views of the pools."""
    parts = [np.split(pool.images, np.searchsorted(pool.labels, range(1, len(names)))) for pool in (train, test, fakes)]
    return [
        ClassImages(
            name=name,
            real_train=real,
            real_holdout=held,
            fake=fake,
            real=len(real),
            synthetic=len(fake),
            requested=len(fake),
        )
        for name, real, held, fake in zip(names, *parts, strict=True)
    ]


def _unknown_generator(held: str | None) -> str:
    """What cannot be known of a folder."""
    where = f"its {held} split" if held else "some of the images that the classifiers are tested on here"
    return (
        "What the generator was trained on is not known: near-copies are searched among the real training images given "
        f"here, and if the generator saw {where}, the synthetic images look better on this page than they are."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# --- both -------------------------------------------------------------------------------------------------------------


def _check_out(out: Path, source: ImageFolder, *, given: bool) -> None:
    """Refuse a folder of the data, and one with files that are not a report's; a report there is replaced."""
    refuse_source(out, source.folders())
    if not given:
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "choose another folder with --out")
    with disk_errors(f"read {out}"):
        foreign = out.is_dir() and [p for p in out.iterdir() if p.name not in (*REPORT, "figures")]
    if foreign:
        raise UsageError(f"{out} holds other files, such as {foreign[0].name}", "choose a new folder with --out")


def _try_out(out: Path) -> None:
    """Find out now whether the report can be written, not after all the work."""
    with disk_errors(f"write to {out}"):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".tmp-{os.getpid()}"
        probe.touch()
        probe.unlink()


def _result(document: Json, out: Path, options: EvaluateOptions, **what: Any) -> Json:
    """The command's document: the report's measures, without its pictures' data."""
    left_out = ("pairs",)
    return {
        "schema_version": 1,
        **what,
        "out": str(out.absolute()),
        "report": str((out / REPORT[0]).absolute()),
        "extractor": document["extractor"]["name"],
        "classes": [{key: value for key, value in row.items() if key not in left_out} for row in document["classes"]],
        "overall": document["overall"],
        "utility": document["utility"],
        "findings": document["findings"],
        "notes": document["notes"],
        "gate": judge.gate_json(document["utility"], options.fail_under),
    }
