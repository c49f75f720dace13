"""Keep decoded images as a uint8 memory map in the user's cache directory: built once, then opened quickly.

A store is in `<cache>/stores/<key>/`: `images.u8` (N, C, S, S), thumbnails of the files' own pixels, `rows.npz` (which
file each row is, its native size and mode), `meta.json`. The key covers the file list with sizes and times, and the
decode settings; the fingerprint inside covers the content, so that a run recognises its data after the folder has
moved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from balancegan.core.errors import DatasetError, DiskError
from balancegan.core.files import cache_root
from balancegan.core.locks import drop_lock, try_lock
from balancegan.core.progress import Progress, silent
from balancegan.core.text import plural, printable
from balancegan.data.build import SCHEMA, THUMBS, Built, build
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import BadFile, ImageFile, ImageFolder
from balancegan.data.siblings import THUMB_BYTES
from balancegan.data.store_tables import read_tables, write_tables
from balancegan.data.window import Window

STALE_SECONDS = 3600
"""If locks do not work, a temporary folder untouched for this long is dead: a live build touches it continually."""
_LOCK, _OLD = ".lock", "-old"
_RACES = 10  # attempts to replace a damaged store while other processes do the same
UNUSED_SECONDS = 60 * 24 * 3600
"""Stores not opened for this long are removed when a new one is built."""


@dataclass(frozen=True, eq=False)
class Store:
    """Decoded images, read-only.

    Rows are sorted by (split, class, path). `classes` holds only classes that have training images, and `files`
    only rows that decoded; labels (also `files[i].label`) index into `classes`.
    """

    images: NDArray[np.uint8]  # (N, C, S, S), memory map
    labels: NDArray[np.int64]  # (N,)
    splits: NDArray[np.str_]  # (N,)
    files: tuple[ImageFile, ...]
    classes: tuple[str, ...]
    fingerprint: str
    settings: DecodeSettings
    window: Window | None
    bad_files: tuple[BadFile, ...]
    digests: NDArray[np.uint8]  # (N, 16) hashes of the images: equal for equal pixels
    thumbs: NDArray[np.uint8]  # (N, THUMB_BYTES) of the native pixels, memory map; see `data.siblings`
    native_sizes: NDArray[np.int32]  # (N, 2) width, height
    native_modes: tuple[str, ...]
    path: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, split: str | None = None, label: int | None = None) -> NDArray[np.int64]:
        """Return the rows of one split and/or class, ascending."""
        wanted = np.ones(len(self.labels), dtype=bool)
        if split is not None:
            wanted &= self.splits == split
        if label is not None:
            wanted &= self.labels == label
        return np.flatnonzero(wanted).astype(np.int64)

    def pixel_digests(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return a short hash of each of these rows' pixels."""
        return [digest.tobytes() for digest in self.digests[rows]]

    def counts(self, split: str = "train") -> dict[str, int]:
        """Return the decoded images per class name in one split."""
        numbers = np.bincount(self.labels[self.splits == split], minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes, numbers, strict=True)}

    def summary(self) -> dict[str, Any]:
        """Return what a run records about its data, as plain JSON types."""
        s = self.settings
        present = sorted(set(self.splits.tolist()))
        return {
            "fingerprint": self.fingerprint,
            "image_size": s.image_size,
            "channels": s.channels,
            "fit": s.fit,
            "background": list(s.reading.background),
            "window": None if self.window is None else [self.window.low, self.window.high],
            "class_names": list(self.classes),
            "counts": {split: self.counts(split) for split in present},
            "bad_files": [{"path": b.path, "reason": b.reason} for b in self.bad_files],
            "notes": list(self.notes),
        }


def open_store(
    folder: ImageFolder,
    settings: DecodeSettings,
    *,
    strict: bool = False,
    least_classes: int = 2,
    workers: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = silent,
) -> Store:
    """Open the folder's store, building it if it is missing, damaged or out of date.

    Damaged images are left out and listed in `bad_files`; with `strict` they raise a DatasetError. Raises DatasetError
    if fewer than `least_classes` classes have training images left, DiskError if the cache cannot be written.
    """
    if strict and folder.bad_files:
        _refuse(folder.bad_files)
    final = stores_dir(cache_dir) / _key(folder, settings)
    try:
        store = _read_or_build(final, folder, settings, workers, progress)
    except FileNotFoundError:  # another process replaced or removed it in the meantime
        store = _read_or_build(final, folder, settings, workers, progress)
    if strict and store.bad_files:
        _refuse(store.bad_files)
    if len(store.classes) < least_classes:
        least = {1: "one", 2: "two"}.get(least_classes, least_classes)
        raise DatasetError(
            f"fewer than {least} classes have readable training images: "
            f"{printable(', '.join(store.classes)) or 'none'}",
            "run `balancegan inspect` to see which files are damaged",
        )
    return store


def _read_or_build(
    final: Path, folder: ImageFolder, settings: DecodeSettings, workers: int | None, progress: Progress
) -> Store:
    built = read_tables(final, folder)
    if built is None:
        built = _build_into(final, folder, settings, workers, progress)
    else:
        with contextlib.suppress(OSError):
            os.utime(final)
            _clear_dead(final.parent)
    return _open(final, folder, built)


def stores_dir(cache_dir: Path | None = None) -> Path:
    """Return where stores are kept: `cache_dir`, else $BALANCEGAN_CACHE_DIR, else the user's cache directory."""
    return cache_root(cache_dir) / "stores"


