"""`balancegan sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    Checkpoint,
    Device,
    RunArgument,
    Runs,
    Sampler,
    option,
)
from balancegan.cli.parse import parse_names, parse_seeds


def sample(
    console: Any,
    run: RunArgument = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    n: Annotated[int, option("--n", help="Images per class.", min=1)] = 16,
    seeds: Annotated[str | None, option("--seeds", help="Seeds of the images, e.g. 0-15 or 3,7,20-29.")] = None,
    sampler: Sampler = "auto",
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
    )
    console.result(document, show_sample)
