"""Arguments of the Python functions as commands take them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from balancegan.commands.api.results import Result, Run
from balancegan.core.errors import QualityGateError
from balancegan.core.options import DataOptions, Layout

StrPath = str | os.PathLike[str]


class HowToRead(TypedDict, total=False):
    """Keywords of the functions that read a folder of images; see `DataOptions`."""

    labels: StrPath
    layout: Layout
    synthetic: bool
    page: int
    max_pixels: int


def data_options(how: HowToRead) -> DataOptions:
    """Return how a folder is read."""
    named = {**how, "labels": os.fspath(how["labels"])} if how.get("labels") else how
    return DataOptions(**named)  # type: ignore[arg-type]


@contextmanager
def watching(progress: bool) -> Iterator[Any]:
    """Yield a progress display, and clear it at the end."""
    from balancegan.commands.api.progress_line import ProgressLine, QuietBoard

    board = ProgressLine() if progress else QuietBoard()
    try:
        yield board
    finally:
        board.close()


def as_path(path: StrPath | None) -> Path | None:
    """Return a path as commands take it."""
    return None if path is None else Path(path)


def as_run(run: Run | StrPath | None) -> str | None:
    """Return a run's path, name or number as commands take it."""
    return None if run is None else str(run.path if isinstance(run, Run) else run)


def as_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return names as commands take them; one name may stand alone."""
    return (names,) if isinstance(names, str) else tuple(names or ())


R = TypeVar("R", bound=Result)


def passed(result: R) -> R:
    """Return a result, or raise `QualityGateError` if it is below the quality gate."""
    if (gate := result.get("gate")) and not gate["passed"]:
        raise QualityGateError(gate["reason"], "everything was written; see the exception's `result`", result)
    return result
