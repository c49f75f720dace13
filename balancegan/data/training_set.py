"""A run's training set: the store, which of its rows are trained on or held out, and how to reopen it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from balancegan.core.config import MethodConfig
from balancegan.core.errors import CheckpointError, DatasetError
from balancegan.core.progress import Progress, silent
from balancegan.core.rows import rows_by_class
from balancegan.core.text import printable
from balancegan.data.decode import DecodeSettings
from balancegan.data.groups import group_keys
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

    @property
    def unseen_rows(self) -> np.ndarray:
        """Rows no network was trained on: the test or val split, or the held-out part."""
        return self.other_rows if len(self.other_rows) else self.holdout_rows

    @property
    def split_rows(self) -> np.ndarray:
        """Rows of the training split on disk: trained on or held out."""
        return np.concatenate([self.train_rows, self.holdout_rows])

    @property
    def without_holdout(self) -> list[str]:
        """Classes with five or more images of which none could be held out, because their groups are too large."""
        if not self.holdout_wanted:
            return []
        held = np.bincount(self.labels[self.holdout_rows], minlength=len(self.class_names))
        large = {name for name, n in self.split_counts().items() if n >= MIN_CLASS}
        return [name for name, n in zip(self.class_names, held, strict=True) if n == 0 and name in large]

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
                "files": [self.store.files[i].rel for i in self.holdout_rows],
            },
        }


def open_training_set(
    data: str | Path, cfg: MethodConfig, *, strict: bool = False, progress: Progress = silent
) -> TrainingSet:
    """Scan, decode (or reuse the cache) and split. Raises `UsageError`, `DatasetError` or `DiskError`."""
    folder = scan(data, progress=progress)
    settings = DecodeSettings(
        image_size=cfg.image_size, channels=cfg.channels or None, fit=cfg.fit, background=cfg.background_rgb
    )
    store = open_store(folder, settings, strict=strict, progress=progress)
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
    holdout = np.zeros(len(rows), bool)
    wanted = not len(others) and cfg.holdout > 0
    if wanted:
        paths = [store.files[i].rel for i in rows]
        keys = group_keys(paths, cfg.group_by, store.pixel_digests(rows))
        holdout = choose_holdout(labels[rows], keys, cfg.holdout, cfg.holdout_seed)
    names = tuple(store.classes[i] for i in present)
    whole = TrainingSet(folder, store, names, labels, rows[~holdout], rows[holdout], others, wanted)
    return whole.thinned(cfg.train_ir, cfg.holdout_seed) if cfg.train_ir else whole


def reopen_training_set(
    recorded: dict[str, Any], cfg: MethodConfig, *, data: str | Path | None = None, progress: Progress = silent
) -> TrainingSet:
    """Reopen the set that dataset.json describes, at its recorded location or at `data`.

    Raises `DatasetError` if the data moved or changed, `CheckpointError` if the record is damaged or the held-out part
    cannot be reproduced.
    """
    try:
        source, fingerprint = Path(data or recorded["data"]), recorded["fingerprint"]
        held_out, before = recorded["holdout"]["files"], sum(recorded["train_counts"].values())
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError("the run's dataset.json is damaged", "choose another run") from None
    if data is None and not _is_folder(source):
        where = printable(str(source)[:300])
        raise DatasetError(f"the run's data is no longer at {where}", "give its new location with --data DIR")
    found = open_training_set(source, cfg, progress=progress)
    if found.store.fingerprint != fingerprint:
        now = len(found.train_rows)
        raise DatasetError(
            f"{printable(str(source))} is not the data this run was trained on: the fingerprints differ "
            f"({before} training images then, {now} now)",
            "give the original folder with --data, or train again on the changed data",
        )
    if [found.store.files[i].rel for i in found.holdout_rows] != held_out:
        raise CheckpointError("the run's held-out images cannot be reproduced", "train again with this version")
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not a valid name on this file system
        return False
