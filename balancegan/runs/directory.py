"""A run on disk: its name, configuration, log, metrics and checkpoints.

runs/00003-sgbgan-cells/{config.yaml, env.json, dataset.json, log.txt, metrics.jsonl,
                         samples/, checkpoints/step-000500/{weights.safetensors, state.pt, MANIFEST.json}, report/}
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from balancegan.core.config import LARGEST, parse_yaml
from balancegan.core.errors import CheckpointError, UsageError
from balancegan.core.files import disk_errors, open_regular, sync_dir, write_atomic
from balancegan.core.locks import Lock, require_lock
from balancegan.core.text import printable
from balancegan.runs.checkpoint import (
    Checkpoint,
    OtherFormatError,
    collapsed_classes,
    read_checkpoint,
    step_of,
    vanish,
    write_checkpoint,
)
from balancegan.runs.numbering import RUN_NAME, numbered, numbering, run_title

STALE_SECONDS = 60  # no small file takes that long to write
RUNS = Path("runs")  # where runs go unless another folder is named
NEWEST, AUTO = "newest", "auto"  # choices of a checkpoint, besides a step
CHECKPOINT_NAME = re.compile(r"step-(\d{6,})")


class RunDir:
    """One run directory. Construction reads nothing; `create` makes a new one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._lock: Lock | None = None

    @property
    def name(self) -> str:
        """The directory's name, e.g. `00003-sgbgan-cells`."""
        return self.path.name

    @property
    def number(self) -> str:
        """The run's number, e.g. `00003`, or the whole name of a renamed run."""
        match = RUN_NAME.fullmatch(self.name)
        return match[1] if match else self.name

    @property
    def samples(self) -> Path:
        """Where sample grids go."""
        return self.path / "samples"

    @classmethod
    def create(cls, out: Path, method: str, data_name: str) -> RunDir:
        """Make `out/NNNNN-method-data` with the next free number, even if several runs start at once."""
        with numbering(out):
            return cls._create(out, run_title(method, data_name))

    @classmethod
    def begin(cls, out: Path, method: str, data_name: str) -> RunDir:
        """Like `create`, and lock the run. Reuses a run of the same name that died before writing config.yaml."""
        title = run_title(method, data_name)
        with numbering(out):
            for number, path in sorted(numbered(out)):
                run = cls(path)
                if path.name == f"{number:05d}-{title}" and not (path / "config.yaml").exists():
                    with contextlib.suppress(UsageError):  # a live process is about to write its config.yaml
                        run.lock()
                        if not run.checkpoint_dirs():
                            return run
                        run.unlock()
            run = cls._create(out, title)
            run.lock()  # before another process can mistake it for a dead one
            return run

    @classmethod
    def _create(cls, out: Path, title: str) -> RunDir:
        number = 1 + max((n for n, _ in numbered(out)), default=-1)
        run = cls(out / f"{number:05d}-{title}")
        run.path.mkdir()
        return run

    def lock(self) -> None:
        """Lock the run for this process, until the process ends, and create its folders.

        Raises `UsageError` if another live process holds it.
        """
        busy = f"{self.name} is being trained by another process"
        hint = "wait for it, or start a new run with --resume never"
        self._lock = require_lock(self.path / ".lock", busy, hint)
        with disk_errors(f"lock {self.path}"):
            for folder in (self.samples, self.path / "checkpoints"):
                folder.mkdir(exist_ok=True)
            self._clear()

    def _clear(self) -> None:
        """Remove killed processes' half-written files; in samples/, where `sample` writes unlocked, only old ones."""
        leftovers = list(self.path.glob(".tmp-*"))
        leftovers += [path for path in self.samples.glob(".tmp-*") if time.time() - _changed(path) > STALE_SECONDS]
        for path in leftovers:
            path.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock:
            self._lock.release()

    def log(self, line: str) -> None:
        """Append a dated line to log.txt."""
        with disk_errors("write log.txt"), (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(line)}\n")

    def read_yaml(self, name: str = "config.yaml") -> dict[str, Any]:
        """Read a YAML file of the run as a dict."""
        return self._read(name, parse_yaml)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run as a dict."""
        return self._read(name, json.loads)

    def _read(self, name: str, parse: Any) -> dict[str, Any]:
        where = printable(str(self.path / name))
        try:
            with open_regular(self.path / name) as file:
                document = parse(file.read())
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(f"{where} cannot be read: {why}", "choose another run") from None
        if not isinstance(document, dict):
            raise CheckpointError(f"{where} is damaged", "choose another run")
        return document

    # metrics.jsonl ---------------------------------------------------------------------------------------------------

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to metrics.jsonl."""
        with disk_errors("write metrics.jsonl"), (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all whole rows of metrics.jsonl, without lines that a crash cut off or another program wrote."""
        rows = []
        text = ""
        path = self.path / "metrics.jsonl"
        with disk_errors("read metrics.jsonl"), contextlib.suppress(FileNotFoundError), open_regular(path) as file:
            text = file.read().decode("utf-8", "replace")
        for line in text.splitlines():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
        return [row for row in rows if isinstance(row, dict) and _is_metrics(row)]

    def truncate_metrics(self, step: int) -> None:
        """Drop rows after `step`, which a resumed run will write again."""
        rows = [row for row in self.read_metrics() if row.get("step", 0) <= step]
        with disk_errors("write metrics.jsonl"):
            write_atomic(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    # checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint_dirs(self) -> list[Path]:
        """Return complete checkpoint directories, newest first; a training may drop them at any time."""
        folder = self.path / "checkpoints"
        if not folder.is_dir():
            return []
        with os.scandir(folder) as inside:  # knows what is a folder: asking later could find none left
            found = [entry.name for entry in inside if CHECKPOINT_NAME.fullmatch(entry.name) and entry.is_dir()]
        return sorted((folder / name for name in found), key=step_of, reverse=True)

    def save_checkpoint(
        self,
        step: int,
        weights: dict[str, Tensor],
        state: dict[str, Any],
        keep: int,
        *,
        collapsed: Sequence[str] | None = None,
    ) -> Path:
        """Write under a temporary name, sync to disk, rename, then drop all but the newest `keep`.

        `collapsed` names the classes whose images are alike (None: not checked). If no kept checkpoint is known to be
        free of collapse, the newest one that is stays too.
        """
        final = self.path / "checkpoints" / f"step-{step:06d}"
        partial = final.with_name(f".partial-{os.getpid()}")
        with disk_errors(f"save a checkpoint in {self.path}"):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                write_checkpoint(partial, step, weights, state, collapsed)
                if final.exists():  # the same step again, after a roll-back
                    vanish(final)
                partial.rename(final)
                sync_dir(final.parent)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            self.prune(keep)
        return final

    def prune(self, keep: int) -> None:
        """Drop old checkpoints, and unfinished ones that killed processes left behind."""
        dirs = self.checkpoint_dirs()
        old = dirs[keep:]
        if not any(collapsed_classes(path) == [] for path in dirs[:keep]):
            healthy = next((path for path in old if collapsed_classes(path) == []), None)
            old = [path for path in old if path != healthy]
        for path in old:
            with contextlib.suppress(OSError):
                vanish(path)
        for path in (self.path / "checkpoints").glob(".partial-*"):  # the run is locked: no other process writes one
            shutil.rmtree(path, ignore_errors=True)

    def healthy_step(self) -> int | None:
        """Return the step of the newest checkpoint in which no class had collapsed, or None."""
        return next((step_of(path) for path in self.checkpoint_dirs() if collapsed_classes(path) == []), None)

    def set_aside_after(self, step: int) -> None:
        """Rename checkpoints after `step` (damaged or diverged), so that they do not count as the newest."""
        for path in self.checkpoint_dirs():
            if step_of(path) > step:
                with disk_errors(f"rename {path.name}"):
                    target = path.with_name(f"set-aside-{path.name}")
                    shutil.rmtree(target, ignore_errors=True)
                    path.rename(target)

    def load_checkpoint(self, warn: Callable[[str], None] | None = None, choice: str = NEWEST) -> Checkpoint | None:
        """Load an intact checkpoint, skipping damaged ones with a call of `warn(text)`.

        Args:
            warn: called about every skipped checkpoint, with the reason.
            choice: `newest`; `auto`, the newest in which no class has collapsed if there is one; or a step.

        Returns None if the run has no checkpoint at all. Raises `CheckpointError` if it has some but none is intact,
        `UsageError` for a step without a checkpoint.
        """
        say = warn or (lambda text: None)
        while dirs := self._candidates(choice, say):
            reason = ""
            for path in dirs:
                try:
                    return read_checkpoint(path)
                except OtherFormatError:  # intact: an older one would discard its training
                    raise
                except CheckpointError as error:
                    if not path.exists():  # the training continued and dropped it
                        break
                    reason = reason or error.message
                    if path is not dirs[-1]:
                        say(f"{error.message}; falling back to the previous one")
            else:
                if choice not in (NEWEST, AUTO):
                    others = self._steps([path for path in self.checkpoint_dirs() if path not in dirs])
                    raise CheckpointError(reason, f"use --checkpoint auto{others}")
                raise CheckpointError(
                    f"no checkpoint of {self.name} is intact ({reason})", "train again with --resume never"
                )
        return None

    def _steps(self, dirs: Sequence[Path]) -> str:
        """Return the choices besides `auto`, as the end of a sentence."""
        return f", newest or one of {', '.join(str(step_of(path)) for path in dirs)}" if dirs else " or newest"

    def _candidates(self, choice: str, say: Callable[[str], None]) -> list[Path]:
        """Return checkpoint directories in the order in which to try them."""
        dirs = self.checkpoint_dirs()
        if choice == NEWEST or not dirs:
            return dirs
        if choice != AUTO:
            if named := [path for path in dirs if choice.isdecimal() and step_of(path) == int(choice)]:
                return named
            told = f"{self.name} has no checkpoint {choice!r} (steps include pre-training)"
            raise UsageError(told, f"use --checkpoint auto{self._steps(dirs)}")
        alike = next((found for path in dirs if (found := collapsed_classes(path)) is not None), None)
        if not alike:
            return dirs
        told = f"at step {step_of(dirs[0])}, the images of {', '.join(alike)} were nearly identical (mode collapse)"
        healthy = next((path for path in dirs if collapsed_classes(path) == []), None)
        if healthy is None:
            say(f"{told}, and in every earlier checkpoint too: train again with another seed or lower learning rates")
            return dirs
        step = step_of(healthy)
        say(f"{told}; using step {step}, the last before the collapse (--checkpoint newest uses the latest)")
        return [healthy, *(path for path in dirs if path != healthy)]


def list_runs(out: Path) -> list[RunDir]:
    """Return the runs in `out`, newest (highest number) first."""
    return [RunDir(path) for _, path in sorted(numbered(out), reverse=True)]


def find_run(run: RunDir | str | Path | None, out: Path) -> RunDir:
    """Return the named run (path, name in `out`, or number), or the newest one with a checkpoint."""
    if isinstance(run, RunDir):
        return run
    if run is not None:
        run = str(run)
        number = int(run) if re.fullmatch("[0-9]{1,18}", run) else -1
        for path in [Path(run), out / run, *(p for n, p in numbered(out) if n == number)]:
            with contextlib.suppress(OSError):  # not a valid name on this file system
                if (path / "config.yaml").is_file():
                    return RunDir(path)
        known = printable(", ".join(r.name for r in list_runs(out)[:5])) or "none"
        raise UsageError(
            f"no such run: {printable(run[:300])}",
            f"runs in {out}/: {known} (augment and evaluate take the data as --data)",
        )
    for candidate in list_runs(out):
        if candidate.checkpoint_dirs():
            return candidate
    raise UsageError(f"no trained run in {out}/", "train one first: balancegan train DATA")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted in the meantime
        return time.time()


def _is_metrics(row: dict[str, Any]) -> bool:
    """Whether the step is a number and no integer is too large for floating point."""
    numbers = [value for value in row.values() if isinstance(value, int)]
    return isinstance(row.get("step", 0), int | float) and all(abs(number) < LARGEST for number in numbers)


_FRAME = re.compile(r"step-(\d{6,})\.png")


def frames(run: RunDir, last: int | None = None) -> tuple[tuple[int, Path], ...]:
    """Return step and path of the run's sample grids up to step `last`, in order of steps."""
    files = run.samples.iterdir() if run.samples.is_dir() else ()
    found = [(int(match[1]), path) for path in files if (match := _FRAME.fullmatch(path.name))]
    return tuple(sorted((step, path) for step, path in found if last is None or step <= last))
