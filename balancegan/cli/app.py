"""The command line: parse, call, render. Commands do their slow imports themselves."""

import io
import sys
from typing import Annotated

import typer

from balancegan.cli import weights
from balancegan.cli.augment import augment
from balancegan.cli.compare import compare
from balancegan.cli.demo import demo
from balancegan.cli.doctor import doctor
from balancegan.cli.evaluate import evaluate
from balancegan.cli.imbalance import imbalance
from balancegan.cli.inspect import inspect_
from balancegan.cli.methods import methods
from balancegan.cli.registrar import registrar
from balancegan.cli.sample import sample
from balancegan.cli.train import train
from balancegan.compute.processes import processes
from balancegan.core.version import __version__

app = typer.Typer(
    name="balancegan",
    help="Balance imbalanced image data sets with GANs, and measure whether it helps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(weights.app)
register = registrar(app)
for function in (inspect_, imbalance, train, augment, evaluate, sample, compare, methods, doctor, demo):
    register(function)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Balance imbalanced image data sets with GANs, and measure whether it helps.

    Most options with a value, but not --out, can also be set in the environment: BALANCEGAN_DEVICE=cpu is --device cpu.
    """
    if version:
        typer.echo(f"balancegan {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # bars and bullets must not fail in a narrow encoding
            stream.reconfigure(errors="replace")
    if processes() > 1 and not {"-h", "--help", "--version"} & {*sys.argv}:
        from balancegan.compute.ranks import run

        run(app)
    else:
        app()
