"""`balancegan train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    BatchSize,
    Data,
    Device,
    Fit,
    GroupBy,
    Holdout,
    ImageSize,
    Labels,
    Layout,
    MaxPixels,
    Page,
    Preset,
    PretrainSteps,
    Set,
    Strict,
    Synthetic,
    option,
)
from balancegan.core.text import parse_time


def train(
    console: Any,
    data: Data,
    method: Annotated[str | None, option("--method", help="See `balancegan methods`. [default: sgbgan]")] = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    steps: Annotated[int | None, option("--steps", help="Generator updates. [default: the preset's]")] = None,
    batch_size: BatchSize = None,
    pretrain_steps: PretrainSteps = None,
    max_time: Annotated[str | None, option("--max-time", help="Stop cleanly after e.g. 90s, 60m, 1h30m.")] = None,
    holdout: Holdout = None,
    group_by: GroupBy = None,
    fit: Fit = None,
    labels: Labels = None,
    layout: Layout = None,
    synthetic: Synthetic = False,
    page: Page = None,
    max_pixels: MaxPixels = None,
    device: Device = "auto",
    seed: Annotated[int | None, option("--seed", help="Seed of the training's random choices. [default: 0]")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for run directories.")] = Path("runs"),
    resume: Annotated[
        str, option("--resume", help="auto: continue this command's unfinished run; never; or a run to continue.")
    ] = "auto",
    config: Annotated[Path | None, option("--config", help="YAML file of settings.")] = None,
    set_: Set = None,
    strict: Strict = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show settings and cost without training.")] = False,
) -> None:
    """Train a generator on all classes of a data set."""
    from balancegan.cli.results import show_dry_run, show_train
    from balancegan.commands import train as launch
    from balancegan.core.config import parse_set

    flags = {
        "image_size": image_size,
        "steps": steps,
        "batch_size": batch_size,
        "pretrain_steps": pretrain_steps,
        "holdout": holdout,
        "group_by": group_by,
        "fit": fit,
        "labels": labels,
        "layout": layout,
        "synthetic": synthetic or None,
        "page": page,
        "max_pixels": max_pixels,
        "seed": seed,
        **parse_set(set_ or []),
    }
    request = launch.TrainRequest(
        data=data,
        method=method,
        preset=preset,
        flags=flags,
        config_file=config,
        device=device,
        out=out,
        resume=resume,
        max_seconds=None if max_time is None else parse_time(max_time),
        strict=strict,
    )
    with console.progress() as view:
        document = launch.dry_run(request, view) if dry_run else launch.launch(request, view, view)
    console.result(document, show_dry_run if dry_run else show_train)
