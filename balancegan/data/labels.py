"""Labels from a table: which class, and perhaps which split and group, every image of a folder belongs to.

Tables are CSV, TSV or JSON Lines. Columns are found by their usual names on Kaggle and Hugging Face; a table may also
have a column of zeros and ones for each class.
"""

from __future__ import annotations

import contextlib
import io
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.files import open_regular
from balancegan.core.text import plural, printable
from balancegan.data.layout import composed, split_of
from balancegan.data.tables import read_table

FILE_COLUMNS = (
    *("file_name", "filename", "file", "path", "filepath", "image_path", "image_file", "image"),
    *("image_name", "image_id", "imageid", "id_code", "img", "img_name", "name", "id"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "category", "target", "diagnosis", "dx"),
    *("species", "breed", "type", "y", "id"),
)
"""Usual names of the columns, in lower case and by precedence; blanks and hyphens count as underscores."""
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
AUTOMATIC = ("metadata.csv", "metadata.jsonl")
"""Tables that are read without being asked for, as Hugging Face does."""


@dataclass(frozen=True)
class Label:
    """What a table says of one image; `split` and `group` are empty where it says nothing."""

    name: str
    split: str = ""
    group: str = ""


@dataclass
class LabelTable:
    """The rows of a table; `take` finds those of images."""

    path: Path
    prefix: str  # of the names in the table, relative to the data's root
    labels: dict[str, Label]
    warnings: list[str] = field(default_factory=list)

    def take(self, names: Sequence[str]) -> dict[str, Label]:
        """Return the labels of those images, by path relative to the root, that the table names.

        Names count relative to the root or to the table's folder, with or without extension, however accents are
        encoded. Raises `DatasetError` if the table names none of the images.
        """
        found: dict[str, Label] = {}
        used: set[str] = set()
        short = _unique_ends(names)
        for name in names:
            for key in self._keys(name, short):
                if key in self.labels:
                    found[name] = self.labels[key]
                    used.add(key)
                    break
        shown = printable(str(self.path))
        if names and not found:
            first = printable(next(iter(self.labels), ""))
            raise DatasetError(
                f"{shown} names none of the {len(names):,} images, for example not {printable(names[0])}",
                f"the table's first name is {first!r}; names are relative to DATA or to the table's folder",
            )
        if lost := [key for key in self.labels if key not in used]:
            what = plural(len(lost), "row matches", "rows match")
            self.warnings.append(f"{what} no image (e.g. {printable(lost[0])}) in {shown}")
        if left := len(names) - len(found):
            example = printable(next(name for name in names if name not in found))
            self.warnings.append(f"{plural(left, 'image is', 'images are')} not in {shown}: left out (e.g. {example})")
        return found

    def _keys(self, name: str, short: set[str]) -> Iterator[str]:
        plain = _plain(name)
        full = [plain, plain.removeprefix(self.prefix)] if plain.startswith(self.prefix) else [plain]
        last = plain.rpartition("/")[2]
        for key in (*full, last):
            for each in (key, posixpath.splitext(key)[0]):
                if "/" in key or key in full or each in short:
                    yield each


def _unique_ends(names: Sequence[str]) -> set[str]:
    """The file names without their folders, and those without extensions too, that occur only once."""
    lasts = [_plain(name).rpartition("/")[2] for name in names]
    counts = Counter(lasts) + Counter(posixpath.splitext(last)[0] for last in lasts)
    return {end for end, n in counts.items() if n == 1}


def _plain(name: str) -> str:
    return posixpath.normpath(composed(name.strip().replace("\\", "/")))


def find_table(root: Path, given: str, folders: Sequence[str], *, automatic: bool = True) -> LabelTable | None:
    """Read the table that the user names, or a metadata file in `root` or in those of its `folders` that are splits.

    Returns None without one. Raises `UsageError` if the file does not exist, `DatasetError` if it cannot be used.
    """
    if given:
        path = next((p for p in (Path(given), root / given, root / Path(given).name) if p.is_file()), None)
        if path is None:
            raise UsageError(f"--labels {printable(given)}: there is no such file", "check the path")
        return read_labels(path, root)
    if not automatic:
        return None
    if path := _metadata(root):
        table = read_labels(path, root)
        table.warnings.append(f"the labels are those of {path.name}")
        return table
    parts = [
        (above, split, path) for above in folders if (split := split_of(above)) and (path := _metadata(root / above))
    ]
    if not parts:
        return None
    whole = LabelTable(parts[0][2], "", {})
    for above, split, path in parts:
        table = read_labels(path, root / above)
        whole.labels |= {
            f"{above}/{name}": replace(label, split=label.split or split) for name, label in table.labels.items()
        }
        whole.warnings += table.warnings
    return whole


