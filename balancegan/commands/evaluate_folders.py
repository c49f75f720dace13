"""`evaluate REAL FAKE`: a report about two folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from balancegan.commands.evaluate_run import OUT, EvaluateOptions, check_out, command_document, try_out
from balancegan.core.config import require_group_rule
from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.options import AUTO, DataOptions
from balancegan.core.progress import Progress, silent
from balancegan.core.rows import rows_by_class
from balancegan.core.text import printable
from balancegan.data.batches import RowReader
from balancegan.data.decode import DecodeSettings, Reading, read_header
from balancegan.data.groups import image_groups, of_one_group
from balancegan.data.refused import ImageError
from balancegan.data.scan import ImageFolder, scan
from balancegan.data.store import Store, open_store
from balancegan.evaluation import assembly as judge
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.document import ReportInput
from balancegan.evaluation.leaks import folder_leaks
from balancegan.evaluation.shortcuts import shortcut_checks
from balancegan.folder.metadata import synthetic_images
from balancegan.folder.recipe import Recipe, first_of, mixed_classes, recipe_json
from balancegan.folder.recipe_search import search_recipe
from balancegan.metrics.kept_classes import safe_changes
from balancegan.report.write import write_report
from balancegan.verdict.material import (
    REPORT_IMAGES,
    TEST_SHARE,
    ClassImages,
    Material,
    Pool,
    Varied,
    folder_material,
    stratified_split,
    transformed_pool,
)

_SET_ASIDE = (
    "The real folder has no test split, so a part of its images was set aside: the verdict tests on them, and the "
    "recipe was chosen without them."
)
SIDES = (8, 128)  # least and most pixels per side at which folders are compared
_HALVED = (
    "The small network behind the features was trained on half of the real images; the synthetic images are compared "
    "with the other half. The search for near-copies covers all of them."
)


# --- two folders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """One of the two folders."""

    folder: ImageFolder
    store: Store
    wanted: np.ndarray  # (N,) rows to use: of a balanced folder only the real or only the synthetic ones

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
        """Images of the classes in a split, class by class, labelled by position in `names`; none without a split.

        Read from the store's file, so that its pages are not in memory twice.
        """
        rows = self._of(names, split)
        labels = np.repeat(np.arange(len(names)), [len(of_class) for of_class in rows])
        return Pool(RowReader(self.store.images)(np.concatenate(rows)), labels)

    def _of(self, names: list[str], split: str | None) -> list[np.ndarray]:
        return [self.rows(name, (split,) if split else ()) for name in names]

    def groups(self, names: list[str], splits: Sequence[str | None], rule: str, progress: Progress) -> list[np.ndarray]:
        """Group numbers (n,) of the images that `pool` returns of each split; see `data.groups`."""
        among = None if self.wanted.all() else self.wanted
        found = image_groups(self.folder, self.store, rule, among=among, progress=progress)
        return [found[np.concatenate(self._of(names, split))] for split in splits]

    def files(self, names: list[str], splits: tuple[str, ...]) -> list[Path]:
        """Paths of the classes' images in the given splits."""
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
    """Report on the synthetic images of one folder against the real ones of another; returns the command's document.

    Classes are matched by folder name. If `real` has a test or val split, the synthetic images are compared with it and
    classifiers are tested on it; otherwise all of `real` is used, and each seed splits off its own test images. From a
    folder that `augment` wrote, only the real or only the synthetic images are used. Raises `UsageError`,
    `DatasetError`, `WeightsMissingError`, `CheckpointError`, `DiskError`.
    """
    if options.data is not None or options.images is not None:
        raise UsageError("--data and --images apply only to a run", "leave them out")
    rule = options.group_by or AUTO
    require_group_rule(rule)
    folders = _scan_both(real, fake, options.how, progress)
    out = options.out or OUT
    for folder in folders:
        check_out(out, folder, given=True)
    ours, theirs = _open_both(folders, options, progress)
    names = list(ours.store.classes)
    unknown = _unknown_classes(ours, theirs, real, fake)
    held = next((split for split in ("test", "val") if (ours.store.splits == split).any()), None)
    train, test, fakes = ours.pool(names, "train"), ours.pool(names, held), theirs.pool(names, "train")
    _require_images(train, fakes, real, fake)
    try_out(out)
    groups = tested = None
    if judging.utility or not held or options.group_by or options.fill == "auto":
        groups, tested = ours.groups(names, ("train", held), rule, progress)
    notes = [_unknown_generator(held), _common_size(ours.store)]
    if options.fill == "auto" and not held:
        assert groups is not None
        kept, aside = stratified_split(train.labels, TEST_SHARE, judging.seed, groups)
        train, test = _rows_of(train, kept), _rows_of(train, aside)
        groups, tested, held = groups[kept], groups[aside], "holdout"
        notes.append(_SET_ASIDE)
    classes = _folder_classes(names, train, test, fakes)
    seen = np.arange(len(train))
    if groups is not None and not held:
        notes += _of_one_group(names, train.labels, groups)
        # The small classifier knows its own training images, and their features differ from those of new ones.
        seen, rest = _halves(train.labels, groups, judging.seed)
        classes = _with_apart(classes, _rows_of(train, rest), judging.choice.name == "own")
        notes += [_HALVED] if judging.choice.name == "own" else []
    recipe = varied = None
    if options.fill == "auto":
        recipe, varied = _recipe(classes, train, groups, judging, progress)
        classes = mixed_classes(classes, recipe, _fill(classes), more=False)
    own = judge.own_extractor(train.images, seen, train.labels, len(names), judging, progress)
    extractor = judging.choice.open(own, device=str(judging.device), progress=progress)

    def material() -> Material:
        sizes = [c.generated for c in classes]
        found = folder_material(names, train, fakes, test, groups, tested, kind=held or "splits", delivered=sizes)
        return replace(found, transformed=varied, varied=[c.transformed for c in classes]) if varied else found

    made = [c.name for c in classes if len(c.fake)]
    inp = ReportInput(
        title=f"{fake.resolve().name} against {real.resolve().name}",
        method="",
        run="",
        data=f"{real} (real), {fake} (synthetic)",
        **judge.class_fields(classes),
        origin="folders",
        delivered=False,
        shortcuts=shortcut_checks(ours.files(made, ("train",)), theirs.files(made, ("train",))),
        warnings=[f"{_some(unknown)}: in the synthetic folder only; left out."] if unknown else [],
        notes=[*notes, *_of_reading(ours), *_of_reading(theirs)],
        utility=judge.verdict_of(material, judging, progress),
        recipe=recipe_json(recipe, classes) if recipe else None,
        leak=folder_leaks(train, test, names, groups, tested),
        classifier=own,
    )
    document = judge.report_document(inp, extractor, judging, progress)
    write_report(document, inp, out, figures=out / "figures")
    return command_document(document, out, options, real=str(real.absolute()), fake=str(fake.absolute()))


