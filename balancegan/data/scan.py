"""List a folder's images in order: finds the layout, sniffs contents, follows links; decodes and writes nothing.

Two layouts are accepted: `DATA/<class>/**` and `DATA/{train,val,test}/<class>/**` (also other usual names of splits, in
any case). Images in deeper sub-folders belong to the class. Or a table gives the label of every image, wherever below
DATA it lies. A file's first bytes decide what it is, not its name; only regular files are ever opened.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from balancegan.core.errors import DatasetError
from balancegan.core.options import PLAIN_DATA, DataOptions
from balancegan.core.progress import Progress, silent
from balancegan.core.text import plural, printable
from balancegan.data.labels import LabelTable, find_table
from balancegan.data.layout import LAYOUT_HINT, SPLITS, Layout, composed, find_layout, is_hidden, list_root, split_of
from balancegan.data.other_files import kind_of, unread
from balancegan.data.own import METADATA, Told
from balancegan.data.sniff import IMAGE_SUFFIXES, Sniffed, sniff_many
from balancegan.data.walk import Candidate, Walk, walk_class

__all__ = ["SPLITS", "BadFile", "ImageFile", "ImageFolder", "plural", "printable", "scan"]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image as found on disk; `size` in bytes, `format` by content in Pillow's spelling ("PNG", "JPEG")."""

    rel: str
    split: str
    label: int
    size: int
    mtime_ns: int
    ctime_ns: int
    format: str


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file (path relative to the root) that was meant to be an image, and why it cannot be used."""

    path: str
    reason: str


@dataclass(frozen=True)
class ImageFolder:
    """All images under `root`, sorted by (split, class, path); the order does not depend on the file system.

    `classes` holds every class folder of any split, sorted, empty ones too (`notes` names them), with composed accents.
    `split_dirs` maps a split to its folder's name on disk and is empty for the flat layout, where every image is in
    "train". With labels from a table (`labelled`), images lie anywhere; `groups` are those that it names, by path.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    split_dirs: dict[str, str]
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # what the user should know without asking
    labelled: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)

    def path(self, f: ImageFile) -> Path:
        """Return the image's path on disk."""
        return self.root / f.rel

    def counts(self, split: str = "train") -> dict[str, int]:
        """Return the images per class name in one split, in class order; classes without an image there count 0."""
        numbers = Counter(f.label for f in self.files if f.split == split)
        return {name: numbers[label] for label, name in enumerate(self.classes)}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that exist on disk, in canonical order."""
        return tuple(s for s in SPLITS if s in self.split_dirs) or ("train",)

    @property
    def mean_bytes(self) -> float:
        """Mean file size in bytes; 0 without files."""
        return sum(f.size for f in self.files) / max(1, len(self.files))

    def folders(self) -> set[Path]:
        """Return the root and every folder that contains an image, as reached from the root."""
        return {self.root} | {self.root / rel for rel in {f.rel.rpartition("/")[0] for f in self.files}}

    def class_dir(self, split: str, name: str) -> str:
        """Return the class folder's path in a copy of the folder, relative to the root, `/`-separated."""
        return f"{self.split_dirs[split]}/{name}" if self.split_dirs else name

    def inner(self, f: ImageFile) -> str:
        """Return the image's path inside its class folder, independent of the folder's location and split names."""
        return f.rel if self.labelled else f.rel.split("/", 2 if self.split_dirs else 1)[-1]

    def own_class(self, f: ImageFile) -> str:
        """Return the class as its folder's name is encoded on disk."""
        return self.classes[f.label] if self.labelled else f.rel.split("/")[1 if self.split_dirs else 0]

    def place(self, f: ImageFile) -> str:
        """Return the image's path in a copy of the folder, where every class has its own folder."""
        return f"{self.class_dir(f.split, self.classes[f.label])}/{self.inner(f)}"


@dataclass
class _Sorted:
    """Candidates after sniffing: images, damaged files, and other files that were never meant to be images."""

    images: list[tuple[Candidate, str]] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    side: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Pause Python's garbage collector, which would traverse the growing lists of files again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@no_collection()
