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
    Labels,
    Layout,
    MaxPixels,
    Page,
    Preset,
    PretrainSteps,
    Set,
    Strict,
    Synthetic,
    Weights,
    option,
)
from balancegan.cli.parse import parse_names, parse_rates, parse_seed_count
from balancegan.commands.methods import PAPER_TABLE
from balancegan.core.text import parse_time


def compare(
    console: Any,
    data: Data,
    methods: Annotated[str, option("--methods", help="Methods to compare, comma-separated.")] = ",".join(PAPER_TABLE),
    steps: Annotated[
        int | None, option("--steps", help="Generator updates per method. [default: the preset's]")
    ] = None,
    seeds: Annotated[str, option("--seeds", help="Number of seeds (3) or a list (0,5,7); 5, is seed 5 alone.")] = "3",
    ir: Annotated[
        str | None, option("--ir", help="Thin the training split to these imbalance rates, e.g. 1,5,20,50,100.")
    ] = None,
    baseline: Annotated[
        str | None,
        option("--baseline", help="Method to compare the last one with. [default: the second to last]"),
    ] = None,
    images: Annotated[
        int | None,
        option("--images", help="Samples per class. [default: 1000, or 250 for a large network on a CPU]"),
    ] = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    batch_size: BatchSize = None,
    pretrain_steps: PretrainSteps = None,
    max_time: Annotated[str | None, option("--max-time", help="Stop each training after e.g. 90s, 60m, 1h30m.")] = None,
    holdout: Holdout = None,
    group_by: GroupBy = None,
    fit: Fit = None,
    labels: Labels = None,
    layout: Layout = None,
    synthetic: Synthetic = False,
    page: Page = None,
    max_pixels: MaxPixels = None,
    device: Device = "auto",
    extractor: Extractor = "auto",
    weights: Weights = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs, results and the HTML page.")] = Path(
        "comparison"
    ),
    set_: Set = None,
    strict: Strict = False,
) -> None:
    """Train several methods on the same images and compare them in one table."""
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
            "labels": labels,
            "layout": layout,
            "synthetic": synthetic or None,
            "page": page,
            "max_pixels": max_pixels,
        },
        settings=parse_set(set_ or []),
        device=device,
        out=out,
        max_seconds=None if max_time is None else parse_time(max_time),
        images=images,
        baseline=baseline,
        extractor=extractor,
        weights=weights,
        strict=strict,
    )
    with console.progress() as view:
        document = run(request, view)
    console.result(document, show_compare)
