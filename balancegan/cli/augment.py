"""`balancegan augment`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    MOST_AUGMENT_SEED,
    Checkpoint,
    Device,
    Extractor,
    FailUnder,
    RunArgument,
    Runs,
    Sampler,
    Utility,
    Weights,
    option,
)
from balancegan.cli.parse import parse_counts, parse_names
from balancegan.core.errors import UsageError


def augment(
    console: Any,
    run: RunArgument = None,
    target_ir: Annotated[
        float | None,
        option("--target-ir", help="Imbalance rate to reach. [default: 1, or 3 synthetic images per real one]"),
    ] = None,
    counts: Annotated[
        str | None, option("--counts", help="Totals to reach instead, e.g. ring=500,schizont=300.")
    ] = None,
    classes: Annotated[str | None, option("--classes", help="Only these classes, comma-separated.")] = None,
    data: Annotated[Path | None, option("--data", help="Where the data is now, if it moved.")] = None,
    out: Annotated[Path, typer.Option("--out", help="New folder for the result.")] = Path("balanced"),
    real: Annotated[str, option("--real", help="copy, hardlink, symlink, convert or none.")] = "copy",
    filter: Annotated[
        str,
        option("--filter", help="none; copies: drop near-copies; quality: also what is not recognised as its class."),
    ] = "copies",
    sampler: Sampler = "auto",
    out_size: Annotated[str, option("--out-size", help="model, or native: the real images' size.")] = "model",
    format: Annotated[str, option("--format", help="png, jpeg, or match: the real images' format.")] = "png",
    seed: Annotated[int, option("--seed", help="Seed of all random choices.", min=0, max=MOST_AUGMENT_SEED)] = 0,
    checkpoint: Checkpoint = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no quality report.")] = False,
    utility: Utility = True,
    fail_under: FailUnder = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Write a balanced folder and its quality report."""
    from balancegan.cli.results import show_augment
    from balancegan.commands.augment import FILTERS, AugmentOptions
    from balancegan.commands.augment import augment as balance
    from balancegan.compute.device import prepare, resolve_device
    from balancegan.folder.export import FORMATS, OUT_SIZES
    from balancegan.folder.real_files import REAL_MODES
    from balancegan.runs.directory import find_run
    from balancegan.sampling.choice import SAMPLERS
    from balancegan.verdict.rule import parse_least

    for name, value, allowed in (
        ("--real", real, REAL_MODES),
        ("--filter", filter, FILTERS),
        ("--sampler", sampler, SAMPLERS),
        ("--out-size", out_size, OUT_SIZES),
        ("--format", format, FORMATS),
    ):
        if value not in allowed:
            raise UsageError(f"{name} {value} is not known", f"choose one of {', '.join(allowed)}")
    options = AugmentOptions(
        out=out,
        target_ir=target_ir,
        counts=parse_counts(counts),
        classes=parse_names(classes),
        data=data,
        real=real,
        filter=filter,
        sampler=sampler,
        out_size=out_size,
        format=format,
        seed=seed,
        report=not no_report,
        extractor=extractor,
        weights=weights,
        utility=utility,
        fail_under=parse_least(fail_under, utility=utility and not no_report),
        checkpoint=checkpoint,
    )
    where = resolve_device(device)
    prepare(where)
    with console.progress() as progress:
        document = balance(find_run(run, runs), options, device=where, progress=progress, note=console.note)
    console.result(document, show_augment)
    console.gate(document.get("gate"))
