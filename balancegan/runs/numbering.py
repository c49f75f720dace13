"""Number and name run directories."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from balancegan.core.files import disk_errors
from balancegan.core.locks import WAIT, require_lock

RUN_NAME = re.compile(r"(\d{5,})-(.+)")


def run_title(method: str, data_name: str) -> str:
    """Return the part of a run's name after its number: method and data set, safe on any file system."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", data_name).strip("-.")[:60] or "data"
    return f"{method}-{slug}"


@contextlib.contextmanager
def numbering(out: Path) -> Iterator[None]:
    """Let only one process at a time number runs."""
    with disk_errors(f"create a run directory in {out}"):
        out.mkdir(parents=True, exist_ok=True)
    busy = f"another process has been creating a run in {out} for {WAIT:.0f} seconds"
    lock = require_lock(out / ".lock", busy, "wait for it", WAIT)
    try:
        with disk_errors(f"create a run directory in {out}"):
            yield
    finally:
        lock.release()


def numbered(out: Path) -> list[tuple[int, Path]]:
    """Return the run directories in `out` with their numbers, in no particular order."""
    if not out.is_dir():
        return []
    matches = ((RUN_NAME.fullmatch(p.name), p) for p in out.iterdir())
    return [(int(m[1]), p) for m, p in matches if m and p.is_dir()]
