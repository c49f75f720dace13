"""`balancegan.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from balancegan.commands.api.arguments import (
    HowToRead,
    StrPath,
    as_names,
    as_path,
    as_run,
    data_options,
    passed,
    watching,
)
from balancegan.commands.api.results import Evaluation, Run
from balancegan.core.options import Arms, Extractor, Judged, SamplingOptions, Start


def evaluate(
    what: Run | StrPath | None = None,
    fake: StrPath | None = None,
    *,
    metrics: Sequence[str] | None = None,
    extractor: Extractor = "auto",
    weights: StrPath | None = None,
    utility: bool = True,
    fill: Judged = "generated",
    fail_under: str | float | None = None,
    images: int | None = None,
    image_size: int | None = None,
    group_by: str | None = None,
    data: StrPath | None = None,
    out: StrPath | None = None,
    seeds: int = 3,
    classifier: str = "small",
    arms: Arms = "auto",
    checkpoint: str | int = "auto",
    from_: Start = "noise",
    strength: float | None = None,
    guidance: float | None = None,
    device: str = "auto",
    runs: StrPath = "runs",
    progress: bool = True,
    **how: Unpack[HowToRead],
) -> Evaluation:
    """Measure a run's generator, or a folder of synthetic images against a real one, and say if the images help.

    Args:
        what: a `Run`, or its folder, name or number (the newest by default), or with `fake` a folder of real images.
        fake: synthetic images.
        metrics: only these of `fid`, `kid`, `is`, `ssim`, `prdc`, `copies`, `swd` and `recognised`.
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`; `weights`: its weights file.
        utility: train classifiers to see whether the images help; `arms`: all ways, the `deciding` ones, or `auto`.
        fill: `generated` judges the images as they are; `auto`: mixed with real ones, as `augment` would.
        fail_under: raise `QualityGateError` below this verdict (`use`, `no-difference`) or this gain in points.
        images: of each class of a run, or more if the class needs more; `image_size`: of two folders, in pixels;
            `group_by`: which of their real images stay in one split.
        data: where a run's data is now; `out`: the report's folder, by default the run's `report/` or `evaluation`.
        seeds: classifiers trained per arm; `classifier`: `small`, `resnet18`, or a torchvision ResNet's weights file.
        checkpoint: of a run, with `from_`, `strength` and `guidance`, as in `Run.sample`; `how`: `labels`, `layout`,
            `page` and `max_pixels` of folders, as in `inspect`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; `runs`: the runs' folder; `progress`: show it on stderr.

    Returns the measures: `classes[…].kid`, `overall.fid`, `utility.verdict`, `report` and more.

    Raises:
        UsageError, DatasetError: an option or the data cannot be used, or the data has changed since training.
        QualityGateError: the quality is below `fail_under`; the report is written, and `error.result` describes it.
        CheckpointError, WeightsMissingError, DiskError, OutOfMemoryError
    """
    from balancegan.commands.evaluate import EvaluateOptions, Measuring
    from balancegan.commands.evaluate import evaluate as command

    options = EvaluateOptions(
        out=as_path(out),
        data=as_path(data),
        images=images,
        image_size=image_size,
        group_by=group_by,
        fail_under=fail_under,
        checkpoint=str(checkpoint),
        sampling=SamplingOptions(from_, strength, guidance),
        fill=fill,
        how=data_options(how),
    )
    measuring = Measuring(as_names(metrics), extractor, as_path(weights), utility, seeds, classifier, arms)
    with watching(progress) as board:
        found = command(
            as_run(what),
            as_path(fake),
            options,
            measuring,
            runs=Path(runs),
            device=device,
            progress=board,
            note=board.note,
        )
    return passed(Evaluation(found))
