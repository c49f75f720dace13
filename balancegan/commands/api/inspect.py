"""`balancegan.inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from balancegan.commands.api.arguments import HowToRead, StrPath, as_path, data_options, watching
from balancegan.commands.api.results import Inspection
from balancegan.core.options import Duplicates, Split


def inspect(
    data: StrPath,
    *,
    split: Split = "train",
    target_ir: float = 1.0,
    duplicates: Duplicates = "auto",
    html: StrPath | None = None,
    strict: bool = False,
    progress: bool = True,
    **how: Unpack[HowToRead],
) -> Inspection:
    """Report how imbalanced a data set is and what is broken in it. Reads every image; writes nothing in `data`.

    Args:
        data: a folder with one sub-folder per class, optionally within train, val and test folders.
        split: the split whose images are counted: `train`, `val` or `test`.
        target_ir: imbalance rate to reach; it determines the classes' `to_add`.
        duplicates: `exact`; `near`, which also finds siblings (images of one object or scene); `auto`: `near` for at
            most 20,000 images; or `off`.
        html: also write a page with example images here.
        strict: raise `DatasetError` if a file cannot be read.
        progress: show progress on stderr.
        how: `labels`, a table of labels; `layout`: `splits` or `classes`; `synthetic`: count the synthetic images of a
            folder that was balanced before; `page`, of files with several; `max_pixels` of an image.

    Returns:
        The findings: `imbalance_rate`, `classes[…].name`, `.count`, `.to_add`, `bad_files`, `advice` and more.

    Raises:
        UsageError: the folder or split does not exist.
        DatasetError: the folder has no classes, or `strict` is set and a file cannot be read.
    """
    from balancegan.commands.inspect import inspect as look
    from balancegan.commands.inspect import require_readable

    with watching(progress) as board:
        found = look(
            Path(data),
            split=split,
            target_ir=target_ir,
            duplicates=duplicates,
            html=as_path(html),
            how=data_options(how),
            progress=board,
        )
    if strict:
        require_readable(found)
    return Inspection(found.to_json())
