"""Write the balanced folder: exact copies of real files, synthetic files next to them, metadata.csv for loaders.

A file gets its final name only when it is complete, so the same command can complete the folder after a kill.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from balancegan.compute.machine import usable_cores
from balancegan.core.files import copy_regular, disk_errors, write_atomic, write_json
from balancegan.core.locks import drop_lock
from balancegan.core.rows import blocks
from balancegan.core.text import plural, printable
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes
from balancegan.folder import metadata
from balancegan.folder.destination import MARKER, is_free, lock_folder, require_marker
from balancegan.folder.encode import Encoder, convert_to_png
from balancegan.folder.real_files import (
    MOST_BYTES,
    SUFFIXES,
    SYNTHETIC,
    RealFile,
    folded_name,
    folders_above,
    shortened,
)

IN_FLIGHT, MOST_BYTES_WAITING = 512, 2**28
"""Synthetic images, and bytes of their pixels, that wait to be encoded and written; this bounds the memory."""
TRIES = 20  # at a transformed image that differs from all others of its class
LONGEST_END = 16  # bytes of a name after its stem: a number, if two are alike, and the suffix
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NONE = (
    "-"  # readers infer types per file: an empty text column would become numeric in a split without synthetic images
)


class BalancedFolder:
    """Writes the output folder; use as a context manager, which locks it and waits for pending writes.

    Entering raises `UsageError` if another process holds the folder or has used it for another command meanwhile.
    """

    def __init__(
        self, out: Path, data: TrainingSet, key: str, *, real: str, format: str, out_size: str, flat: bool = False
    ) -> None:
        """`flat`: the class folders lie at the root, even if the data has splits."""
        self.out, self.data, self.real, self.key = out, data, real, key
        self.splits = {} if flat else data.folder.split_dirs
        self.encoder = Encoder(data, format, out_size)
        self.recorded: dict[str, Any] = {}  # what an earlier call decided
        self._taken: set[str] = set()  # folded names of real files and their folders, for synthetic ones to avoid
        self._made: set[Path] = set()  # folders that exist inside `out`
        self.metadata: dict[str, list[dict[str, str]]] = {}  # folder of the metadata.csv -> rows
        self._pool = ThreadPoolExecutor(usable_cores())
        pixels = float(data.store.native_sizes.prod(axis=1).mean()) if len(data.store.native_sizes) else 1.0
        self._in_flight = max(usable_cores(), min(IN_FLIGHT, int(MOST_BYTES_WAITING / (3 * pixels))))
        self._pending: deque[Future[None]] = deque()
        self.copied_instead = 0  # real images that could not be linked

    def __enter__(self) -> BalancedFolder:
        with disk_errors(f"create {self.out}"):
            self.out.mkdir(parents=True, exist_ok=True)
        self._held = lock_folder(self.out)
        try:
            before = {} if is_free(self.out) else require_marker(self.out, self.key)
            # The result tells later whether README.md was edited since.
            self._kept = {name: before[name] for name in ("result", "recorded") if isinstance(before.get(name), dict)}
            self.recorded = self._kept.get("recorded", {})
            self.record({})
        except BaseException:
            drop_lock(self._held)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        finally:
            drop_lock(self._held)

    def record(self, decided: dict[str, Any]) -> None:
        """Remember what was decided, so that a repeated command makes the same files."""
        self._kept["recorded"] = self.recorded = self.recorded | decided
        with disk_errors(f"create {self.out}"):
            write_json(self.out / MARKER, {"key": self.key, "finished": False, **self._kept})

    def add_real(self, file: RealFile) -> None:
        """Copy, link or convert one real image, unless an earlier call did; call before adding any synthetic image."""
        target = self.out / file.target
        self._taken |= {folded_name(name) for name in (file.target, *folders_above(file.target))}
        with disk_errors(f"write {printable(file.target)}"):
            if target.is_symlink() and not target.exists():
                target.unlink()  # the data has moved since an earlier call linked it
            if not target.exists():
                self._make_folder(target.parent)
                self._place(file, target)
        row = {"label": file.label, "kind": "real", "synthetic": "false", "run": NONE, "checkpoint_sha256": NONE}
        self._record(file.target, {**row, "source_path": str(file.source), "split": file.split})

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of the output; raises OSError if a link in its place leads out of the output."""
        if folder in self._made:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(self.out.resolve()):
            raise OSError(errno.ELOOP, "a link leads out of the folder", str(folder))
        self._made.add(folder)

    def _place(self, file: RealFile, target: Path) -> None:
        if file.convert:
            write_atomic(target, convert_to_png(file.source, self.data))
        elif self.real == "symlink":
            target.symlink_to(file.source.absolute())
        elif self.real == "hardlink" and self._linked(file.source, target):
            pass
        else:
            temporary = target.with_name(
                f".tmp-{os.getpid()}-{hashlib.sha1(os.fsencode(target.name)).hexdigest()[:12]}"
            )
            copy_regular(file.source, temporary)
            temporary.replace(target)

    def _linked(self, source: Path, target: Path) -> bool:
        """Make a hard link; returns False where that is not possible: on another disk, or without support."""
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.copied_instead += 1
            return False
        return True

    @property
    def notes(self) -> list[str]:
        """What became other than asked for."""
        if not self.copied_instead:
            return []
        return [f"{plural(self.copied_instead, 'real image')} could not be linked (--real hardlink) and were copied."]

    def _free_name(self, label: int, stem: str, format: str) -> str:
        """Return where a synthetic image of a class goes, relative to the output folder."""
        name, suffix = self.data.class_names[label], SUFFIXES[format]
        stem = f"{self.data.folder.class_dir('train', name) if self.splits else name}/{stem}"
        k, unique = 1, stem
        while folded_name(unique + suffix) in self._taken:  # the data came from a balanced folder
            k += 1
            unique = f"{stem}-{k}"
        return unique + suffix

    def add_synthetic(
        self,
        image: np.ndarray,
        label: int,
        seed: int,
        *,
        run: str,
        number: str,
        checkpoint: str,
        source: Path | None = None,
    ) -> str:
        """Encode and write one synthetic image (uint8 (C, S, S)) in the background, unless an earlier call did.

        `source`: the real image that it started from.
        """
        name = self._free_name(label, f"syn_{number}_{seed}", self.encoder.format_of(label))
        if not self._is_there(name):
            self._write(name, self.encoder.generated, image, label, seed)
        row = {"label": self.data.class_names[label], "kind": "generated", "synthetic": "true", "split": "train"}
        row["source_path"] = NONE if source is None else str(source)
        self._record(name, {**row, "run": run, "seed": str(seed), "checkpoint_sha256": checkpoint})
        return name

    def add_transformed(
        self, label: int, pairs: Sequence[tuple[int, int]], changes: Changes, seed: int, made: Callable[[int], None]
    ) -> list[str]:
        """Write variations of a class's real images, unless an earlier call did; returns the files' names.

        No two are equal; where only equal ones can be made (images of one colour), there are fewer.

        Args:
            label: the class.
            pairs: row of the real image, and number of its variation, of each.
            changes: those that keep the class.
            seed: of the random changes, and first of the numbers in the files' names.
            made: called with the number of files so far.
        """
        names: list[str] = []
        known: set[bytes] = set()
        for some in blocks(len(pairs), self._in_flight):
            wanted = [(self._variation_name(label, row, seed + number), row, number) for row, number in pairs[some]]
            there = [self._is_there(name) for name, _, _ in wanted]
            encode = partial(self._variation, changes=changes, seed=seed)
            with disk_errors(f"write transformed images to {self.out}"):
                contents = list(self._pool.map(encode, wanted, there))
            for (name, row, number), found, exists in zip(wanted, contents, there, strict=True):
                content, attempt = found, 0
                while content is not None and hashlib.sha256(content).digest() in known:
                    attempt += 1
                    content = self.encoder.transformed(row, number, changes, seed, attempt) if attempt < TRIES else None
                if content is None:
                    continue
                known.add(hashlib.sha256(content).digest())
                if not exists or attempt:
                    self._write(name, bytes, content)
                names.append(name)
                source = self.data.folder.path(self.data.store.files[row])
                of = {"label": self.data.class_names[label], "kind": "transformed", "synthetic": "true"}
                of |= {"run": NONE, "checkpoint_sha256": NONE, "split": "train"}
                self._record(name, {**of, "seed": str(seed + number), "source_path": str(source)})
            made(len(names))
        return names

    def _variation_name(self, label: int, row: int, number: int) -> str:
        file = self.data.store.files[row].rel.rpartition("/")[2]
        stem = shortened(f"aug_{number}_{file.rpartition('.')[0] or file}", MOST_BYTES - LONGEST_END)
        name = self._free_name(label, stem, self.encoder.format_of_row(row))
        self._taken.add(folded_name(name))  # another image of the class may have the same stem
        return name

    def _variation(self, wanted: tuple[str, int, int], there: bool, *, changes: Changes, seed: int) -> bytes | None:
        """Return the content of a file, from the disk if an earlier call wrote it."""
        name, row, number = wanted
        return (self.out / name).read_bytes() if there else self.encoder.transformed(row, number, changes, seed)

    def _is_there(self, name: str) -> bool:
        """Whether an earlier call wrote the file; makes its folder."""
        path = self.out / name
        with disk_errors(f"write {printable(name)}"):
            there = path.exists()
            self._make_folder(path.parent)
        return there

    def _write(self, name: str, encode: Callable[..., bytes], *args: object) -> None:
        """Encode and write a file in the background."""
        self._pending.append(self._pool.submit(lambda: write_atomic(self.out / name, encode(*args))))
        self._wait(self._in_flight)  # only for the oldest; the others are written while the next are generated

    def flush(self) -> None:
        """Wait for all pending writes, and raise the error of a failed one."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        """Wait until at most `most` writes are pending, and raise the error of a failed one."""
        with disk_errors(f"write synthetic images to {self.out}"):
            while len(self._pending) > most:
                self._pending.popleft().result()

    def _record(self, target: str, row: dict[str, str]) -> None:
        """Add a row to the metadata.csv of the split's folder (of the root without splits)."""
        folder, name = ("", target)
        if self.splits:
            folder, _, name = target.partition("/")
        self.metadata.setdefault(folder, []).append({"file_name": name, **row})

    def write_metadata(self) -> None:
        """Write one metadata.csv per split folder, or one at the root."""
        self.flush()
        for folder, rows in self.metadata.items():
            with disk_errors("write metadata.csv"):
                self._make_folder(self.out / folder)
                write_atomic(self.out / folder / metadata.NAME, metadata.table_bytes(rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the folder as complete, store the command's result, and remove what a killed process left behind."""
        with disk_errors(f"finish {self.out}"):
            for leftover in self.out.rglob(".tmp-*"):
                leftover.unlink()
            ours = {self.out / folder / row["file_name"] for folder, rows in self.metadata.items() for row in rows}
            for pattern in SYNTHETIC:  # from a killed process that accepted other samples
                for leftover in self.out.rglob(pattern):
                    if leftover.is_file() and leftover not in ours:
                        leftover.unlink()
            marker = {"key": self.key, "finished": True, "recorded": self.recorded, "result": result}
            write_json(self.out / MARKER, marker)
