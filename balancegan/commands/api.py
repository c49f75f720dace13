"""The Python functions: one per command, with its options as keyword arguments.

Paths may be `str` or `Path`. Nothing is printed to stdout; progress goes to stderr, unless `progress=False`. Mistakes
and failures raise `BalanceGANError` or one of its sub-classes. `BALANCEGAN_<OPTION>` environment variables, which set
commands' options, are ignored here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

from balancegan.commands.results import Balanced, Comparison, Evaluation, Inspection, Result, Run, TrainingPlan
from balancegan.core.errors import QualityGateError, UsageError
from balancegan.core.options import Duplicates, Extractor, Filter, Fit, Format, OutSize, Preset, Real, Sampler, Split
from balancegan.core.text import parse_time

StrPath = str | os.PathLike[str]
OF_TRAIN = ("method", "preset", "max_time", "device", "out", "resume", "config", "strict", "dry_run", "progress")


def inspect(
    data: StrPath,
    *,
    split: Split = "train",
    target_ir: float = 1.0,
    duplicates: Duplicates = "exact",
    html: StrPath | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Inspection:
    """Report how imbalanced a data set is and what is broken in it. Reads every image; writes nothing in `data`.

    Args:
        data: a folder with one sub-folder per class, optionally within train, val and test folders.
        split: the split whose images are counted: `train`, `val` or `test`.
        target_ir: imbalance rate to reach; it determines the classes' `to_add`.
        duplicates: `exact`; `near`, which also finds similar images; or `off`.
        html: also write a page with example images here.
        strict: raise `DatasetError` if a file cannot be read.
        progress: show progress on stderr.

    Returns:
        The findings: `imbalance_rate`, `classes[…].name`, `.count`, `.to_add`, `bad_files`, `advice` and more.

    Raises:
        UsageError: the folder or split does not exist.
        DatasetError: the folder has no classes, or `strict` is set and a file cannot be read.

    Example:
        >>> found = balancegan.inspect("./data")  # doctest: +SKIP
        >>> found.imbalance_rate, found.minority.name  # doctest: +SKIP
        (50.0, 'ring')
    """
    from balancegan.commands.inspect import inspect as look
    from balancegan.commands.inspect import require_readable

    with _watching(progress) as board:
        found = look(
            Path(data),
            split=split,
            target_ir=target_ir,
            duplicates=duplicates,
            html=_path(html),
            progress=board,
        )
    if strict:
        require_readable(found)
    return Inspection(found.to_json())


@overload
def train(data: StrPath, *, dry_run: Literal[True], **options: Any) -> TrainingPlan: ...
@overload
def train(data: StrPath, *, dry_run: Literal[False] = False, **options: Any) -> Run: ...
def train(
    data: StrPath,
    *,
    method: str | None = None,
    preset: Preset | None = None,
    image_size: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    pretrain_steps: int | None = None,
    max_time: str | float | None = None,
    holdout: float | None = None,
    group_by: str | None = None,
    fit: Fit | None = None,
    device: str = "auto",
    seed: int | None = None,
    out: StrPath = "runs",
    resume: str | Run = "auto",
    config: StrPath | None = None,
    strict: bool = False,
    dry_run: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run | TrainingPlan:
    """Train a generator on all classes, or continue the unfinished run of the same call.

    An interrupt (Ctrl-C, or the notebook's stop button) saves the state and raises `StoppedError`; the same
    call continues from there.

    Args:
        data: a folder with one sub-folder per class, optionally within train, val and test folders.
        method: one that `balancegan methods` lists; `sgbgan` by default.
        preset: `default` (for a GPU), `tiny` (for a CPU) or `paper`.
        image_size: side in pixels.
        steps: generator updates.
        batch_size: images per update.
        pretrain_steps: autoencoder updates before the GAN's.
        max_time: stop cleanly after this many seconds, or after a time such as `"1h30m"`.
        holdout: share of each class held out for reports if there is no val or test.
        group_by: regular expression on paths; images with equal matches stay in one split.
        fit: how to make images square: `stretch`, `crop` or `pad`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        seed: seed of the training's random choices.
        out: folder for run directories.
        resume: `auto`, `never`, or a run to continue.
        config: YAML file of settings.
        strict: raise `DatasetError` if a file cannot be read.
        dry_run: train and write nothing; return the settings and what they would cost on this machine.
        progress: show progress on stderr.
        settings: any other field of the configuration, as with `--set`, for example `lambda_gp=5`.

    Returns:
        The run, or a `TrainingPlan` if `dry_run`.

    Raises:
        UsageError: an option or setting is invalid.
        DatasetError: the data cannot be used.
        StoppedError: a signal ended the training; its state is saved.
        TrainingDivergedError, OutOfMemoryError, DiskError, CheckpointError: as their names say.

    Example:
        >>> run = balancegan.train("./data", method="sgbgan", preset="tiny", image_size=16)  # doctest: +SKIP
        >>> run.steps, run.path  # doctest: +SKIP
        (4000, PosixPath('/home/me/runs/00000-sgbgan-data'))
    """
    from balancegan.commands import train as command

    for name in settings:
        if near := difflib.get_close_matches(name, OF_TRAIN, n=1, cutoff=0.85):
            raise UsageError(f"train has no keyword {name!r}", f"did you mean {near[0]}?")
    request = command.TrainRequest(
        data=Path(data),
        method=method,
        preset=preset,
        flags={
            "image_size": image_size,
            "steps": steps,
            "batch_size": batch_size,
            "pretrain_steps": pretrain_steps,
            "holdout": holdout,
            "group_by": group_by,
            "fit": fit,
            "seed": seed,
            **settings,
        },
        config_file=_path(config),
        device=device,
        out=Path(out),
        resume=_run(resume) or "auto",
        max_seconds=parse_time(max_time) if isinstance(max_time, str) else max_time,
        strict=strict,
        use_environment=False,
    )
    with _watching(progress) as board:
        if dry_run:
            return TrainingPlan(command.dry_run(request, board))
        return Run(command.launch(request, board, board))


def load_run(run: StrPath | None = None, *, runs: StrPath = "runs") -> Run:
    """Load a run that was trained earlier.

    Args:
        run: its folder, name or number; by default the newest.
        runs: the folder that holds the runs.

    Raises:
        UsageError: the run does not exist.
        CheckpointError: its files are damaged.

    Example:
        >>> balancegan.load_run("runs/00003-sgbgan-cells").sample("ring", n=4)  # doctest: +SKIP
    """
    from balancegan.commands.run_summary import summary
    from balancegan.runs.directory import find_run

    return Run(summary(find_run(_run(run), Path(runs))))


def augment(
    run: Run | StrPath | None = None,
    *,
    target_ir: float | None = None,
    counts: Mapping[str, int] | None = None,
    classes: Sequence[str] | None = None,
    data: StrPath | None = None,
    out: StrPath = "balanced",
    real: Real = "copy",
    filter: Filter = "copies",
    sampler: Sampler = "auto",
    out_size: OutSize = "model",
    format: Format = "png",
    seed: int = 0,
    checkpoint: str | int = "auto",
    report: bool = True,
    extractor: Extractor = "auto",
    weights: StrPath | None = None,
    utility: bool = True,
    fail_under: str | float | None = None,
    device: str = "auto",
    runs: StrPath = "runs",
    progress: bool = True,
) -> Balanced:
    """Write a balanced folder, real and synthetic images together, and its quality report.

    Args:
        run: a `Run`, or its folder, name or number; by default the newest.
        target_ir: imbalance rate to reach; by default 1, or 3 synthetic images per real one.
        counts: class totals to reach instead.
        classes: only these get synthetic images.
        data: where the data is now, if it has moved.
        out: new folder for the result.
        real: how to include the real images: `copy`, `hardlink`, `symlink`, `convert` or `none`.
        filter: `none`; `copies` drops near-copies; `quality` also drops images not recognised as their class.
        sampler: for unconditional methods: `rejection`, `langevin` or `auto`.
        out_size: `model`, or `native` for the size of the real images.
        format: `png`, `jpeg`, or `match` for the format of the real images.
        seed: seed of all random choices.
        checkpoint: `newest`, a step, or `auto`: the newest, or the last before classes collapsed.
        report: write a quality report.
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`.
        weights: weights file for the extractor.
        utility: train classifiers to see whether the synthetic images help; takes minutes.
        fail_under: raise `QualityGateError` below this verdict (`use`, `no-difference`) or this gain in points.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        runs: the folder that holds the runs.
        progress: show progress on stderr.

    Returns:
        What was written: `path`, `complete`, `imbalance_rate_after`, `classes[…].real`, `.synthetic` and more.

    Raises:
        UsageError: an option is invalid, or the run does not exist.
        DatasetError: the data has changed since training.
        QualityGateError: the quality is below `fail_under`; the folder is written, and `error.result` describes it.
        CheckpointError, WeightsMissingError, DiskError, OutOfMemoryError: as their names say.

    Example:
        >>> balanced = balancegan.augment(run, target_ir=1, utility=False)  # doctest: +SKIP
        >>> balanced.imbalance_rate_after  # doctest: +SKIP
        1.0
    """
    from balancegan.commands.augment import AugmentOptions
    from balancegan.commands.augment import augment as command

    options = AugmentOptions(
        out=Path(out),
        target_ir=target_ir,
        counts=dict(counts or {}),
        classes=_names(classes),
        data=_path(data),
        real=real,
        filter=filter,
        sampler=sampler,
        out_size=out_size,
        format=format,
        seed=seed,
        report=report,
        weights=_path(weights),
        extractor=extractor,
        utility=utility,
        fail_under=fail_under,
        checkpoint=str(checkpoint),
    )
    with _watching(progress) as board:
        found = command(_run(run), options, runs=Path(runs), device=device, progress=board, note=board.note)
    result = Balanced(found)
    _require_passed(result)
    return result


def evaluate(
    what: Run | StrPath | None = None,
    fake: StrPath | None = None,
    *,
    metrics: Sequence[str] | None = None,
    extractor: Extractor = "auto",
    weights: StrPath | None = None,
    utility: bool = True,
    fail_under: str | float | None = None,
    images: int | None = None,
    image_size: int | None = None,
    data: StrPath | None = None,
    out: StrPath | None = None,
    seeds: int = 3,
    checkpoint: str | int = "auto",
    device: str = "auto",
    runs: StrPath = "runs",
    progress: bool = True,
) -> Evaluation:
    """Measure a run's generator, or a folder of synthetic images against a real one, and say if the images help.

    Args:
        what: a `Run`, or its folder, name or number (by default the newest); or, with `fake`, a folder of real
            images.
        fake: a folder of synthetic images.
        metrics: measure only these of `fid`, `kid`, `is`, `ssim`, `prdc` and `copies`.
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`.
        weights: weights file for the extractor.
        utility: train classifiers to see whether the synthetic images help; takes minutes.
        fail_under: raise `QualityGateError` below this verdict (`use`, `no-difference`) or this gain in points.
        images: images to generate per class, for a run; more if the class needs more.
        image_size: side in pixels at which two folders are compared.
        data: where a run's data is now, if it has moved.
        out: folder for the report; by default the run's `report/`, or `evaluation`.
        seeds: classifiers trained per arm.
        checkpoint: `newest`, a step, or `auto`: the newest, or the last before classes collapsed.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        runs: the folder that holds the runs.
        progress: show progress on stderr.

    Returns:
        The measures: `classes[…].kid`, `overall.fid`, `utility.verdict`, `report` and more.

    Raises:
        UsageError: an option is invalid, or the run or folder does not exist.
        DatasetError: the data cannot be used, or has changed since training.
        QualityGateError: the quality is below `fail_under`; the report is written, and `error.result` describes it.
        CheckpointError, WeightsMissingError, DiskError, OutOfMemoryError: as their names say.

    Example:
        >>> measured = balancegan.evaluate("./data", "./synthetic", utility=False)  # doctest: +SKIP
        >>> measured.overall.kid  # doctest: +SKIP
        0.031
    """
    from balancegan.commands.evaluate import EvaluateOptions, Measuring
    from balancegan.commands.evaluate import evaluate as command

    options = EvaluateOptions(
        out=_path(out),
        data=_path(data),
        images=images,
        image_size=image_size,
        fail_under=fail_under,
        checkpoint=str(checkpoint),
    )
    measuring = Measuring(_names(metrics), extractor, _path(weights), utility, seeds)
    with _watching(progress) as board:
        found = command(
            _run(what), _path(fake), options, measuring, runs=Path(runs), device=device, progress=board, note=board.note
        )
    result = Evaluation(found)
    _require_passed(result)
    return result


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
        steps: generator updates per method.
        seeds: number of seeds, or a list of them.
        ir: thin the training split to this imbalance rate, or to each of several.
        baseline: method to compare the last one with; by default the second to last.
        images: samples per class.
        preset: as in `train`, as are `image_size`, `batch_size`, `pretrain_steps`, `holdout`, `group_by`, `fit`,
            `device`, `strict`, `progress` and `settings`.
        image_size: see `preset`.
        batch_size: see `preset`.
        pretrain_steps: see `preset`.
        holdout: see `preset`.
        group_by: see `preset`.
        fit: see `preset`.
        device: see `preset`.
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`.
        weights: weights file for the extractor.
        out: folder for runs, results and the HTML page.
        strict: see `preset`.
        progress: see `preset`.
        settings: see `preset`; a field that only some methods have is set for those.

    Returns:
        The table: `cells[…].kid`, `table`, `findings`, `page` and more.

    Raises:
        UsageError: an option is invalid.
        DatasetError: the data cannot be used.
        StoppedError: a signal ended a training run; the same call continues from there.
        WeightsMissingError, DiskError: as their names say.

    Example:
        >>> table = balancegan.compare("./data", methods=["bagan-gp", "sgbgan"], seeds=2)  # doctest: +SKIP
        >>> [(cell.method, cell.seed, cell.kid) for cell in table.cells]  # doctest: +SKIP
    """
    from balancegan.commands.compare.request import CompareRequest
    from balancegan.commands.compare.run import compare as command
    from balancegan.commands.methods import PAPER_TABLE

    request = CompareRequest(
        data=Path(data),
        methods=PAPER_TABLE if methods is None else _names(methods),
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
        images=images,
        baseline=baseline,
        extractor=extractor,
        weights=_path(weights),
        strict=strict,
        use_environment=False,
    )
    with _watching(progress) as board:
        return Comparison(command(request, board))


@contextmanager
def _watching(progress: bool) -> Iterator[Any]:
    """Yield a progress display, and clear it at the end."""
    from balancegan.commands.progress_line import ProgressLine, QuietBoard

    board = ProgressLine() if progress else QuietBoard()
    try:
        yield board
    finally:
        board.close()


def _path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


def _run(run: Run | StrPath | None) -> str | None:
    """Return a run's path, name or number as commands take it."""
    return None if run is None else str(run.path if isinstance(run, Run) else run)


def _names(names: Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _require_passed(result: Result) -> None:
    """Raise `QualityGateError` for a result below the quality gate."""
    if (gate := result.get("gate")) and not gate["passed"]:
        raise QualityGateError(gate["reason"], "everything was written; see the exception's `result`", result)