def scan(
    root: str | Path,
    how: DataOptions = PLAIN_DATA,
    *,
    least_classes: int = 2,
    settle: bool = True,
    progress: Progress = silent,
) -> ImageFolder:
    """List the images of a data set; `how` is what the user says of it.

    Raises UsageError if `root` does not exist, and DatasetError if it is not a data set: a single file, images
    without labels, no `train` split, no images, fewer than `least_classes` classes with training images, or, with
    `settle`, folders that may be splits or classes.
    """
    place = Path(root).absolute()
    top = list_root(place)
    first = how.decoding == 1
    table = find_table(place, how.labels, () if first else top.dirs, automatic=not first)
    if table:
        layout = Layout(place, {}, {"train": ("",)}, (), 0)
    else:
        layout = find_layout(place, top, how.layout, decoding=how.decoding)
    named = str if first else composed
    if layout.doubt and settle:
        raise DatasetError(layout.doubt, "say which with --layout splits or --layout classes")
    walk = Walk(layout.root)
    candidates: list[Candidate] = []
    for split in layout.splits:
        for name in layout.class_dirs[split]:
            candidates += walk_class(walk, split, named(name), layout.class_path(split, name))
            progress("scan", len(candidates), 0)
    found = _sort_out(layout, _once_each(candidates, walk), progress)
    _drop_beside(found, every=first)
    warnings = [*layout.warnings, *([layout.doubt] if layout.doubt else [])]
    groups: dict[str, str] = {}
    if table:
        layout, groups = _labelled(layout, table, found)
        warnings += table.warnings
    elif not (how.synthetic or first):
        warnings += _without_synthetic(layout, found)
    folder = _assemble(layout, walk, found, named)
    warnings += [*_nested(folder), *([line] if (line := unread(found.side)) else [])]
    folder = replace(folder, warnings=tuple(warnings), labelled=table is not None, groups=groups)
    _check_usable(folder, layout, found, least_classes)
    return folder


def _drop_beside(found: _Sorted, *, every: bool) -> None:
    """Leave out arrays beside an image of their name (its mask or depth map), or `every` array and DICOM file."""
    stems = {c.rel.rpartition(".")[0] for c, form in found.images if form not in ("NPY", "DICOM")}
    kept = []
    for c, form in found.images:
        if form in ("NPY", "DICOM") and (every or c.rel.rpartition(".")[0] in stems):
            found.side[kind_of(c.rel) or "without extension"] += 1
        else:
            kept.append((c, form))
    found.images = kept


def _labelled(layout: Layout, table: LabelTable, found: _Sorted) -> tuple[Layout, dict[str, str]]:
    """Give the images the classes and splits of a table; returns their layout, and the groups by path."""
    labels = table.take([c.rel for c, _ in found.images])

    def split(c: Candidate) -> str:
        above = c.rel.partition("/")[0] if "/" in c.rel else ""
        return labels[c.rel].split or split_of(above) or "train"

    found.images = [
        (replace(c, name=labels[c.rel].name, split=split(c)), form) for c, form in found.images if c.rel in labels
    ]
    names: dict[str, set[str]] = {}
    for c, _ in found.images:
        names.setdefault(c.split, set()).add(c.name)
    if "train" not in names:
        raise DatasetError(f"{printable(str(table.path))} puts no image into the train split", "check its column split")
    split_dirs = {s: s for s in SPLITS if s in names} if len(names) > 1 else {}
    groups = {rel: label.group for rel, label in labels.items() if label.group}
    class_dirs = {s: tuple(sorted(found_names)) for s, found_names in names.items()}
    return replace(layout, split_dirs=split_dirs, class_dirs=class_dirs), groups


def _without_synthetic(layout: Layout, found: _Sorted) -> list[str]:
    """Drop the synthetic images of a folder that we wrote, and say so."""
    told = Told(layout.root, layout.split_dirs.values())
    if not told:
        return []
    made = [bool(told.synthetic(c.rel)) for c, _ in found.images]
    if doubt := told.doubt([*(c.rel for c, _ in found.images), *(bad.path for bad in found.bad)]):
        raise DatasetError(
            f"in {printable(str(layout.root))}, real and synthetic images cannot be told apart: {doubt}",
            "restore the names, or use --synthetic to count all images as real",
        )
    if not any(made):
        return []
    found.images = [image for image, synthetic in zip(found.images, made, strict=True) if not synthetic]
    return [
        f"the folder was balanced before: {plural(sum(made), 'synthetic image is', 'synthetic images are')} left out "
        f"by its {METADATA} (--synthetic counts them)"
    ]


def _nested(folder: ImageFolder) -> list[str]:
    """Say which classes have all their images in several sub-folders, which may be the real classes."""
    if folder.labelled:
        return []
    below: dict[int, set[str]] = {}
    for f in folder.files:
        below.setdefault(f.label, set()).add(folder.inner(f).rpartition("/")[0].partition("/")[0])
    deep = {k: sorted(names) for k, names in below.items() if len(names) > 1 and "" not in names}
    if not deep:
        return []
    k, names = next(iter(deep.items()))
    some = " and ".join(printable(f"{folder.classes[k]}/{name}") for name in names[:2])
    return [
        f"{plural(len(deep), 'class has', 'classes have')} all images in sub-folders (e.g. {some}), which count as one "
        "class; if each sub-folder is a class, give the folder above them, or the labels with --labels FILE.csv"
    ]