def _metadata(folder: Path) -> Path | None:
    # The scan names folders that cannot be opened; files of this name may hold anything.
    with contextlib.suppress(PermissionError, DatasetError):
        return next((p for p in (folder / name for name in AUTOMATIC) if p.is_file() and _labelled(p)), None)
    return None


def _labelled(path: Path) -> bool:
    """Whether a metadata file has a column of labels, and is not that of one of our own folders."""
    row = next(iter(_rows(path)), {})
    columns = {_folded(name) for name in row}
    return "file_name" in columns and "synthetic" not in columns and bool(columns & {"label", "labels", "class"})


def read_labels(path: Path, root: Path) -> LabelTable:
    """Read a table of labels for the images below `root`. Raises `DatasetError` if it has no usable columns."""
    if path.suffix.lower() not in SUFFIXES:
        hint = "export it as CSV, for example with pandas: pandas.read_parquet(FILE).to_csv(…, index=False)"
        raise DatasetError(f"{printable(str(path))} is not a CSV, TSV or JSON Lines file", hint)
    rows = list(_rows(path))
    if not rows:
        raise DatasetError(f"{printable(str(path))} has no rows", "its first line must name the columns")
    columns = {_folded(name): name for row in rows[:100] for name in row}
    file_column = next((columns[name] for name in FILE_COLUMNS if name in columns), None)
    label_column = next((columns[name] for name in LABEL_COLUMNS if columns.get(name) not in (None, file_column)), None)
    one_hot = [] if label_column else _one_hot(rows, {*columns.values()} - {file_column})
    if file_column is None or not (label_column or one_hot):
        raise DatasetError(
            f"{printable(str(path))} lacks a column of {'labels' if file_column else 'file names'}; it has "
            f"{printable(', '.join(columns.values()))[:300]}",
            "name the columns file_name and label",
        )
    labels: dict[str, Label] = {}
    empty = 0
    for row in rows:
        name = _plain(row.get(file_column) or "")
        said = row.get(label_column, "") if label_column else next((c for c in one_hot if float(row[c]) == 1), "")
        text = class_name(said)
        if not text or name == ".":
            empty += 1
            continue
        split, group = (row.get(columns[name], "").strip() if name in columns else "" for name in ("split", "group"))
        label = Label(text, split_of(split) or split, group)
        if labels.setdefault(name, label).name != text:
            raise DatasetError(
                f"{printable(str(path))} gives {printable(name)} two labels: {labels[name].name} and {text}",
                "every image needs one label",
            )
    unknown = {x.split for x in labels.values()} - {"", "train", "val", "test"}
    if unknown:
        raise DatasetError(
            f"{printable(str(path))} has the unknown split {printable(min(unknown))!r}", "use train, val and test"
        )
    where = path.parent.resolve()
    prefix = f"{where.relative_to(root.resolve()).as_posix()}/" if where.is_relative_to(root.resolve()) else ""
    table = LabelTable(path, prefix.removeprefix("./"), labels)
    if empty:
        table.warnings.append(f"{plural(empty, 'row has', 'rows have')} no label or no file in {printable(str(path))}")
    return table


def class_name(text: str) -> str:
    """Return a label as a class's name, which must be able to name a folder."""
    name = re.sub(r"[/\\\0-\x1f]", "-", composed(text.strip()))
    return f"_{name}" if name.startswith(".") else name


def _one_hot(rows: Sequence[dict[str, str]], columns: Iterable[str]) -> list[str]:
    """The columns of zeros and ones of which exactly one is 1 in every row."""
    chosen = sorted(c for c in columns if all(_is_bit(row.get(c, "")) for row in rows))
    return chosen if len(chosen) > 1 and all(sum(float(row[c]) for c in chosen) == 1 for row in rows) else []


def _is_bit(text: str) -> bool:
    return re.fullmatch(r"[01](\.0*)?", text.strip()) is not None


def _folded(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a table as text; labels such as NA, 007 or None stay as they are written."""
    if path.suffix.lower() not in (".jsonl", ".json"):
        yield from read_table(path, "\t" if path.suffix.lower() == ".tsv" else None)
        return
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape") as text:
            yield from (_flat(json.loads(line)) for line in text if line.strip())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{printable(str(path))} cannot be read: {why}", "repair it, or remove it") from None


def _flat(row: object) -> dict[str, str]:
    if not isinstance(row, dict):
        raise ValueError("every line must be one JSON object")
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
