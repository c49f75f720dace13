"""`balancegan inspect`."""

from pathlib import Path
from typing import Annotated, Any

from balancegan.cli.options import (
    Data,
    Labels,
    Layout,
    MaxPixels,
    Page,
    Strict,
    Synthetic,
    data_options,
    option,
)
from balancegan.core.options import Duplicates, Split


def inspect_(
    console: Any,
    data: Data,
    split: Annotated[Split, option("--split", help="Split whose images are counted.")] = "train",
    target_ir: Annotated[float, option("--target-ir", help="Imbalance rate to reach, for the column 'to add'.")] = 1.0,
    duplicates: Annotated[
        Duplicates, option("--duplicates", help="near: also find siblings; auto: near for at most 20,000 images.")
    ] = "auto",
    html: Annotated[Path | None, option("--html", help="Also write a page with example images.")] = None,
    labels: Labels = None,
    layout: Layout = None,
    synthetic: Synthetic = False,
    page: Page = None,
    max_pixels: MaxPixels = None,
    strict: Strict = False,
) -> None:
    """Show how imbalanced a data set is and what is broken in it."""
    from balancegan.cli.results import show_inspect
    from balancegan.commands.inspect import inspect, require_readable

    with console.progress() as view:
        how = data_options(labels, layout, synthetic, page, max_pixels)
        found = inspect(
            data, split=split, target_ir=target_ir, duplicates=duplicates, html=html, how=how, progress=view
        )
    if not (strict and found.bad_files and console.as_json):  # a script gets one document: the error
        console.result(found.to_json(), show_inspect)
    if html:
        console.note(f"page: {html}")
    if strict:
        require_readable(found)
