"""`balancegan compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    BatchSize,
    Data,
    Device,
    Extractor,
    Fit,
    GroupBy,
    Holdout,
    ImageSize,
    Preset,
    PretrainSteps,
    Set,
    Strict,
    Weights,
    option,
)
from balancegan.cli.parse import parse_names, parse_rates, parse_seed_count
from balancegan.commands.methods import PAPER_TABLE


def compare(
    console: Any,
    data: Data,
    methods: Annotated[str, option("--methods", help="Which methods, comma-separated.")] = ",".join(PAPER_TABLE),
    steps: Annotated[int | None, option("--steps", help="Generator updates of each. [default: the preset's]")] = None,
    seeds: Annotated[str, option("--seeds", help="How many seeds, or which: 3, or 0,5,7, or 5, for one.")] = "3",
    ir: Annotated[
        str | None, option("--ir", help="Thin the training part to these imbalance rates, e.g. 1,5,20,50,100.")
    ] = None,
    baseline: Annotated[
        str | None,
        option("--baseline", help="Over which the last method's improvement is shown. [default: the last but one]"),
    ] = None,
    images: Annotated[
        int | None,
        option("--images", help="Samples per class. [default: 1000, or 250 for Inception on a CPU]"),
    ] = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    pretrain_steps: PretrainSteps = None,
    holdout: Holdout = None,
    group_by: GroupBy = None,
    fit: Fit = None,
    device: Device = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs, results and the page.")] = Path("comparison"),
    set_: Set = None,
    strict: Strict = False,
) -> None:
    """Train several methods on the same images and put them in one table."""
    from balancegan.cli.compare_result import show_compare
    from balancegan.commands.compare.request import CompareRequest
    from balancegan.commands.compare.run import compare as run
    from balancegan.core.config import parse_set

    request = CompareRequest(
        data=data,
        methods=parse_names(methods),
        seeds=parse_seed_count(seeds),
        irs=parse_rates(ir),
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
        settings=parse_set(set_ or []),
        device=device,
        out=out,
        images=images,
        baseline=baseline,
        extractor=extractor,
        weights=weights,
        strict=strict,
    )
    with console.progress() as view:
        document = run(request, view)
    console.result(document, show_compare)
