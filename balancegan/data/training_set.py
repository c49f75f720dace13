"""A run's training set: the store, which of its rows are trained on or held out, and how to reopen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.config import MethodConfig
from balancegan.core.errors import CheckpointError, DatasetError
from balancegan.core.options import AUTO, NONE
from balancegan.core.progress import Progress, silent
from balancegan.core.rows import rows_by_class
from balancegan.core.text import printable
from balancegan.data.decode import DecodeSettings, Reading
from balancegan.data.groups import group_summary, image_groups, of_one_group
from balancegan.data.holdout import MIN_CLASS, choose_holdout
from balancegan.data.imbalance import thin
from balancegan.data.scan import ImageFolder, scan
from balancegan.data.store import Store, open_store


@dataclass(frozen=True)
class TrainingSet:
    """The classes with at least one training image, in sorted order; `labels` index into `class_names`.

    `train_rows` and `holdout_rows` are rows of `store.images`; both belong to the training split on disk. The
    held-out part is empty if the data has a val or test split, which is used instead (`other_rows`).
    """

    folder: ImageFolder
    store: Store
    class_names: tuple[str, ...]
    labels: np.ndarray  # (N,) for every row of the store; -1 where the class is not trained on
    train_rows: np.ndarray
    holdout_rows: np.ndarray
    other_rows: np.ndarray
    holdout_wanted: bool
    group_by: str = NONE  # the rule of `groups`
    progress: Progress = silent  # of the search for siblings
    known_groups: NDArray[np.int64] | None = None  # of an earlier search

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group numbers (N,) for every row of the store: no split may divide a group. See `data.groups`.

        A first search for siblings takes minutes for tens of thousands of images; the store remembers what it found.
        """
        if self.known_groups is not None:
            return self.known_groups
        return image_groups(self.folder, self.store, self.group_by, progress=self.progress)

    @property
    def grouped(self) -> dict[str, int]:
        """How the training split on disk is grouped; see `group_summary`."""
        return group_summary(self.groups[self.split_rows])

    @property
    def spare_rows(self) -> np.ndarray:
        """Rows of a val split that nothing else uses, because there is a test split too; empty without one.

        Images whose group has training images are left out.
        """
        val = self.store.indices("val")
        val = val[self.labels[val] >= 0]
        if not len(val) or not len(self.other_rows) or self.store.splits[self.other_rows[0]] == "val":
            return val[:0]
        return val[~np.isin(self.groups[val], self.groups[self.train_rows])]

    @property
    def unseen_rows(self) -> np.ndarray:
        """Rows no network was trained on: the test or val split, or the held-out part."""
        return self.other_rows if len(self.other_rows) else self.holdout_rows

    @property
    def independent_rows(self) -> np.ndarray:
        """Those of `unseen_rows` whose group has no training image."""
        return self.unseen_rows[~np.isin(self.groups[self.unseen_rows], self.groups[self.train_rows])]

    @property
    def split_rows(self) -> np.ndarray:
        """Rows of the training split on disk: trained on or held out."""
        return np.concatenate([self.train_rows, self.holdout_rows])

    @property
    def median_side(self) -> int:
        """Median of the longer side in pixels of the training split's images, as they are in their files."""
        return int(np.median(self.store.native_sizes[self.split_rows].max(axis=1)))

    @property
    def held_out(self) -> list[str]:
        """Names of the held-out images."""
        return [self.store.files[i].rel for i in self.holdout_rows]

    @property
    def without_holdout(self) -> list[str]:
        """Classes with five or more images of which none could be held out, because their groups are too large."""
        if not self.holdout_wanted:
            return []
        held = np.bincount(self.labels[self.holdout_rows], minlength=len(self.class_names))
        large = {name for name, n in self.split_counts().items() if n >= MIN_CLASS}
        return [name for name, n in zip(self.class_names, held, strict=True) if n == 0 and name in large]

    @property
    def of_one_group(self) -> list[str]:
        """Classes whose images in the training split on disk all belong to one group: no honest test is possible."""
        rows = self.split_rows
        return [self.class_names[k] for k in of_one_group(self.labels[rows], self.groups[rows])]

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training images per class, without the held-out part."""
        return tuple(np.bincount(self.labels[self.train_rows], minlength=len(self.class_names)).tolist())

    def by_class(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split rows of the store by class, keeping their order."""
        return [rows[mine] for mine in rows_by_class(self.labels[rows], len(self.class_names))]

    def thinned(self, ir: float, seed: int) -> TrainingSet:
        """Return a copy with fewer training images, so that their imbalance rate is `ir`; see `data.imbalance.thin`."""
        files = self.store.files
        members = {
            name: sorted(rows.tolist(), key=lambda i: files[i].rel)
            for name, rows in zip(self.class_names, self.by_class(self.train_rows), strict=True)
        }
        kept = [row for rows in thin(members, ir, seed).values() for row in rows]
        return replace(self, train_rows=np.array(sorted(kept)))

    def split_counts(self) -> dict[str, int]:
        """Return the images per class in the training split on disk, including the held-out part."""
        counts = np.bincount(self.labels[self.split_rows], minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))

    def describe(self, cfg: MethodConfig) -> dict[str, Any]:
        """Return the content of dataset.json."""
        return {
            "schema_version": 1,
            "data": str(self.folder.root),
            **self.store.summary(),
            "trained_classes": list(self.class_names),
            "train_counts": dict(zip(self.class_names, self.class_counts, strict=True)),
            "holdout": {
                "fraction": cfg.holdout if not len(self.other_rows) else 0.0,
                "group_by": cfg.group_by,
                "seed": cfg.holdout_seed,
                "files": self.held_out,
            },
            "groups": self.grouped if self.holdout_wanted else None,
        }


