"""File operations that must not stop half-way: atomic writes, hashes, one-line disk errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from balancegan.core.errors import DiskError, UsageError
from balancegan.core.text import printable

T = TypeVar("T")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Reading the umask means changing it for all threads, so it is read once, before any thread starts.
UMASK = _umask()


def cache_root(cache_dir: Path | None = None) -> Path:
    """Return the cache folder: `cache_dir`, else $BALANCEGAN_CACHE_DIR, else the user's cache."""
    named = cache_dir or os.environ.get("BALANCEGAN_CACHE_DIR")
    if not named:
        return _user_cache()
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        hint = "set BALANCEGAN_CACHE_DIR to a path without ~"
        raise DiskError(f"the cache cannot be in {printable(str(named))}: this user has no home folder", hint) from None


def _user_cache() -> Path:
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("balancegan", appauthor=False)).expanduser().absolute()
    except (RuntimeError, KeyError):  # a container's user without a home folder or an account
        return Path(tempfile.gettempdir()) / f"balancegan-{os.getuid()}"


_LITTER = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".ipynb_checkpoints"})


def is_litter(name: str) -> bool:
    """Whether a file was left by a file manager, a notebook or NFS, and does not make a folder somebody's."""
    return name.lower() in _LITTER or name.startswith((".nfs", "._")) or name in ("@eaDir", "lost+found", "Icon\r")


DISK_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG"),  # full
        *("EROFS", "EACCES", "EPERM"),  # not allowed
        *("ENOENT", "ENOTDIR", "ESTALE", "EIO", "ENODEV"),  # gone
    )
    if hasattr(errno, name)
)
"""Errors that a disk, or another user of it, can cause at any time."""


_LASTING = frozenset(
    getattr(errno, name)
    for name in ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ELOOP", "ENAMETOOLONG", "EINVAL", "ENXIO")
    if hasattr(errno, name)
)
"""Errors on reading a file that are about this file. All others are about the disk, the network or the memory."""
_PAUSES = (0.1, 0.5)  # seconds before reading again


def read_again(read: Callable[[], T], doing: str) -> T:
    """Return `read()`, tried again after a moment if a disk, the network or memory fails.

    Raises `DiskError` if it goes on failing, so that files that cannot be read now are never taken for damaged ones.
    """
    for pause in (*_PAUSES, None):
        try:
            return read()
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and (error.errno is None or error.errno in _LASTING):
                raise
            if pause is None:
                why, hint = error.strerror if isinstance(error, OSError) else None, "run the command again later"
                if isinstance(error, MemoryError):
                    why, hint = "not enough memory", "a lower --max-pixels leaves large images out"
                raise DiskError(f"could not {printable(doing)}: {why}", hint) from error
            time.sleep(pause)
    raise AssertionError


@contextlib.contextmanager
def disk_errors(doing: str, place: str = "--out") -> Iterator[None]:
    """Turn an `OSError` while `doing` something into a `DiskError` that says what to do.

    `place` is the option or variable with which the user can choose another place.
    """
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space, or choose another disk",
            errno.EDQUOT: "your quota is used up: free some space, or choose another disk",
            errno.EROFS: f"this file system is read-only: choose another place ({place})",
            errno.EACCES: f"check the permissions, or choose another place ({place})",
            errno.ENOENT: "it may have been deleted or renamed; run the command again",
        }
        where = f" ({printable(str(error.filename))})" if error.filename else ""
        hint = hints.get(error.errno or 0, "your files are unchanged; choose another place")
        raise DiskError(f"could not {printable(doing)}: {error.strerror or error}{where}", hint) from error


def free_bytes(place: Path) -> int:
    """Return the free bytes on the disk where `place` is or will be."""
    there = next(p for p in (place, *place.absolute().parents) if p.is_dir())
    return shutil.disk_usage(there).free


def require_space(place: Path, need: int, what: str, hint: str) -> None:
    """Raise `DiskError` if fewer than `need` bytes are free where `place` is or will be.

    `what` begins the message and names what needs them, e.g. "the checkpoints need".
    """
    with disk_errors(f"read the free space of {place}"):
        free = free_bytes(place)
    if need > free:
        raise DiskError(f"{what} about {need / 2**20:,.0f} MiB in {place}; {free / 2**20:,.0f} MiB are free", hint)


def refuse_source(out: Path, folders: Iterable[Path], *, around: bool = False) -> None:
    """Raise `UsageError` if `out` is a folder of the data set or inside one; with `around`, also if it contains one.

    The class folders are checked too, since links may put them elsewhere.
    """
    here = out.resolve()
    for folder in sorted({p.resolve() for p in folders}):  # the root before its sub-folders
        if here == folder or folder in here.parents or (around and here in folder.parents):
            what = f"{printable(str(out))} is inside the source folder {printable(str(folder))}, or contains it"
            raise UsageError(what, "choose another place with --out")


def write_atomic(path: Path, data: bytes | str, *, durable: bool = False) -> None:
    """Write a file so that readers see either all of the old content or all of the new.

    `durable` waits until the data is on the disk, so that this holds even after a power failure.
    """
    # File names that are not UTF-8 contain lone surrogates, which cannot be encoded.
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        follow_umask(Path(name))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def follow_umask(path: Path) -> None:
    """Give a file that mkstemp made private the permissions of the user's other files, where they can be set at all."""
    with contextlib.suppress(OSError):  # buckets, CIFS and exFAT refuse
        path.chmod(0o666 & ~UMASK)


def write_json(path: Path, document: Any, *, durable: bool = False) -> None:
    """Write strict JSON (no NaN) atomically; names that are not UTF-8 survive a round trip."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    if any("\ud800" <= c <= "\udfff" for c in text):
        text = json.dumps(document, indent=2, allow_nan=False)
    write_atomic(path, text + "\n", durable=durable)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_dir(path: Path) -> None:
    """Make a directory's entries durable (where the system can)."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags for opening a file to read without blocking: a pipe without a writer would block for ever."""
SMALL = 1 << 16
"""Files of up to this many bytes are read at once."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; raises OSError if it is not one, or no longer is.

    Pillow is given this file rather than a path: from a path it may memory-map uncompressed images, and truncating
    such a file would kill the process.
    """
    file = open(path, "rb", opener=_open)  # noqa: SIM115 - path may be a string; the caller closes it
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file like `open_regular`, but read a small file into memory, which makes small reads faster.

    Pillow makes some forty small reads of a JPEG's header.
    """
    fd = os.open(path, FLAGS)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not 0 < info.st_size <= SMALL:
            return open_regular(path)  # which raises OSError if it is not a file
        content = b""
        while len(content) < info.st_size and (part := os.read(fd, info.st_size - len(content))):
            content += part
        return io.BytesIO(content)
    finally:
        os.close(fd)


def copy_regular(source: str | os.PathLike[str], target: Path) -> None:
    """Copy a file's bytes; raises OSError unless it is (still) a regular file, since a device may never end."""
    with open_regular(source) as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def _open(path: str, _: int) -> int:
    fd = os.open(path, FLAGS)
    if stat.S_ISDIR(os.fstat(fd).st_mode):  # Python refuses to wrap directories, and leaves them open
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return fd
