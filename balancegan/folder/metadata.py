"""Read and write metadata.csv: which files of a balanced folder are synthetic, and where each one comes from.

A folder and its table may come from anywhere, so a table is only text: a name that leads out of the folder is not
one of its files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from balancegan.data.scan import ImageFile, ImageFolder
from balancegan.data.tables import read_table


def synthetic_images(folder: ImageFolder, files: Sequence[ImageFile], *, none: bool) -> np.ndarray:
    """Return which files (N,) are synthetic by the folder's metadata.csv; `none` for files that it does not list."""
    told: dict[str, bool] = {}
    for prefix in {"", *(f"{name}/" for name in folder.split_dirs.values())}:
        table = folder.root / f"{prefix}metadata.csv"
        if table.is_file():
            for row in read_table(table):
                if row.get("file_name") and "synthetic" in row:
                    told[prefix + row["file_name"]] = is_synthetic(row)
    return np.array([told.get(file.rel, none) for file in files], bool)


def is_synthetic(row: Mapping[str, str]) -> bool:
    """Whether a row of a table calls its image synthetic."""
    return row.get("synthetic", "").strip().lower() in ("1", "true", "yes")


NAME = "metadata.csv"
COLUMNS = ("file_name", "label", "kind", "synthetic", "run", "seed", "checkpoint_sha256", "source_path", "split")


def table_bytes(rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return the file's content; every name is read back unchanged."""
    buffer = io.StringIO()
    # The csv module quotes only characters of its own line terminator, and an unquoted carriage return in a file's
    # name would end the row for every reader.
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return _unix_ends(buffer.getvalue()).encode("utf-8", "surrogateescape")


def _unix_ends(text: str) -> str:
    """End the rows of a table with LF instead of CRLF; line ends within quotes stay."""
    parts = text.split('"')
    return '"'.join(part.replace("\r\n", "\n") if i % 2 == 0 else part for i, part in enumerate(parts))


def stays_inside(name: str) -> bool:
    """Whether a path in a table stays in the table's folder, judged by its text alone."""
    path = PurePath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name
