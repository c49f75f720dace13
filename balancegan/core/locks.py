"""Locks between processes: a file that one process at a time holds, until it lets go of it or ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors


def try_lock(file: Path) -> FileLock | None:
    """The lock of a file, or None where another process holds it. Raises what the system says where locks fail."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:  # an OSError too
        return None
    return lock


def require_lock(file: Path, busy: str, hint: str) -> FileLock:
    """The lock of a file; raises `UsageError` with these words where another process holds it, and `DiskError`."""
    with disk_errors(f"lock {file.parent}"):
        lock = try_lock(file)
    if lock is None:
        raise UsageError(busy, hint)
    return lock


def drop_lock(lock: FileLock) -> None:
    """Release a lock and take its file away."""
    with contextlib.suppress(OSError):  # where open files cannot be removed, the lock does it when it is released
        Path(lock.lock_file).unlink()
    lock.release()
