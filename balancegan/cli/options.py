"""Options that commands share, and what every command does around its own work."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.core import options as choices


def option(*flags: str, help: str, **more: Any) -> Any:
    """An option that `BALANCEGAN_<NAME>` sets too."""
    name = next(f for f in flags if f.startswith("--")).split("/")[0].removeprefix("--").replace("-", "_")
    return typer.Option(*flags, help=help, envvar=f"BALANCEGAN_{name.upper()}", show_envvar=False, **more)


Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with one sub-folder per class, or train/val/test of such.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show more.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR).")]
Seed = Annotated[int, option("--seed", help="Seed of all random choices.", min=0)]
Device = Annotated[str, option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Runs = Annotated[Path, option("--runs", help="Folder that holds the runs.")]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder, name or number; default: newest.")]
Preset = Annotated[
    choices.Preset | None,
    option("--preset", help="default is for a GPU, tiny for a CPU, paper is as published. [default: default]"),
]
ImageSize = Annotated[
    int | None, option("--image-size", help="Side in pixels: 16, 32, 64, 128 or 256. [default: the preset's]")
]
BatchSize = Annotated[int | None, option("--batch-size", help="Images per update. [default: the preset's]")]
PretrainSteps = Annotated[
    int | None,
    option("--pretrain-steps", help="Autoencoder updates before the GAN's. [default: the preset's]"),
]
Holdout = Annotated[
    float | None,
    option(
        "--holdout", help="Share of each class set aside for the report where there is no val or test. [default: 0.2]"
    ),
]
GroupBy = Annotated[
    str | None,
    option("--group-by", help="Regex on paths; images with equal matches stay on one side, e.g. 'patient(\\d+)'."),
]
Fit = Annotated[choices.Fit | None, option("--fit", help="How images become square. [default: stretch]")]
Sampler = Annotated[
    choices.Sampler,
    option("--sampler", help="Where a generator knows no classes; auto: langevin for what rejection lacks."),
]
Extractor = Annotated[
    choices.Extractor,
    option("--extractor", help="Features of the measures; auto: inception if its weights are here, otherwise own."),
]
Weights = Annotated[Path | None, option("--weights", help="Weights file of the extractor.")]
Utility = Annotated[
    bool,
    typer.Option("--utility/--no-utility", help="Train classifiers to see whether the synthetic images help."),
]
FailUnder = Annotated[
    str | None,
    option(
        "--fail-under",
        help="Exit with 9 below this verdict: use, no-difference, or a least gain in points of balanced accuracy.",
    ),
]
Checkpoint = Annotated[
    str,
    option(
        "--checkpoint",
        help="newest, a step (pre-training counted), or auto: the newest, or the last one before classes collapsed.",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting: --set lambda_gp=10.")]
Strict = Annotated[bool, option("--strict", help="Unreadable files are an error.")]