def _of_reading(side: _Side) -> list[str]:
    """What to know of how a folder was read."""
    name = printable(side.folder.root.name)
    return [f"{name}: {text}." for text in (*side.folder.warnings, *side.store.notes)]


def _unknown_classes(ours: _Side, theirs: _Side, real: Path, fake: Path) -> list[str]:
    """Names of the synthetic classes that the real folder lacks. Raises `UsageError` if it lacks all."""
    unknown = sorted(set(theirs.store.classes) - set(ours.store.classes))
    if len(unknown) == len(theirs.store.classes):
        raise UsageError(
            f"{fake} and {real} have no class in common",
            f"classes are matched by folder name: {_some(unknown)} against {_some(list(ours.store.classes))}",
        )
    return unknown


def _require_images(train: Pool, fakes: Pool, real: Path, fake: Path) -> None:
    if not len(fakes):
        raise UsageError(f"{fake} has no synthetic images of any class in {real}", "see its metadata.csv")
    if not len(train):
        raise UsageError(f"{real} has no real training images", "see its metadata.csv: only real images are used")


def _rows_of(pool: Pool, rows: np.ndarray) -> Pool:
    return Pool(pool.images[rows], pool.labels[rows])


def _fill(classes: list[ClassImages]) -> list[int]:
    """Synthetic images that each class needs to become as large as the largest."""
    goal = max(c.real for c in classes)
    return [goal - c.real for c in classes]


def _recipe(
    classes: list[ClassImages], train: Pool, groups: np.ndarray | None, judging: Judging, progress: Progress
) -> tuple[Recipe, Varied]:
    """Measure how to mix the images with transformed real ones; also returns those."""
    fill = _fill(classes)
    # Files are often sorted by what made them, so the first few are drawn from all.
    fakes = [c.fake[np.random.default_rng(k).permutation(len(c.fake))] for k, c in enumerate(classes)]
    changes = safe_changes([c.real_train for c in classes])
    material = Material(
        names=[c.name for c in classes],
        real=train,
        fake=Pool(train.images[:0], train.labels[:0]),
        test=None,
        kind="folds",
        delivered=(),
        may_have_seen=True,
        groups=groups,
    )
    recipe = search_recipe(
        material,
        [c.real for c in classes],
        fill,
        changes,
        partial(first_of, fakes),
        device=judging.device,
        progress=progress,
    )
    return recipe, transformed_pool(train, [min(n, REPORT_IMAGES) for n in fill], changes, seed=1)


