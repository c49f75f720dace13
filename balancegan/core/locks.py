"""Locks between processes: one process at a time holds a file, until it releases it or ends.

Some file systems (cloud buckets, old NFS servers) have no locks. There, work goes on without, after one warning.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors
from balancegan.core.text import printable

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, whose file systems have locks
    fcntl = None

_UNSUPPORTED = frozenset(
    {getattr(errno, name) for name in ("ENOLCK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS") if hasattr(errno, name)} | {524}
)
"""What a file system without locks answers; 524 is Linux's ENOTSUPP, which has no name in Python."""
WAIT = 10.0
"""Seconds to wait for a lock that others hold only for a moment."""


class NoLock:
    """Stands for a lock where there are none."""

    def __init__(self, file: Path) -> None:
        self.lock_file = str(file)

    def release(self) -> None:
        """Do nothing."""


Lock = FileLock | NoLock


def try_lock(file: Path, wait: float = 0.0) -> FileLock | None:
    """Lock a file; returns None if another process still holds it after `wait` seconds.

    Raises `OSError` where locks fail.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=wait)
    except Timeout:  # an OSError too
        return None
    except NotImplementedError as error:
        raise OSError(errno.ENOSYS, str(error)) from error
    return lock


def require_lock(file: Path, busy: str, hint: str, wait: float = 0.0) -> Lock:
    """Lock a file. Raises `UsageError(busy, hint)` if another process holds it, and `DiskError`."""
    with disk_errors(f"lock {file.parent}"):
        if not _supported(file):
            _warn(file.parent)
            return NoLock(file)
        lock = try_lock(file, wait)
    if lock is None:
        raise UsageError(busy, f"{hint}; if no such process is left on any machine, delete {printable(str(file))}")
    return lock


def is_held(file: Path) -> bool:
    """Whether a process holds this lock; False where that cannot be told."""
    try:
        lock = try_lock(file) if file.exists() else NoLock(file)
    except OSError:
        return False
    if lock is None:
        return True
    lock.release()
    return False


def _supported(file: Path) -> bool:
    """Whether the file system has locks; the library may wait in vain, or leave a marker that outlives a crash."""
    if fcntl is None:
        return True
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    finally:
        os.close(handle)  # which releases the lock
    return True


@functools.cache
def _warn(folder: Path) -> None:
    logging.getLogger(__name__).warning(
        "note: the file system of %s has no locks: let no two commands write there at once", printable(str(folder))
    )


def drop_lock(lock: Lock) -> None:
    """Release a lock and delete its file."""
    with contextlib.suppress(OSError):  # where open files cannot be deleted, releasing the lock does it
        Path(lock.lock_file).unlink()
    lock.release()
