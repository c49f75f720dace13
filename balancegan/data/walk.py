"""List every file below a class folder once: follows links, ends loops, opens nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from balancegan.core.files import read_again
from balancegan.data.layout import is_hidden

_SPECIAL = {
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFBLK: "a device, not a file",
    stat.S_IFCHR: "a device, not a file",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A regular file that may be an image; `identity` is (device, inode), or None where the system has none."""

    rel: str
    split: str
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int  # also changes when a file is replaced by another of its size and time
    linked: bool
    several: bool  # the file has several names
    identity: tuple[int, int] | None


@dataclass
class Walk:
    """What a scan found besides candidates; filled in while walking."""

    root: Path
    hidden: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Folder:
    rel: str
    linked: bool


def walk_class(walk: Walk, split: str, name: str, rel: str) -> list[Candidate]:
    """Return all regular files below one class folder.

    Each real folder is entered once, own sub-folders before linked ones, so that loops end and a file keeps its real
    path. A link to a folder above the class leads to all other classes, or to the whole disk, and counts as a loop.
    The order does not depend on the file system.
    """
    found: list[Candidate] = []
    entered = _around(f"{walk.root}/{rel}")
    own: list[_Folder] = [_Folder(rel, False)]
    linked: list[_Folder] = []
    while own or linked:
        folder = own.pop() if own else linked.pop(0)
        if not _enter(walk, folder, entered):
            continue
        for entry in _entries(walk, folder.rel):
            if is_hidden(entry.name):
                walk.hidden += 1
            elif (item := _look(walk, entry, folder, split, name)) is None:
                continue
            elif isinstance(item, Candidate):
                found.append(item)
            else:
                (linked if item.linked else own).append(item)
    return found


def _around(folder: str) -> set[tuple[int, int]]:
    """Return the identities of the folders above this one, by its path and by its real path."""
    found: set[tuple[int, int]] = set()
    for path in (Path(folder), Path(os.path.realpath(folder))):
        for above in path.parents:
            with contextlib.suppress(OSError):
                info = os.stat(above)  # noqa: PTH116
                found.add((info.st_dev, info.st_ino))
    return found


def _enter(walk: Walk, folder: _Folder, entered: set[tuple[int, int]]) -> bool:
    try:
        where = f"{walk.root}/{folder.rel}"
        info = read_again(lambda: os.stat(where), f"read {where}")  # noqa: PTH116 - strings are fast for 60,000 files
    except OSError as e:
        walk.bad.append((folder.rel, f"cannot open this folder: {e.strerror}"))
        return False
    identity = (info.st_dev, info.st_ino)
    if identity in entered and folder.linked:  # some network drives give several folders one number
        walk.loops.append(folder.rel)
        return False
    entered.add(identity)
    return True


def _entries(walk: Walk, rel: str) -> list[os.DirEntry[str]]:
    def listed() -> list[os.DirEntry[str]]:
        with os.scandir(f"{walk.root}/{rel}") as it:
            return sorted(it, key=lambda entry: entry.name)

    try:
        return read_again(listed, f"list {walk.root}/{rel}")
    except OSError as e:
        walk.bad.append((rel, f"cannot open this folder: {e.strerror}"))
        return []


def _look(walk: Walk, entry: os.DirEntry[str], folder: _Folder, split: str, name: str) -> Candidate | _Folder | None:
    rel = f"{folder.rel}/{entry.name}" if folder.rel else entry.name
    linked = entry.is_symlink()

    def looked() -> os.stat_result:
        return os.stat(entry.path) if linked else entry.stat(follow_symlinks=False)  # noqa: PTH116

    try:
        info = read_again(looked, "read a file")
    except OSError as e:
        dangling = linked and isinstance(e, FileNotFoundError)
        walk.bad.append((rel, "broken link" if dangling else f"cannot be read: {e.strerror}"))
        return None
    if stat.S_ISDIR(info.st_mode):
        return _Folder(rel, linked or folder.linked)
    if not stat.S_ISREG(info.st_mode):
        walk.bad.append((rel, _SPECIAL.get(stat.S_IFMT(info.st_mode), "not a regular file")))
        return None
    identity = (info.st_dev, info.st_ino) if info.st_ino else None
    times, linked = (info.st_mtime_ns, info.st_ctime_ns), linked or folder.linked
    return Candidate(rel, split, name, info.st_size, *times, linked, info.st_nlink > 1, identity)