def _with_apart(classes: list[ClassImages], apart: Pool, as_reference: bool) -> list[ClassImages]:
    """Give every class its real images that the small classifier does not see, perhaps to be compared with too."""
    of_class = [apart.images[mine] for mine in rows_by_class(apart.labels, len(classes))]
    return [
        replace(c, apart=images, reference=images if as_reference else c.reference)
        for c, images in zip(classes, of_class, strict=True)
    ]


def _scan_both(real: Path, fake: Path, how: DataOptions, progress: Progress) -> list[ImageFolder]:
    """List both folders with all their images; `synthetic_images` tells them apart."""
    how = replace(how, synthetic=True)
    ours = scan(real, how, least_classes=1, progress=progress)
    return [ours, scan(fake, replace(how, labels=""), least_classes=1, progress=progress)]


def _open_both(folders: list[ImageFolder], options: EvaluateOptions, progress: Progress) -> tuple[_Side, _Side]:
    """Decode both folders at one size, in colour if either has any, with the real images' brightness window."""
    side = options.image_size or _common_side(folders[1], synthetic_images(folders[1], folders[1].files, none=True))
    settings = DecodeSettings(image_size=side, reading=Reading.of(options.how))
    stores = _stores(folders, settings, progress)
    if len({store.images.shape[1] for store in stores}) > 1:
        stores = _stores(folders, replace(settings, channels=3), progress)
    (real, ours), (fake, theirs) = zip(folders, stores, strict=True)
    kept = ~synthetic_images(real, ours.files, none=False)
    return _Side(real, ours, kept), _Side(fake, theirs, synthetic_images(fake, theirs.files, none=True))


def _stores(folders: list[ImageFolder], settings: DecodeSettings, progress: Progress) -> list[Store]:
    real = open_store(folders[0], settings, least_classes=1, progress=progress)
    settings = replace(settings, window=real.window)
    return [real, open_store(folders[1], settings, least_classes=1, progress=progress)]


def _common_side(folder: ImageFolder, wanted: np.ndarray) -> int:
    """Return the median longer side of the synthetic images, within `SIDES`; real ones are rarely smaller."""
    sides = []
    rows = np.flatnonzero(wanted)
    for row in rows[:: max(1, len(rows) // 50)]:
        try:
            sides.append(max(read_header(folder.path(folder.files[row])).size))
        except ImageError:
            continue
    return int(np.clip(np.median(sides or [64]), *SIDES))


def _folder_classes(names: list[str], train: Pool, test: Pool, fakes: Pool) -> list[ClassImages]:
    """Return the classes' images as views of the pools."""
    parts = [np.split(pool.images, np.searchsorted(pool.labels, range(1, len(names)))) for pool in (train, test, fakes)]
    return [
        ClassImages(
            name=name,
            real_train=real,
            real_holdout=held,
            fake=fake,
            real=len(real),
            generated=len(fake),
            requested=len(fake),
        )
        for name, real, held, fake in zip(names, *parts, strict=True)
    ]


def _unknown_generator(held: str | None) -> str:
    """Return a note on what cannot be known about a folder's generator."""
    where = f"the real folder's {held} split" if held else "some of the classifiers' test images"
    return (
        "It is not known which images the generator was trained on. Near-copies are searched for among the real "
        f"training images given here. If the generator saw {where}, this page makes the synthetic images look better "
        "than they are."
    )


def _halves(labels: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Halve the real images; a class of one group is divided all the same, because it needs images in both halves."""
    alone = np.isin(labels, of_one_group(labels, groups))
    return stratified_split(labels, 0.5, seed, np.where(alone, len(groups) + np.arange(len(groups)), groups))


def _common_size(store: Store) -> str:
    return f"Both folders are compared at {store.settings.image_size} pixels per side, whatever their files' size."


def _of_one_group(names: list[str], labels: np.ndarray, groups: np.ndarray) -> list[str]:
    """Return a note on classes that cannot be split into training and test images."""
    alike = [names[k] for k in of_one_group(labels, groups)]
    which = f"each of {_some(alike)}" if len(alike) > 1 else _some(alike)
    return [f"All real images of {which} belong to one group: no honest test is possible."] if alike else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
