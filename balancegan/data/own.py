"""Folders that we wrote: which of their files are synthetic, by metadata.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from balancegan.core.text import plural, printable
from balancegan.data.layout import composed
from balancegan.data.tables import read_table

METADATA = "metadata.csv"
FEW = 3  # files that somebody may have removed or added


def is_synthetic(row: Mapping[str, str]) -> bool:
    """Whether a row of a table calls its image synthetic."""
    return row.get("synthetic", "").strip().lower() in ("1", "true", "yes")


class Told:
    """What the tables of a folder, and of the folders of its splits, say of its files."""

    def __init__(self, root: Path, split_dirs: Iterable[str]) -> None:
        self._synthetic: dict[str, bool] = {}
        for prefix in {"", *(f"{name}/" for name in split_dirs)}:
            table = root / f"{prefix}{METADATA}"
            if table.is_file():
                for row in read_table(table):
                    if row.get("file_name") and "synthetic" in row:
                        self._synthetic[composed(prefix + row["file_name"])] = is_synthetic(row)

    def __bool__(self) -> bool:
        return bool(self._synthetic)

    def synthetic(self, rel: str) -> bool | None:
        """Whether a file is synthetic; None if no table lists it."""
        return self._synthetic.get(composed(rel))

    def doubt(self, rels: Iterable[str]) -> str:
        """Say why real and synthetic files cannot be told apart, or nothing: names were changed after writing."""
        keys = {composed(rel): rel for rel in rels}
        lost = self._synthetic.keys() - keys.keys()
        unknown = sorted(keys.keys() - self._synthetic.keys())
        if min(len(lost), len(unknown)) <= max(FEW, len(self._synthetic) // 20):  # some removed, and some added
            return ""
        return (
            f"{METADATA} names {plural(len(lost), 'file')} that {'is' if len(lost) == 1 else 'are'} not there (e.g. "
            f"{printable(min(lost))}), and {plural(len(unknown), 'file is', 'files are')} not in it (e.g. "
            f"{printable(keys[unknown[0]])})"
        )
