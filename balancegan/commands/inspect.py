"""`inspect`: how imbalanced a data set is, what is broken in it, and what to do."""

from __future__ import annotations

from pathlib import Path

from balancegan.core.errors import DatasetError
from balancegan.core.options import PLAIN_DATA, DataOptions, Duplicates, Split
from balancegan.core.progress import Progress, silent
from balancegan.data.decode import Reading
from balancegan.data.scan import scan
from balancegan.inspection.findings import Inspection
from balancegan.inspection.inspect import inspect_folder


def inspect(
    data: Path,
    *,
    split: Split = "train",
    target_ir: float = 1.0,
    duplicates: Duplicates = "auto",
    html: Path | None = None,
    how: DataOptions = PLAIN_DATA,
    progress: Progress = silent,
) -> Inspection:
    """Inspect every image of a data set and, if `html` is given, write a page with examples.

    Raises `UsageError`, `DatasetError`, `DiskError`.
    """
    folder = scan(data, how, settle=False, progress=progress)
    reading = Reading.of(how)
    found = inspect_folder(
        folder, split=split, target_ir=target_ir, duplicates=duplicates, reading=reading, progress=progress
    )
    if html:
        from balancegan.report.inspection import render_html, write_page

        write_page(html, render_html(found, folder, reading), folder)
    return found


def require_readable(found: Inspection) -> None:
    """Raise `DatasetError` if any file could not be read (`--strict`)."""
    if found.bad_files:
        first = found.bad_files[0]
        raise DatasetError(f"{len(found.bad_files)} unreadable files; the first is {first.path}: {first.reason}")
