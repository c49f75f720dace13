"""`balancegan sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    Checkpoint,
    Device,
    From,
    Guidance,
    RunArgument,
    Runs,
    Sampler,
    Strength,
    option,
)
from balancegan.cli.parse import parse_names, parse_seeds
from balancegan.core.options import SamplingOptions


def sample(
    console: Any,
    run: RunArgument = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    n: Annotated[int, option("--n", help="Images per class.", min=1)] = 16,
    seeds: Annotated[str | None, option("--seeds", help="Seeds of the images, e.g. 0-15 or 3,7,20-29.")] = None,
    sampler: Sampler = "auto",
    from_: From = "noise",
    strength: Strength = None,
    guidance: Guidance = None,
    data: Annotated[
        Path | None, option("--data", help="Where the real images to start from are now, if they have moved.")
    ] = None,
    checkpoint: Checkpoint = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="New .png file for a grid, or new folder for images. [default: in the run]"),
    ] = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Preview generated images before writing thousands."""
    from balancegan.cli.results import show_sample
    from balancegan.commands.sample import look

    with console.progress() as view:
        document = look(
            run,
            parse_names(classes),
            parse_seeds(seeds) if seeds else None,
            n,
            out,
            runs=runs,
            device=device,
            note=console.note,
            sampler=sampler,
            checkpoint=checkpoint,
            sampling=SamplingOptions(from_, strength, guidance),
            data=data,
            progress=view,
        )
    console.result(document, show_sample)
