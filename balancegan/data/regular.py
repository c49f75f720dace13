"""Opening files that others may change: never a pipe that makes us wait, never a device."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""How to open for reading without waiting: a pipe without a writer would block for ever."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; OSError when it is none, also when it became something else since it was listed.

    Pillow gets such a file rather than a path: from a path it may map uncompressed images into memory, and a file
    that somebody shortens then ends the process.
    """
    file = open(path, "rb", opener=_open)  # noqa: SIM115 - path may be a string; the caller closes it
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file any more", os.fspath(path))
    except BaseException:
        file.close()
        raise
    return file


def copy_regular(source: str | os.PathLike[str], target: Path) -> None:
    """Copy a file's bytes; OSError when it is no regular file (any more): a device may have no end."""
    with open_regular(source) as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def _open(path: str, _: int) -> int:
    fd = os.open(path, FLAGS)
    if stat.S_ISDIR(os.fstat(fd).st_mode):  # which Python refuses to wrap, and leaves open
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return fd
