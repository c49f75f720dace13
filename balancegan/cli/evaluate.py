"""`balancegan evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    Checkpoint,
    Device,
    Extractor,
    FailUnder,
    From,
    GroupBy,
    Guidance,
    Labels,
    Layout,
    MaxPixels,
    Page,
    Runs,
    Strength,
    Utility,
    Weights,
    data_options,
    option,
)
from balancegan.cli.parse import parse_names
from balancegan.core.options import Arms, Judged, SamplingOptions


def evaluate(
    console: Any,
    what: Annotated[
        str | None, typer.Argument(metavar="RUN|REAL", help="A run (default: newest), or a folder of real images.")
    ] = None,
    fake: Annotated[Path | None, typer.Argument(metavar="FAKE", help="A folder of synthetic images.")] = None,
    metrics: Annotated[
        str | None,
        option("--metrics", help="Only these: fid, kid, is, ssim, prdc, copies, swd, recognised. [default: all]"),
    ] = None,
    extractor: Extractor = "auto",
    weights: Weights = None,
    utility: Utility = True,
    fill: Annotated[
        Judged, option("--fill", help="generated: judge the images as they are; auto: mixed as `augment` would.")
    ] = "generated",
    fail_under: FailUnder = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            help="Images per class; more if the class needs more. [default: 500; 250 for a large network on a CPU]",
            min=1,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", help="Side in px for comparing folders. [default: FAKE's, 8 to 128]", min=8, max=512
        ),
    ] = None,
    group_by: GroupBy = None,
    labels: Labels = None,
    layout: Layout = None,
    page: Page = None,
    max_pixels: MaxPixels = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where a run's data is now, if it has moved.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report. [default: the run's report/, or evaluation]")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Classifiers trained per arm.", min=1, max=100)] = 3,
    classifier: Annotated[
        str, typer.Option("--classifier", metavar="small|resnet18|FILE", help="Network to train; FILE: of a ResNet.")
    ] = "small",
    arms: Annotated[
        Arms, option("--arms", help="Ways of training to compare; auto: all on a GPU, those that decide on a CPU.")
    ] = "auto",
    checkpoint: Checkpoint = "auto",
    from_: From = "noise",
    strength: Strength = None,
    guidance: Guidance = None,
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Measure a run's generator, or a folder of synthetic images against a real one, and say if the images help."""
    from balancegan.cli.results import show_evaluate
    from balancegan.commands.evaluate import EvaluateOptions, Measuring
    from balancegan.commands.evaluate import evaluate as measure

    options = EvaluateOptions(
        out=out,
        data=data,
        images=images,
        image_size=image_size,
        group_by=group_by,
        fail_under=fail_under,
        checkpoint=checkpoint,
        sampling=SamplingOptions(from_, strength, guidance),
        fill=fill,
        how=data_options(labels, layout, False, page, max_pixels),
    )
    measuring = Measuring(parse_names(metrics), extractor, weights, utility, seeds, classifier, arms)
    with console.progress() as view:
        document = measure(what, fake, options, measuring, runs=runs, device=device, progress=view, note=console.note)
    console.result(document, show_evaluate)
    console.gate(document["gate"])
