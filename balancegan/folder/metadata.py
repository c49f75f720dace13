"""Read and write metadata.csv: which files of a balanced folder are synthetic, and where each one comes from.

A folder and its table may come from anywhere, so a table is only text: a name that leads out of the folder is not
one of its files.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from balancegan.core.errors import DatasetError
from balancegan.core.text import printable
from balancegan.data.own import METADATA as NAME
from balancegan.data.own import Told
from balancegan.data.scan import ImageFile, ImageFolder


def synthetic_images(folder: ImageFolder, files: Sequence[ImageFile], *, none: bool) -> np.ndarray:
    """Return which files (N,) are synthetic by the folder's metadata.csv; `none` for files that it does not list.

    Raises `DatasetError` if the table's names and the files' do not match, so that the two cannot be told apart.
    """
    told = Told(folder.root, folder.split_dirs.values())
    rels = [*(f.rel for f in folder.files), *(bad.path for bad in folder.bad_files)]
    if doubt := told.doubt(rels):
        raise DatasetError(
            f"in {printable(str(folder.root))}, real and synthetic images cannot be told apart: {doubt}",
            f"restore the names, or remove {NAME} if all images are of one kind",
        )
    found = [told.synthetic(file.rel) for file in files]
    return np.array([none if synthetic is None else synthetic for synthetic in found], bool)


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


_MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"})
"""What pandas takes for a missing value, and with it Hugging Face's loader; in lower case."""


def misread_labels(names: Iterable[str]) -> str:
    """Say which classes' labels common readers of the table change, and how to read them; "" if none."""
    changed = [name for name in names if name.lower() in _MISSING or re.fullmatch(r"0+[0-9]+", name)]
    if not changed:
        return ""
    return (
        f"pandas and Hugging Face read the label {changed[0]!r} in {NAME} as a missing value or a number: read it as "
        "text (pandas.read_csv(…, dtype=str, keep_default_na=False)), or take the labels from the folders."
    )


def stays_inside(name: str) -> bool:
    """Whether a path in a table stays in the table's folder, judged by its text alone."""
    path = PurePath(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name
