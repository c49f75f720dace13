"""Detect which of the two accepted layouts a folder has, and find its class folders."""

from __future__ import annotations

import contextlib
import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.text import plural, printable
from balancegan.data.sniff import IMAGE_SUFFIXES

SPLITS = ("train", "val", "test")
ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
LAYOUT_HINT = "expected DATA/<class>/<images> or DATA/{train,val,test}/<class>/<images>, with at least two classes"


@dataclass(frozen=True)
class Layout:
    """Class folders per split; `split_dirs` is empty if the classes are directly under the root."""

    root: Path
    split_dirs: dict[str, str]
    class_dirs: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    hidden: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits on disk in canonical order."""
        return tuple(s for s in SPLITS if s in self.class_dirs)

    def class_path(self, split: str, name: str) -> str:
        """Return the class folder's path relative to the root."""
        return f"{self.split_dirs[split]}/{name}" if self.split_dirs else name


@dataclass(frozen=True)
class _Listing:
    """The direct contents of a folder; a link counts as its target, a broken link as a file."""

    dirs: tuple[str, ...]
    images: int
    files: int
    hidden: int
    skipped: tuple[str, ...]


def _shown(path: Path) -> str:
    return printable(str(path))


def is_hidden(name: str) -> bool:
    """Whether a name is hidden: dot files, and the folder that macOS archives add next to the data."""
    return name.startswith(".") or name == "__MACOSX"


def find_layout(root: Path) -> Layout:
    """Find the class folders under `root`; raises UsageError or DatasetError if there are none."""
    top = _list_root(root)
    splits = _split_dirs(root, top)
    if splits is None:
        return _flat(root, top)
    return _with_splits(root, top, splits)


def _list_root(root: Path) -> _Listing:
    if not os.path.lexists(root):
        beside: list[str] = []
        with contextlib.suppress(OSError):
            beside = [p.name for p in root.parent.iterdir() if p.is_dir()]
        near = difflib.get_close_matches(root.name, beside, n=1)
        raise UsageError(
            f"no such folder: {_shown(root)}", f"did you mean {printable(near[0])}?" if near else "check the path"
        )
    if not root.is_dir():
        archive = root.suffix.lower() in {".zip", ".tar", ".gz", ".tgz", ".xz", ".7z", ".rar"}
        what = "unpack the archive first and give the folder" if archive else LAYOUT_HINT
        raise DatasetError(f"not a folder: {_shown(root)}", what)
    top = _list(root, _ancestry(root))
    if not top.dirs and top.images:
        raise DatasetError(
            f"{_shown(root)} holds {plural(top.images, 'image')} but no class folders",
            f"put each class's images in its own folder; {LAYOUT_HINT}",
        )
    if not top.dirs:
        raise DatasetError(f"no images in {_shown(root)}", LAYOUT_HINT)
    return top


def _list(folder: Path, above: frozenset[tuple[int, int]]) -> _Listing:
    """List one level, without links to the folder itself or above it and without repeated links to one folder."""
    try:
        with os.scandir(folder) as it:
            entries = sorted(it, key=lambda e: (e.is_symlink(), e.name))
    except OSError as e:
        raise DatasetError(f"cannot open the folder {_shown(folder)}: {e.strerror}", "check its permissions") from e
    seen = set(above)
    dirs, skipped, images, files, hidden = [], [], 0, 0, 0
    for entry in entries:
        if is_hidden(entry.name):
            hidden += 1
        elif not _is_dir(entry):
            files += 1
            images += Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
        elif (identity := _identity(entry.path)) in seen and entry.is_symlink():
            skipped.append(entry.name)
        else:
            dirs.append(entry.name)
            if identity is not None:
                seen.add(identity)
    return _Listing(tuple(sorted(dirs)), images, files, hidden, tuple(skipped))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return the device and inode that a path leads to; None if it vanished after the folder was listed."""
    try:
        info = os.stat(path)  # noqa: PTH116 - follows links, and takes the string as it is
    except OSError:
        return None
    return (info.st_dev, info.st_ino)


def _ancestry(folder: Path) -> frozenset[tuple[int, int]]:
    """Return the identities of the folder and all folders above it, by its real path."""
    real = Path(os.path.realpath(folder))
    return frozenset(found for p in (real, *real.parents) if (found := _identity(p)) is not None)


def _split_dirs(root: Path, top: _Listing) -> dict[str, list[str]] | None:
    """Return the folders per split, or None for the flat layout.

    "train" may also be a class (the vehicle). Folders with the names of splits count as splits if all folders have such
    names, or if the train folder contains only folders and either another split is present or the other folders
    contain no images.
    """
    named: dict[str, list[str]] = {}
    for name in top.dirs:
        if name.lower() in ALIASES:
            named.setdefault(ALIASES[name.lower()], []).append(name)
    others = [name for name in top.dirs if name.lower() not in ALIASES]
    if not named:
        return None
    if not others:
        return named
    if "train" not in named or not all(_only_folders(root / name) for name in named["train"]):
        return None
    return named if len(named) > 1 or not any(_has_images(root / name) for name in others) else None


def _only_folders(folder: Path) -> bool:
    listing = _list(folder, frozenset())
    return bool(listing.dirs) and not listing.images


def _has_images(folder: Path, budget: int = 2000) -> bool:
    """Whether any of the first `budget` files below the folder has the extension of an image."""
    for _, dirs, names in os.walk(folder):
        dirs.sort()
        for name in sorted(names):
            budget -= 1
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                return True
            if budget == 0:
                return False
    return False


def _flat(root: Path, top: _Listing) -> Layout:
    notes = _loose(top, "next to the class folders") + _links(top)
    names = [n for n in top.dirs if n.lower() in ALIASES]
    notes += [
        f"folder '{printable(n)}' is treated as a class, because not all folders next to it are splits" for n in names
    ]
    return Layout(root, {}, {"train": top.dirs}, tuple(notes), top.hidden)


def _with_splits(root: Path, top: _Listing, named: dict[str, list[str]]) -> Layout:
    for split, names in named.items():
        if len(names) > 1:
            both = " and ".join(f"'{printable(n)}'" for n in names)
            raise DatasetError(
                f"{_shown(root)} has two folders for the {split} split: {both}", "merge them or rename one"
            )
    if "train" not in named:
        have = " and ".join(names[0] for names in named.values())
        raise DatasetError(f"{_shown(root)} has a {have} folder but no train folder", LAYOUT_HINT)
    notes = _loose(top, "next to the split folders") + _links(top)
    others = [n for n in top.dirs if n.lower() not in ALIASES]
    notes += [f"skipped folder '{printable(n)}': not a train, val or test split" for n in others]
    split_dirs = {s: named[s][0] for s in SPLITS if s in named}
    above = _ancestry(root)
    class_dirs, hidden = {}, top.hidden
    for split, name in split_dirs.items():
        listing = _list(root / name, above | _ancestry(root / name))
        if not listing.dirs and listing.images and split == "train":
            raise DatasetError(f"{_shown(root / name)} holds images but no class folders", LAYOUT_HINT)
        notes += _loose(listing, f"in {name}, outside the class folders") + _links(listing, f"{name}/")
        class_dirs[split] = listing.dirs
        hidden += listing.hidden
    return Layout(root, split_dirs, class_dirs, tuple(notes), hidden)


def _loose(listing: _Listing, where: str) -> list[str]:
    if listing.images:
        return [f"skipped {plural(listing.images, 'image')} {where}"]
    return []


def _links(listing: _Listing, prefix: str = "") -> list[str]:
    return [f"skipped link '{printable(prefix + name)}': its folder is read anyway" for name in listing.skipped]