def open_training_set(
    data: str | Path,
    cfg: MethodConfig,
    *,
    held_out: Sequence[str] | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> TrainingSet:
    """Scan, decode (or reuse the cache) and split; `held_out` names the images that an earlier split held out.

    Raises `UsageError`, `DatasetError` or `DiskError`, and `CheckpointError` if an image in `held_out` is missing.
    """
    return _split(*_open(data, cfg, strict, progress), cfg, held_out, progress)


def _open(data: str | Path, cfg: MethodConfig, strict: bool, progress: Progress) -> tuple[ImageFolder, Store]:
    folder = scan(data, cfg.data_options, progress=progress)
    reading = Reading.of(cfg.data_options, cfg.background_rgb)
    settings = DecodeSettings(cfg.image_size, cfg.channels or None, cfg.fit, reading)
    return folder, open_store(folder, settings, strict=strict, progress=progress)


def _split(
    folder: ImageFolder, store: Store, cfg: MethodConfig, held_out: Sequence[str] | None, progress: Progress
) -> TrainingSet:
    rows = store.indices("train")
    present = np.unique(store.labels[rows])
    if len(present) < 2:
        raise DatasetError(
            "fewer than two classes have a readable training image", "run `balancegan inspect` to see why"
        )
    labels = np.full(len(store.classes), -1, np.int64)
    labels[present] = np.arange(len(present))
    labels = labels[store.labels]
    others = next((found for split in ("test", "val") if len(found := store.indices(split))), rows[:0])
    others = others[labels[others] >= 0]
    names = tuple(store.classes[i] for i in present)
    wanted = not len(others) and cfg.holdout > 0
    whole = TrainingSet(folder, store, names, labels, rows, rows[:0], others, wanted, cfg.group_by, progress)
    if held_out is not None:
        held = _rows_of(held_out, store, rows)
    elif wanted:
        held = choose_holdout(labels[rows], whole.groups[rows].tolist(), cfg.holdout, cfg.holdout_seed)
    else:
        if cfg.group_by not in (AUTO, NONE):
            _ = whole.groups  # find a mistake in what the user wrote now, not in the verdict
        held = np.zeros(len(rows), bool)
    known = whole.groups if "groups" in vars(whole) else None
    whole = replace(whole, train_rows=rows[~held], holdout_rows=rows[held], known_groups=known)
    return whole.thinned(cfg.train_ir, cfg.holdout_seed) if cfg.train_ir else whole


def _rows_of(held_out: Sequence[str], store: Store, rows: np.ndarray) -> np.ndarray:
    """Return which of the rows (n,) these files are."""
    names = {name: k for k, name in enumerate(store.files[i].rel for i in rows)}
    held = np.zeros(len(rows), bool)
    for name in held_out:
        if name not in names:
            raise CheckpointError(
                f"{printable(name[:300])}, which the run held out, is not among the training images",
                "give the original folder with --data, or train again",
            )
        held[names[name]] = True
    return held


def recorded_holdout(recorded: dict[str, Any]) -> list[str]:
    """Return the names of the images that dataset.json says were held out. `CheckpointError` if it is damaged."""
    try:
        held_out = recorded["holdout"]["files"]
        if isinstance(held_out, list) and all(isinstance(name, str) for name in held_out):
            return held_out
    except (KeyError, TypeError):
        pass
    raise CheckpointError("the run's dataset.json is damaged", "choose another run")


def reopen_training_set(
    recorded: dict[str, Any], cfg: MethodConfig, *, data: str | Path | None = None, progress: Progress = silent
) -> TrainingSet:
    """Reopen the set that dataset.json describes, at its recorded location or at `data`, with the same images held out.

    Raises `DatasetError` if the data moved or changed, `CheckpointError` if the record is damaged.
    """
    held_out = recorded_holdout(recorded)
    try:
        source, fingerprint = Path(data or recorded["data"]), recorded["fingerprint"]
        before = sum(recorded["counts"]["train"].values())
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError("the run's dataset.json is damaged", "choose another run") from None
    if data is None and not _is_folder(source):
        where = printable(str(source)[:300])
        raise DatasetError(f"the run's data is no longer at {where}", "give its new location with --data DIR")
    folder, store = _open(source, cfg, False, progress)
    if store.fingerprint != fingerprint:
        raise DatasetError(
            f"{printable(str(source))} is not the data this run was trained on: the fingerprints differ "
            f"({before} training images then, {len(store.indices('train'))} now)",
            "give the original folder with --data, or train again on the changed data",
        )
    return _split(folder, store, cfg, held_out, progress)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not a valid name on this file system
        return False
