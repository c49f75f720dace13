"""`balancegan augment`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    Checkpoint,
    Device,
    Extractor,
    FailUnder,
    From,
    Guidance,
    RunArgument,
    Runs,
    Sampler,
    Strength,
    Utility,
    Weights,
    option,
)
from balancegan.cli.parse import parse_counts, parse_names
from balancegan.core.options import MOST_AUGMENT_SEED, Fill, Filter, Format, OutSize, Real, SamplingOptions


def augment(
    console: Any,
    run: RunArgument = None,
    target_ir: Annotated[
        float | None,
        option("--target-ir", help="Imbalance rate to reach. [default: 1]"),
    ] = None,
    counts: Annotated[
        str | None, option("--counts", help="Class totals to reach instead, e.g. ring=500,schizont=300.")
    ] = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    data: Annotated[Path | None, option("--data", help="Where the data is now, if it has moved.")] = None,
    out: Annotated[Path, typer.Option("--out", help="New folder for the result.")] = Path("balanced"),
    real: Annotated[Real, option("--real", help="How to include the real images.")] = "copy",
    fill: Annotated[
        Fill,
        option("--fill", help="auto: generated images as far as they help, the rest transformed real images."),
    ] = "auto",
    share: Annotated[
        float | None,
        option("--share", help="Generated part of the synthetic images, 0 to 1. [default: measured]", min=0, max=1),
    ] = None,
    filter: Annotated[
        Filter,
        option(
            "--filter",
            help="copies: drop near-copies; quality: also drop images not recognised as their class; "
            "auto: the one that helps more, copies where nothing is measured.",
        ),
    ] = "auto",
    sampler: Sampler = "auto",
    from_: From = "noise",
    strength: Strength = None,
    guidance: Guidance = None,
    out_size: Annotated[OutSize, option("--out-size", help="native: the sizes of the real images.")] = "native",
    format: Annotated[Format, option("--format", help="match: the format of the real images.")] = "match",
    seed: Annotated[int, option("--seed", help="Seed of all random choices.", min=0, max=MOST_AUGMENT_SEED)] = 0,
    checkpoint: Checkpoint = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Skip the quality report.")] = False,
    utility: Utility = True,
    fail_under: FailUnder = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Write a balanced folder and its quality report."""
    from balancegan.cli.results import show_augment
    from balancegan.commands.augment import AugmentOptions
    from balancegan.commands.augment import augment as balance

    options = AugmentOptions(
        out=out,
        target_ir=target_ir,
        counts=parse_counts(counts),
        classes=parse_names(classes),
        data=data,
        real=real,
        fill=fill,
        share=share,
        filter=filter,
        sampler=sampler,
        sampling=SamplingOptions(from_, strength, guidance),
        out_size=out_size,
        format=format,
        seed=seed,
        report=not no_report,
        extractor=extractor,
        weights=weights,
        utility=utility,
        fail_under=fail_under,
        checkpoint=checkpoint,
    )
    with console.progress() as view:
        document = balance(run, options, runs=runs, device=device, progress=view, note=console.note)
    console.result(document, show_augment)
    console.gate(document.get("gate"))
