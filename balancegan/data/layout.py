"""Detect which of the two accepted layouts a folder has, and find its class folders."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.options import AUTO, DECODING
from balancegan.core.text import plural, printable
from balancegan.data.sniff import PICTURE_SUFFIXES

SPLITS = ("train", "val", "test")
_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "holdout", "heldout"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
USUAL = {name: _SPLIT_OF[name] for name in ("train", "training", "val", "valid", "validation", "test", "testing")}
"""Names that always stand for splits; the others do if their split has no such name."""
_SYSTEM = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler"}
    | {"system volume information", "lost+found"}
)
"""Folders that operating systems and network drives add, in lower case."""
LAYOUT_HINT = "expected DATA/<class>/<images> or DATA/{train,val,test}/<class>/<images>, with at least two classes"


@dataclass(frozen=True)
class Layout:
    """Class folders per split; `split_dirs` is empty if the classes are directly under the root."""

    root: Path
    split_dirs: dict[str, str]
    class_dirs: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    hidden: int
    warnings: tuple[str, ...] = ()
    doubt: str = ""  # why it is not clear whether some folders are splits or classes

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
    """Whether a name is hidden: dot files, and folders that systems and network drives add next to the data."""
    return name.startswith(".") or name.lower() in _SYSTEM


def composed(name: str) -> str:
    """Return a name with composed accents; macOS decomposes them when it copies files, which makes no other class."""
    return unicodedata.normalize("NFC", name)


def split_of(name: str) -> str | None:
    """Return the split that a folder's usual name stands for ("train", "Test_Set", "dev"); None for other names."""
    plain = re.sub(r"[\s_.-]+", "", name.lower())
    return _SPLIT_OF.get(plain) or _SPLIT_OF.get(re.sub(r"(set|data|split|images)$", "", plain))


def find_layout(root: Path, top: _Listing, how: str = AUTO, *, decoding: int = DECODING) -> Layout:
    """Find the class folders under `root`, whose content is `top`; raises DatasetError if there are none.

    `how` is `splits` or `classes` where the user says what the folders directly under the root are. `decoding`: see
    `data.decode`; the first knew only the usual names of splits, and no doubt.
    """
    if not top.dirs and top.images:
        raise DatasetError(
            f"{_shown(root)} holds {plural(top.images, 'image')} but no class folders",
            f"put each class's images in its own folder, or give the labels in a table: --labels FILE.csv, or a "
            f"metadata.csv (file_name, label) beside the images; {LAYOUT_HINT}",
        )
    if not top.dirs:
        raise DatasetError(f"no images in {_shown(root)}", LAYOUT_HINT)
    if decoding == 1:
        found = _first_rules(root, top)
        return _flat(root, top) if found is None else _with_splits(root, top, found)
    _refuse_detection(root, top)
    named = _named(top)
    splits, doubt = (
        (named, "") if how == "splits" else (None, "") if how == "classes" else _split_dirs(root, top, named)
    )
    layout = _flat(root, top) if splits is None else _with_splits(root, top, splits)
    twins = _twins({composed(name) for names in layout.class_dirs.values() for name in names})
    return replace(layout, warnings=(*layout.warnings, *twins), doubt=doubt)


def _refuse_detection(root: Path, top: _Listing) -> None:
    """Raise `DatasetError` for a data set for object detection, whose folders are not classes."""
    names = {name.lower() for name in top.dirs}
    coco = any(re.fullmatch(r"(train|val|test|unlabeled)20\d\d", name) for name in names)
    voc = {"jpegimages", "annotations"} <= names
    yolo = {"images", "labels"} <= names and any(_has_boxes(root / n) for n in top.dirs if n.lower() == "labels")
    if coco or voc or yolo:
        kind = "COCO's" if coco else "Pascal VOC's" if voc else "YOLO's"
        raise DatasetError(
            f"{_shown(root)} is laid out like {kind} images with boxes, not like classes",
            "crop each object's box into a folder of its class, or label whole images: --labels FILE.csv",
        )


def _has_boxes(folder: Path) -> bool:
    """Whether the first files below a folder are lists of boxes: a class and four numbers a line."""
    lines: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        for path in islice(folder.rglob("*.txt"), 3):
            lines += path.read_text()[:2000].splitlines()[:3]
    return bool(lines) and all(len(line.split()) >= 5 for line in lines)


def _twins(names: set[str]) -> list[str]:
    """Warnings of classes whose names look the same."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
        alike.setdefault(folded, []).append(name)
    return [
        f"the classes {' and '.join(repr(printable(n)) for n in twins)} differ only in case or blanks, and "
        "count as different classes: rename the folders if they are one"
        for twins in alike.values()
        if len(twins) > 1
    ]


def list_root(root: Path) -> _Listing:
    """List a data set's folder; raises `UsageError` if it does not exist, `DatasetError` if it is no folder."""
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
    return _list(root, _ancestry(root))


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
            images += Path(entry.name).suffix.lower() in PICTURE_SUFFIXES
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


