"""`balancegan.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balancegan.commands.api.arguments import StrPath, as_names, as_path, watching
from balancegan.commands.api.results import Comparison
from balancegan.core.options import Extractor, Fit, Preset
from balancegan.core.text import parse_time


def compare(
    data: StrPath,
    *,
    methods: Sequence[str] | None = None,
    steps: int | None = None,
    seeds: int | Sequence[int] = 3,
    ir: float | Sequence[float] | None = None,
    baseline: str | None = None,
    images: int | None = None,
    preset: Preset | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    pretrain_steps: int | None = None,
    max_time: str | float | None = None,
    holdout: float | None = None,
    group_by: str | None = None,
    fit: Fit | None = None,
    device: str = "auto",
    extractor: Extractor = "auto",
    weights: StrPath | None = None,
    out: StrPath = "comparison",
    strict: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Train several methods on the same images and compare them in one table; a repeated call reuses earlier results.

    Args:
        data: a folder with one sub-folder per class, optionally within train, val and test folders.
        methods: methods to compare; by default those of the papers' table.
        steps: generator updates per method; `max_time` (as in `train`) stops each training earlier.
        seeds: number of seeds, or a list of them.
        ir: thin the training split to this imbalance rate, or to each of several.
        baseline: method to compare the last one with; by default the second to last.
        images: samples per class.
        preset: as in `train`, as are `image_size`, `batch_size`, `pretrain_steps`, `holdout`, `group_by`, `fit`,
            `device`, `strict`, `progress` and `settings`; a setting that only some methods have is set for those.
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`; `weights` is its file.
        out: folder for runs, results and the HTML page.

    Returns:
        The table: `cells[…].kid`, `table`, `findings`, `page` and more.

    Raises:
        UsageError, DatasetError: an option is invalid; the data cannot be used.
        StoppedError: a signal ended a training run; the same call continues from there.
        WeightsMissingError, DiskError: as their names say.
    """
    from balancegan.commands.compare.request import CompareRequest
    from balancegan.commands.compare.run import compare as command
    from balancegan.commands.methods import PAPER_TABLE

    request = CompareRequest(
        data=Path(data),
        methods=PAPER_TABLE if methods is None else as_names(methods),
        seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        irs=() if ir is None else (float(ir),) if isinstance(ir, int | float) else tuple(map(float, ir)),
        preset=preset,
        flags={
            "image_size": image_size,
            "steps": steps,
            "batch_size": batch_size,
            "pretrain_steps": pretrain_steps,
            "holdout": holdout,
            "group_by": group_by,
            "fit": fit,
        },
        settings=settings,
        device=device,
        out=Path(out),
        max_seconds=parse_time(max_time) if isinstance(max_time, str) else max_time,
        images=images,
        baseline=baseline,
        extractor=extractor,
        weights=as_path(weights),
        strict=strict,
        use_environment=False,
    )
    with watching(progress) as board:
        return Comparison(command(request, board))
