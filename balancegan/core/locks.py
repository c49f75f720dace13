"""Locks between processes: one process at a time holds a file, until it releases it or ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors


def try_lock(file: Path) -> FileLock | None:
    """Lock a file; returns None if another process holds it. Raises `OSError` where locks fail."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:  # an OSError too
        return None
    return lock


def require_lock(file: Path, busy: str, hint: str) -> FileLock:
    """Lock a file. Raises `UsageError(busy, hint)` if another process holds it, and `DiskError`."""
    with disk_errors(f"lock {file.parent}"):
        lock = try_lock(file)
    if lock is None:
        raise UsageError(busy, hint)
    return lock


def drop_lock(lock: FileLock) -> None:
    """Release a lock and delete its file."""
    with contextlib.suppress(OSError):  # where open files cannot be deleted, releasing the lock does it
        Path(lock.lock_file).unlink()
    lock.release()
