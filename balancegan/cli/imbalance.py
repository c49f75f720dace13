"""`balancegan imbalance`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import Labels, Layout, Seed, Synthetic, data_options, option
from balancegan.cli.parse import parse_counts
from balancegan.core.options import Scheme


def imbalance(
    console: Any,
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Image folder to copy from.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="New folder.")],
    ir: Annotated[float, option("--ir", help="Imbalance rate: majority / minority.")] = 100.0,
    scheme: Annotated[
        Scheme, option("--scheme", help="step: first class full, others 1/IR; exp: exponential.")
    ] = "step",
    counts: Annotated[str | None, option("--counts", help="Images to keep, e.g. frog=4500,cat=208.")] = None,
    majority: Annotated[str | None, option("--majority", help="The class that stays full.")] = None,
    seed: Seed = 0,
    labels: Labels = None,
    layout: Layout = None,
    synthetic: Synthetic = False,
) -> None:
    """Make a reproducible imbalanced copy of a data set."""
    from balancegan.cli.results import show_imbalance
    from balancegan.commands.imbalance import make_imbalanced

    with console.progress() as progress:
        made = make_imbalanced(
            src,
            dst,
            scheme=scheme,
            ir=ir,
            counts=parse_counts(counts) or None,
            majority=majority,
            seed=seed,
            how=data_options(labels, layout, synthetic, None, None),
            progress=progress,
        )
    console.result(made.to_json(), show_imbalance)
