"""`balancegan.train` and `balancegan.load_run`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from balancegan.commands.api.arguments import StrPath, as_path, as_run, watching
from balancegan.commands.api.results import Run, TrainingPlan
from balancegan.core.errors import UsageError
from balancegan.core.options import Fit, Preset
from balancegan.core.text import parse_time

OF_TRAIN = ("method", "preset", "max_time", "device", "out", "resume", "config", "strict", "dry_run", "progress")


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
        group_by: what stays in one split: `auto` (siblings), `none`, a regular expression on paths, or a CSV file.
        fit: how to make images square: `stretch`, `crop` or `pad`.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        seed: seed of the training's random choices.
        out: folder for run directories.
        resume: `auto`, `never`, or a run to continue.
        config: YAML file of settings.
        strict: raise `DatasetError` if a file cannot be read.
        dry_run: train and write nothing; return the settings and what they would cost on this machine.
        progress: show progress on stderr.
        settings: any other field of the configuration, as with `--set`: `lambda_gp=5`, or `labels` as in `inspect`.

    Returns:
        The run, or a `TrainingPlan` if `dry_run`.

    Raises:
        UsageError: an option or setting is invalid.
        DatasetError: the data cannot be used.
        StoppedError: a signal ended the training; its state is saved.
    """
    from balancegan.commands import train as command

    _refuse_misspelt(settings)
    sizes = {"image_size": image_size, "steps": steps, "batch_size": batch_size, "pretrain_steps": pretrain_steps}
    split = {"holdout": holdout, "group_by": group_by, "fit": fit}
    request = command.TrainRequest(
        data=Path(data),
        method=method,
        preset=preset,
        flags={**sizes, **split, "seed": seed, **settings},
        config_file=as_path(config),
        device=device,
        out=Path(out),
        resume=as_run(resume) or "auto",
        max_seconds=parse_time(max_time) if isinstance(max_time, str) else max_time,
        strict=strict,
        use_environment=False,
    )
    with watching(progress) as board:
        if dry_run:
            return TrainingPlan(command.dry_run(request, board))
        return Run(command.launch(request, board, board))


def _refuse_misspelt(settings: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a setting that is nearly a keyword of `train`."""
    for name in settings:
        if near := difflib.get_close_matches(name, OF_TRAIN, n=1, cutoff=0.85):
            raise UsageError(f"train has no keyword {name!r}", f"did you mean {near[0]}?")


def load_run(run: StrPath | None = None, *, runs: StrPath = "runs") -> Run:
    """Load a run that was trained earlier.

    Args:
        run: its folder, name or number; by default the newest.
        runs: the folder that holds the runs.

    Raises:
        UsageError: the run does not exist.
        CheckpointError: its files are damaged.
    """
    from balancegan.commands.run_summary import summary
    from balancegan.runs.directory import find_run

    return Run(summary(find_run(as_run(run), Path(runs))))