def _first_rules(root: Path, top: _Listing) -> dict[str, list[str]] | None:
    """Return the folders per split as runs of the first decoding saw them."""
    named = _usual(top)
    others = [name for name in top.dirs if name.lower() not in USUAL]
    if not others:
        return named or None
    if "train" not in named or not all(_only_folders(root / name) for name in named["train"]):
        return None
    return named if len(named) > 1 or not any(_has_images(root / name) for name in others) else None


def _usual(top: _Listing) -> dict[str, list[str]]:
    """Return the folders with usual names of splits."""
    named: dict[str, list[str]] = {}
    for name in top.dirs:
        if split := USUAL.get(name.lower()):
            named.setdefault(split, []).append(name)
    return named


def _named(top: _Listing) -> dict[str, list[str]]:
    """Return the folders with names of splits: the usual ones, and others only for splits that have none.

    A second name for val is the test split if there is no other.
    """
    named = _usual(top)
    others: dict[str, list[str]] = {}
    for name in top.dirs:
        if name.lower() not in USUAL and (split := split_of(name)):
            others.setdefault(split, []).append(name)
    for split, names in others.items():
        if split not in named:
            named[split] = names[:1]
        elif split == "val" and len(names) == 1 and names[0].lower().startswith("eval") and "test" not in named:
            named["test"] = names
    return named


def _split_dirs(root: Path, top: _Listing, named: dict[str, list[str]]) -> tuple[dict[str, list[str]] | None, str]:
    """Return the folders per split, or None for the flat layout, and why it may be the other one.

    "train" may also be a class (the vehicle). Folders with the names of splits count as splits if all folders have such
    names, or if the train folder contains only folders and either another split is present or the other folders
    contain no images.
    """
    mine = [name for names in named.values() for name in names]
    others = [name for name in top.dirs if not (split_of(name) or re.match("unlabell?ed", name.lower()))]
    if not named:
        return None, ""
    train = "train" in named and all(_only_folders(root / name) for name in named["train"])
    if not others and (train or all(name.lower() in USUAL for name in top.dirs)):
        return named, ""
    if train and (len(named) > 1 or not any(_has_images(root / name) for name in others)):
        return named, ""
    like_splits = [name for name in mine if _only_folders(root / name)]
    if not others or not like_splits:
        return None, ""
    shown, beside = printable(like_splits[0]), printable(others[0])
    return None, (
        f"'{shown}' may be a split or a class: it holds only folders, but beside it lies '{beside}', whose name is not "
        "that of a split"
    )


def _only_folders(folder: Path) -> bool:
    listing = _list(folder, frozenset())
    return bool(listing.dirs) and not listing.images


def _has_images(folder: Path, budget: int = 2000) -> bool:
    """Whether any of the first `budget` files below the folder has the extension of an image."""
    for _, dirs, names in os.walk(folder):
        dirs.sort()
        for name in sorted(names):
            budget -= 1
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                return True
            if budget == 0:
                return False
    return False


def _flat(root: Path, top: _Listing) -> Layout:
    notes = _loose(top, "next to the class folders") + _links(top)
    warnings = [
        f"folder '{printable(n)}' is taken as a class, because not all folders next to it are splits"
        for n in top.dirs
        if split_of(n)
    ]
    return Layout(root, {}, {"train": top.dirs}, tuple(notes), top.hidden, tuple(warnings))


def _with_splits(root: Path, top: _Listing, named: dict[str, list[str]]) -> Layout:
    for split, names in named.items():
        if len(names) > 1:
            both = " and ".join(f"'{printable(n)}'" for n in names)
            raise DatasetError(
                f"{_shown(root)} has two folders for the {split} split: {both}",
                "merge them or rename one, or use --layout classes if they are classes",
            )
    if "train" not in named:
        have = " and ".join(names[0] for names in named.values())
        raise DatasetError(f"{_shown(root)} has a {have} folder but no train folder", LAYOUT_HINT)
    notes = _loose(top, "next to the split folders") + _links(top)
    mine = {name for names in named.values() for name in names}
    skipped = [f"skipped folder '{printable(n)}': not a train, val or test split" for n in top.dirs if n not in mine]
    skipped += [
        f"folder '{printable(n)}' is taken as the {s} split"
        for s, (n, *_) in named.items()
        if not n.lower().startswith(s)
    ]
    split_dirs = {s: named[s][0] for s in SPLITS if s in named}
    above = _ancestry(root)
    class_dirs, hidden = {}, top.hidden
    for split, name in split_dirs.items():
        listing = _list(root / name, above | _ancestry(root / name))
        if not listing.dirs and listing.images and split == "train":
            hint = f"{LAYOUT_HINT}; or use --layout classes if '{printable(name)}' is a class"
            raise DatasetError(f"{_shown(root / name)} holds images but no class folders", hint)
        notes += _loose(listing, f"in {name}, outside the class folders") + _links(listing, f"{name}/")
        class_dirs[split] = listing.dirs
        hidden += listing.hidden
    return Layout(root, split_dirs, class_dirs, tuple(notes), hidden, tuple(skipped))


def _loose(listing: _Listing, where: str) -> list[str]:
    if listing.images:
        return [f"skipped {plural(listing.images, 'image')} {where}"]
    return []


def _links(listing: _Listing, prefix: str = "") -> list[str]:
    return [f"skipped link '{printable(prefix + name)}': its folder is read anyway" for name in listing.skipped]