def _refuse(bad: tuple[BadFile, ...]) -> None:
    shown = "; ".join(f"{printable(b.path)}: {b.reason}" for b in bad[:3])
    more = f"; and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    raise DatasetError(
        f"{plural(len(bad), 'file')} cannot be used: {shown}{more}",
        "repair or remove them, or leave out --strict to continue without them",
    )


def _key(folder: ImageFolder, settings: DecodeSettings) -> str:
    digest = hashlib.blake2b(digest_size=16)
    head = [SCHEMA, os.path.realpath(folder.root), list(folder.classes), dataclasses.asdict(settings)]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for f in folder.files:
        line = f"{f.rel}\0{f.split}\0{f.label}\0{f.size}\0{f.mtime_ns}\0{f.ctime_ns}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _build_into(
    final: Path, folder: ImageFolder, settings: DecodeSettings, workers: int | None, progress: Progress
) -> Built:
    """Build in a temporary folder, then rename it into place; if another process was faster, use its store."""
    temporary = final.parent / f"tmp-{final.name[:8]}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _clean(final.parent)
        with _alive(temporary):
            temporary.mkdir()
            try:
                built = build(temporary, folder, settings, workers=workers, progress=progress)
                write_tables(temporary, built)
                return _publish(temporary, final, folder, built)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as e:
        raise DiskError(
            f"cannot write the image cache in {final.parent}: {e.strerror or e}",
            "free some space, or set BALANCEGAN_CACHE_DIR to a folder on another disk",
        ) from e


def _publish(temporary: Path, final: Path, folder: ImageFolder, built: Built) -> Built:
    damaged = final.parent / f"{temporary.name}{_OLD}"
    for _ in range(_RACES):
        try:
            temporary.rename(final)
            return built
        except OSError:
            if not final.is_dir():
                raise
        winner = read_tables(final, folder)
        if winner is not None:
            return winner
        with contextlib.suppress(FileNotFoundError):  # another process moved the damaged store first
            final.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    raise DiskError(f"cannot replace the damaged image cache {final}", "remove it")


@contextlib.contextmanager
def _alive(temporary: Path) -> Iterator[None]:
    """Hold a lock next to a temporary folder while it is in use: see `_clean`."""
    lock = _hold(_lock_of(temporary))
    try:
        yield
    finally:
        if lock:
            drop_lock(lock)


def _lock_of(temporary: Path) -> Path:
    return temporary.with_name(temporary.name.removesuffix(_OLD) + _LOCK)


def _hold(path: Path) -> FileLock | None:
    """Return the acquired lock, or None if another process holds it or locks do not work."""
    try:
        return try_lock(path)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()  # otherwise it would look held forever
        return None


def _clear_dead(base: Path) -> None:
    """Remove what builds left behind if their lock is free."""
    for path in base.glob(f"tmp-*{_LOCK}"):
        if lock := _hold(path):  # its process is gone
            temporary = path.with_name(path.name.removesuffix(_LOCK))
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(temporary.with_name(temporary.name + _OLD), ignore_errors=True)
            drop_lock(lock)


def _clean(base: Path) -> None:
    """Remove what dead builds left behind, and stores not opened for two months."""
    _clear_dead(base)
    now = time.time()
    for entry in base.iterdir():
        with contextlib.suppress(OSError):
            unfinished = entry.name.startswith("tmp-")
            if unfinished and _lock_of(entry).exists():
                continue  # a process is working on it, however long ago it last wrote
            if entry.is_dir() and now - entry.stat().st_mtime > (STALE_SECONDS if unfinished else UNUSED_SECONDS):
                shutil.rmtree(entry, ignore_errors=True)


def _open(where: Path, folder: ImageFolder, built: Built) -> Store:
    """Map the pixels and match the rows with files; classes without a training image are left out."""
    s = built.settings
    files = [folder.files[i] for i in built.rows]
    trained = Counter(f.label for f in files if f.split == "train")
    kept = [label for label in range(len(folder.classes)) if trained[label]]
    relabel = {old: new for new, old in enumerate(kept)}
    shape = (len(files), s.channels or 1, s.image_size, s.image_size)
    files = [f if relabel[f.label] == f.label else dataclasses.replace(f, label=relabel[f.label]) for f in files]
    return Store(
        images=_mapped(where / "images.u8", shape),
        labels=np.array([f.label for f in files], dtype=np.int64),
        splits=np.array([f.split for f in files], dtype=np.str_),
        files=tuple(files),
        classes=tuple(folder.classes[label] for label in kept),
        fingerprint=built.fingerprint,
        settings=s,
        window=built.window,
        bad_files=tuple(sorted(folder.bad_files + built.bad_files, key=lambda b: b.path)),
        digests=built.digests,
        thumbs=_mapped(where / THUMBS, (len(files), THUMB_BYTES)),
        native_sizes=built.sizes,
        native_modes=tuple(str(m) for m in built.modes),
        path=where,
        notes=(*_left_out(folder, relabel), *built.notes),
    )


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map a file of bytes, read-only; an empty file cannot be mapped, and is read where the file system maps none."""
    if not shape[0]:
        return np.zeros(shape, np.uint8)
    try:
        return np.memmap(path, np.uint8, "r", shape=shape)
    except FileNotFoundError:
        raise
    except OSError:
        return np.fromfile(path, np.uint8).reshape(shape)


def _left_out(folder: ImageFolder, relabel: dict[int, int]) -> list[str]:
    missing = [name for label, name in enumerate(folder.classes) if label not in relabel]
    return [f"class '{printable(name)}' has no readable training image: left out" for name in missing]
