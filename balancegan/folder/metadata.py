"""metadata.csv: which files of a balanced folder are synthetic, and where every one comes from.

A table comes with a folder from anywhere, so what it says is taken as text: a name that leads out of the folder is
no file of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from balancegan.core.errors import DatasetError
from balancegan.core.files import open_regular
from balancegan.data.scan import ImageFile, ImageFolder


def synthetic_images(folder: ImageFolder, files: Sequence[ImageFile], *, none: bool) -> np.ndarray:
    """Which files (N,) are synthetic by the folder's metadata.csv; `none` where it does not say."""
    told: dict[str, bool] = {}
    for prefix in {"", *(f"{name}/" for name in folder.split_dirs.values())}:
        table = folder.root / f"{prefix}metadata.csv"
        if table.is_file():
            for row in read_table(table):
                if row.get("file_name") and "synthetic" in row:
                    told[prefix + row["file_name"]] = row["synthetic"].strip().lower() in ("1", "true", "yes")
    return np.array([told.get(file.rel, none) for file in files], bool)


NAME = "metadata.csv"
COLUMNS = ("file_name", "label", "synthetic", "run", "seed", "checkpoint_sha256", "source_path")


def table_bytes(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The file's content; every name is read back as it is."""
    buffer = io.StringIO()
    # The csv module quotes only those line ends that it writes itself, and a bare carriage return in a file's name
    # would end the row for every reader.
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return _unix_ends(buffer.getvalue()).encode("utf-8", "surrogateescape")


def _unix_ends(text: str) -> str:
    """The rows of a table ended by one character; line ends within quotes stay."""
    parts = text.split('"')
    return '"'.join(part.replace("\r\n", "\n") if i % 2 == 0 else part for i, part in enumerate(parts))


def read_table(table: Path) -> Iterator[dict[str, str]]:
    """Rows of a metadata.csv as text, without the columns that a row lacks. DatasetError when it cannot be read."""
    try:
        with (
            open_regular(table) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            for row in csv.DictReader(text):
                yield {key: value for key, value in row.items() if isinstance(key, str) and value is not None}
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{table} cannot be read: {why}", "repair it, or remove it") from None


def stays_inside(name: str) -> bool:
    """Whether a path of a table lies in the table's folder, by its words alone."""
    path = PurePath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name
