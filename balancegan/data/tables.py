"""Read tables that describe images, such as metadata.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from balancegan.core.errors import DatasetError
from balancegan.core.files import open_regular


def read_table(table: Path, delimiter: str | None = ",") -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as text, without columns that a row lacks. DatasetError if it cannot be read.

    A `delimiter` of None is the most frequent of the usual ones in the first line.
    """
    try:
        with (
            open_regular(table) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            for row in csv.DictReader(text, delimiter=delimiter or _delimiter(text)):
                yield {key: value for key, value in row.items() if isinstance(key, str) and value is not None}
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{table} cannot be read: {why}", "repair it, or remove it") from None


def _delimiter(text: io.TextIOWrapper) -> str:
    first = text.readline()
    text.seek(0)
    return max(",;\t", key=first.count)
