"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.core import options as choices


def option(*flags: str, help: str, **more: Any) -> Any:
    """Return an option that the environment variable `BALANCEGAN_<NAME>` also sets."""
    name = next(f for f in flags if f.startswith("--")).split("/")[0].removeprefix("--").replace("-", "_")
    return typer.Option(*flags, help=help, envvar=f"BALANCEGAN_{name.upper()}", show_envvar=False, **more)


Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with one sub-folder per class, optionally within train/val/test.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show more detail.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR).")]
Seed = Annotated[int, option("--seed", help="Seed of all random choices.", min=0)]
Device = Annotated[str, option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Runs = Annotated[Path, option("--runs", help="Folder that holds the runs.")]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder, name or number; default: newest.")]
Preset = Annotated[
    choices.Preset | None,
    option("--preset", help="default: for a GPU; tiny: for a CPU; paper: as published. [default: default]"),
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
    option("--holdout", help="Share of each class held out for the report if there is no val or test. [default: 0.2]"),
]
GroupBy = Annotated[
    str | None,
    option(
        "--group-by",
        help="Which images stay in one split: auto (siblings, found by content and name), none, a regex on paths such "
        "as 'patient(\\d+)', or a CSV file (file_name, group). [default: auto]",
    ),
]
Fit = Annotated[choices.Fit | None, option("--fit", help="How to make images square. [default: stretch]")]
Labels = Annotated[
    str | None,
    option("--labels", help="CSV, TSV or JSON Lines table of labels (file_name, label; perhaps split, group)."),
]
Layout = Annotated[
    choices.Layout | None,
    option("--layout", help="What the folders in DATA are: splits or classes. [default: auto, by their names]"),
]
Synthetic = Annotated[
    bool, option("--synthetic", help="Count the synthetic images of a folder that was balanced before, too.")
]
Page = Annotated[
    int | None, option("--page", help="Page, frame or channel to read of files with several. [default: 1]", min=1)
]
MaxPixels = Annotated[int | None, option("--max-pixels", help="Refuse larger images. [default: 89 megapixels]", min=1)]
Sampler = Annotated[
    choices.Sampler,
    option("--sampler", help="For unconditional methods; auto: rejection, then langevin for rare classes."),
]
From = Annotated[
    choices.Start,
    option("--from", help="What images start from: noise, a real image of their own class, or one of another (edm)."),
]
Strength = Annotated[
    float | None,
    option("--strength", help="Noise added to that image: 0 keeps it, 1 ignores it. [default: 0.6]", min=0, max=1),
]
Guidance = Annotated[
    float | None,
    option(
        "--guidance",
        help="Push images towards their class: above 1, more typical but less diverse (edm). [default: 1]",
        min=0,
        max=choices.MOST_GUIDANCE,
    ),
]
Extractor = Annotated[
    choices.Extractor,
    option("--extractor", help="Network behind the metrics; auto: inception if its weights are installed, else own."),
]
Weights = Annotated[Path | None, option("--weights", help="Weights file for the extractor.")]
Utility = Annotated[
    bool,
    typer.Option("--utility/--no-utility", help="Train classifiers to see whether the synthetic images help."),
]
FailUnder = Annotated[
    str | None,
    option(
        "--fail-under",
        help="Exit with code 9 below this verdict (use, no-difference) or gain in points of balanced accuracy.",
    ),
]
Checkpoint = Annotated[
    str,
    option(
        "--checkpoint",
        help="newest, a step (counting pre-training), or auto: the newest, or the last before classes collapsed; "
        "augment compares them.",
    ),
]


def data_options(
    labels: str | None, layout: choices.Layout | None, synthetic: bool, page: int | None, max_pixels: int | None
) -> choices.DataOptions:
    """Return how a folder is read, by the options that were given."""
    plain = choices.PLAIN_DATA
    return choices.DataOptions(
        labels or "", layout or "auto", synthetic, page or plain.page, max_pixels or plain.max_pixels
    )


Set = Annotated[list[str] | None, typer.Option("--set", help="Set any field: --set lambda_gp=10.")]
Strict = Annotated[bool, option("--strict", help="Treat unreadable files as an error.")]