def _once_each(candidates: list[Candidate], walk: Walk) -> list[Candidate]:
    """Keep one path per file inside a class.

    A file in two classes or splits stays in both: that is a label conflict or a leak, which `inspect` must show.
    """
    kept: dict[object, Candidate] = {}
    # Only links lead to a file twice; some network drives give different files one number.
    several = {c.identity for c in candidates if c.linked or c.several} - {None}
    for c in sorted(candidates, key=lambda c: (c.linked, c.rel)):
        key = (c.split, c.name, c.identity) if c.identity in several else c.rel
        if key in kept:
            walk.twice.append(c.rel)
        else:
            kept[key] = c
    return list(kept.values())


def _sort_out(layout: Layout, candidates: list[Candidate], progress: Progress) -> _Sorted:
    out = _Sorted()
    paths = [f"{layout.root}/{c.rel}" for c in candidates]
    for c, sniffed in zip(candidates, sniff_many(paths, progress), strict=True):
        if sniffed.format:
            out.images.append((c, sniffed.format))
            continue
        suffix = Path(c.rel).suffix.lower()
        if suffix in IMAGE_SUFFIXES or sniffed.unreadable:
            out.bad.append(BadFile(c.rel, _why_bad(c, sniffed)))
        else:
            out.side[kind_of(c.rel) or "without extension"] += 1
    return out


def _why_bad(c: Candidate, sniffed: Sniffed) -> str:
    return "the file is empty (0 bytes)" if c.size == 0 and not sniffed.unreadable else sniffed.reason


def _assemble(layout: Layout, walk: Walk, found: _Sorted, named: Callable[[str], str]) -> ImageFolder:
    classes = tuple(sorted({named(name) for names in layout.class_dirs.values() for name in names}))
    label = {name: i for i, name in enumerate(classes)}
    order = {split: i for i, split in enumerate(SPLITS)}
    files = [ImageFile(c.rel, c.split, label[c.name], c.size, c.mtime_ns, c.ctime_ns, fmt) for c, fmt in found.images]
    files.sort(key=lambda f: (order[f.split], f.label, f.rel))
    bad = sorted([BadFile(path, reason) for path, reason in walk.bad] + found.bad, key=lambda b: b.path)
    folder = ImageFolder(layout.root, classes, tuple(files), dict(layout.split_dirs), tuple(bad))
    notes = (*layout.notes, *_notes(folder, walk, found.side, layout.hidden))
    return ImageFolder(layout.root, classes, tuple(files), dict(layout.split_dirs), tuple(bad), notes)


def _notes(folder: ImageFolder, walk: Walk, side: Counter[str], hidden_above: int) -> list[str]:
    notes = []
    for split in folder.splits:
        where = f" in {split}" if folder.split_dirs else ""
        notes += [f"class '{printable(name)}' is empty{where}" for name, n in folder.counts(split).items() if n == 0]
    if hidden := walk.hidden + hidden_above:
        notes.append(f"skipped {plural(hidden, 'hidden file or folder', 'hidden files or folders')}")
    if side:
        kinds = ", ".join(f"{printable(kind)} {n:,}" for kind, n in side.most_common(5))
        others = plural(side.total(), "file that is not an image", "files that are not images")
        notes.append(f"skipped {others} ({kinds})")
    if walk.twice:
        example = printable(min(walk.twice))
        notes.append(
            f"{plural(len(walk.twice), 'file')} found more than once through links, counted once (e.g. {example})"
        )
    for rel in walk.loops:
        notes.append(f"skipped link '{printable(rel)}': its folder was already read")
    return notes


def _check_usable(folder: ImageFolder, layout: Layout, found: _Sorted, least_classes: int) -> None:
    counts = {name: n for name, n in folder.counts().items() if n}
    where = f"{layout.root}/{layout.split_dirs['train']}" if layout.split_dirs else str(layout.root)
    shown = printable(where)
    if not counts and folder.bad_files:
        first, bad = folder.bad_files[0], plural(len(folder.bad_files), "file is", "files are")
        raise DatasetError(
            f"no readable images in {shown}: {bad} damaged or unreadable",
            f"for example {printable(first.path)}: {first.reason}",
        )
    if not counts:
        raise DatasetError(f"no images in {shown}", unread(found.side) or LAYOUT_HINT)
    if len(counts) < least_classes:
        raise DatasetError(
            f"only one class in {shown} has images: '{printable(next(iter(counts)))}'", _hint_one(layout)
        )


def _hint_one(layout: Layout) -> str:
    """Return a hint: archives often wrap the data set in an extra folder, so name the inner one."""
    names = layout.class_dirs["train"]
    inner = layout.root / layout.class_path("train", names[0])
    if len(names) == 1:
        below: list[str] = []
        with contextlib.suppress(OSError):
            below = [p.name for p in inner.iterdir() if p.is_dir() and not is_hidden(p.name)]
        if below:
            return f"the class folders seem to be one level deeper: use {printable(str(inner))}"
    return f"balancing needs at least two classes; {LAYOUT_HINT}"
