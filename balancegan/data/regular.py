"""Opening files that others may change: never a pipe that makes us wait, never a device."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""How to open for reading without waiting: a pipe without a writer would block for ever."""
SMALL = 1 << 16
"""Bytes up to which a file is read at once."""


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


def read_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """As `open_regular`, with what a small file holds in memory: readers that ask for a few bytes at a time like it.

    Pillow makes some forty small reads of a JPEG's header, of which each costs less in memory.
    """
    fd = os.open(path, FLAGS)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not 0 < info.st_size <= SMALL:
            return open_regular(path)  # which says what is wrong with it
        content = b""
        while len(content) < info.st_size and (part := os.read(fd, info.st_size - len(content))):
            content += part
        return io.BytesIO(content)
    finally:
        os.close(fd)


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
