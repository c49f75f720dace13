"""`balancegan inspect`."""

from pathlib import Path
from typing import Annotated, Any

from balancegan.cli.options import (
    Data,
    Strict,
    option,
)


def inspect_(
    console: Any,
    data: Data,
    split: Annotated[str, option("--split", help="train, val or test.")] = "train",
    target_ir: Annotated[float, option("--target-ir", help="Imbalance rate to reach, for the column 'to add'.")] = 1.0,
    duplicates: Annotated[str, option("--duplicates", help="exact, near or off.")] = "exact",
    html: Annotated[Path | None, option("--html", help="Also write a page with example images.")] = None,
    strict: Strict = False,
) -> None:
    """How imbalanced is the data, what is broken?"""
    from balancegan.cli.results import show_inspect
    from balancegan.core.errors import DatasetError
    from balancegan.data.scan import scan
    from balancegan.inspection.inspect import inspect_folder

    with console.progress() as progress:
        folder = scan(data, progress=progress)
        found = inspect_folder(folder, split=split, target_ir=target_ir, duplicates=duplicates, progress=progress)
        if html:
            from balancegan.report.inspection import render_html, write_page

            write_page(html, render_html(found, folder), folder)
    document = found.to_json()
    refused = strict and document["bad_files"]
    if not (refused and console.as_json):  # a script gets one document: the error
        console.result(document, show_inspect)
    if html:
        console.note(f"page: {html}")
    if refused:
        first = document["bad_files"][0]
        raise DatasetError(f"{len(document['bad_files'])} unreadable files, first {first['path']}: {first['reason']}")
