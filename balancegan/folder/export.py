"""Write the balanced folder: exact copies of real files, synthetic files next to them, metadata.csv for loaders.

A file gets its final name only when it is complete, so the same command can complete the folder after a kill.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from balancegan.compute.machine import usable_cores
from balancegan.core.files import copy_regular, disk_errors, write_atomic, write_json
from balancegan.core.grid import PNG_OPTIONS, png_bytes, to_pil
from balancegan.core.locks import drop_lock
from balancegan.core.text import printable
from balancegan.data.decode import DecodeSettings, decode_image
from balancegan.data.decode import to_uint8 as scale_to_uint8
from balancegan.data.training_set import TrainingSet
from balancegan.folder import metadata
from balancegan.folder.destination import MARKER, is_free, lock_folder, require_marker
from balancegan.folder.real_files import READABLE, SUFFIXES, RealFile, folded_name, folders_above

IN_FLIGHT = 512
"""Synthetic images that wait to be encoded and written; this bounds the memory."""
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "PNG": PNG_OPTIONS,
}
NONE = (
    "-"  # readers infer types per file: an empty text column would become numeric in a split without synthetic images
)


@dataclass(frozen=True)
class ClassForm:
    """The form of a class's real files, which synthetic files imitate so that it does not give them away."""

    format: str
    mode: str  # L or RGB
    sizes: np.ndarray  # (n, 2) width, height of its real images


def class_form(data: TrainingSet, label: int) -> ClassForm:
    """Return the most common format and mode of a class, and all its sizes, from the training split."""
    rows = np.sort(data.split_rows[data.labels[data.split_rows] == label])
    formats = Counter(data.store.files[i].format for i in rows if data.store.files[i].format in READABLE - {"PPM"})
    grey = Counter("L" if data.store.native_modes[i] in ("1", "L", "LA", "I", "F", "I;16") else "RGB" for i in rows)
    mode = grey.most_common(1)[0][0] if data.store.images.shape[1] == 1 else "RGB"
    return ClassForm(formats.most_common(1)[0][0] if formats else "PNG", mode, data.store.native_sizes[rows])


class BalancedFolder:
    """Writes the output folder; use as a context manager, which locks it and waits for pending writes.

    Entering raises `UsageError` if another process holds the folder or has used it for another command meanwhile.
    """

    def __init__(self, out: Path, data: TrainingSet, key: str, *, real: str, format: str, out_size: str) -> None:
        self.out, self.data, self.real, self.format, self.out_size = out, data, real, format, out_size
        self.key = key
        self._taken: set[str] = set()  # folded names of real files and their folders, for synthetic ones to avoid
        self._made: set[Path] = set()  # folders that exist inside `out`
        self.metadata: dict[str, list[dict[str, str]]] = {}  # folder of the metadata.csv -> rows
        self.forms = [class_form(data, label) for label in range(len(data.class_names))]
        self._pool = ThreadPoolExecutor(usable_cores())
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> BalancedFolder:
        with disk_errors(f"create {self.out}"):
            self.out.mkdir(parents=True, exist_ok=True)
        self._held = lock_folder(self.out)
        try:
            before = {} if is_free(self.out) else require_marker(self.out, self.key)
            marker = {"key": self.key, "finished": False}
            if "result" in before:  # to tell later whether README.md was edited since
                marker["result"] = before["result"]
            with disk_errors(f"create {self.out}"):
                write_json(self.out / MARKER, marker)
        except BaseException:
            drop_lock(self._held)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        finally:
            drop_lock(self._held)

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
            settings = self.data.store.settings
            write_atomic(target, convert_to_png(file.source, settings, self.data))
        elif self.real == "symlink":
            target.symlink_to(file.source.absolute())
        elif self.real == "hardlink" and file.source.stat().st_dev == self.out.stat().st_dev:
            os.link(file.source.resolve(), target)
        else:
            temporary = target.with_name(
                f".tmp-{os.getpid()}-{hashlib.sha1(os.fsencode(target.name)).hexdigest()[:12]}"
            )
            copy_regular(file.source, temporary)
            temporary.replace(target)

    def synthetic_name(self, label: int, run: str, seed: int) -> str:
        """Return where the synthetic image of a seed goes, relative to the output folder."""
        folder, name = self.data.folder, self.data.class_names[label]
        stem, suffix = f"{folder.class_dir('train', name)}/syn_{run}_{seed}", SUFFIXES[self._format(label)]
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
        name = self.synthetic_name(label, number, seed)
        path = self.out / name
        with disk_errors(f"write {printable(name)}"):
            there = path.exists()
            self._make_folder(path.parent)
        if not there:
            self._pending.append(self._pool.submit(self._encode, image, label, seed, path))
            self._wait(IN_FLIGHT)  # only for the oldest; the others are written while the next are generated
        row = {"label": self.data.class_names[label], "kind": "generated", "synthetic": "true", "split": "train"}
        row["source_path"] = NONE if source is None else str(source)
        self._record(name, {**row, "run": run, "seed": str(seed), "checkpoint_sha256": checkpoint})
        return name

    def flush(self) -> None:
        """Wait for all pending writes, and raise the error of a failed one."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        """Wait until at most `most` writes are pending, and raise the error of a failed one."""
        with disk_errors(f"write synthetic images to {self.out}"):
            while len(self._pending) > most:
                self._pending.popleft().result()

    def _format(self, label: int) -> str:
        return {"png": "PNG", "jpeg": "JPEG", "match": self.forms[label].format}[self.format]

    def _encode(self, image: np.ndarray, label: int, seed: int, path: Path) -> None:
        form, picture = self.forms[label], to_pil(image)
        if self.out_size == "native":
            # The size of a random real image of the class, so that sizes vary as much as among real images.
            size = form.sizes[np.random.default_rng(seed).integers(len(form.sizes))]
            picture = picture.resize((int(size[0]), int(size[1])), Image.Resampling.LANCZOS)
        format = self._format(label)
        buffer = io.BytesIO()
        picture.convert(form.mode).save(buffer, format, **SAVE_OPTIONS.get(format, {}))
        write_atomic(path, buffer.getvalue())

    def _record(self, target: str, row: dict[str, str]) -> None:
        """Add a row to the metadata.csv of the split's folder (of the root without splits)."""
        folder, name = ("", target)
        if self.data.folder.split_dirs:
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
            for leftover in self.out.rglob("syn_*"):  # from a killed process that accepted other samples
                if leftover.is_file() and leftover not in ours:
                    leftover.unlink()
            write_json(self.out / MARKER, {"key": self.key, "finished": True, "result": result})


def convert_to_png(path: Path, settings: DecodeSettings, data: TrainingSet) -> bytes:
    """Decode as for training (window, background, orientation), keep the native size, encode as 8-bit PNG."""
    picture = decode_image(path, background=settings.background)
    return png_bytes(Image.fromarray(scale_to_uint8(picture.pixels, data.store.window)))
