"""`balancegan demo`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import (
    Device,
    option,
)


def demo(
    console: Any,
    out: Annotated[Path, typer.Option("--out", help="Folder for the data, the run and the result.")] = Path(
        "balancegan-demo"
    ),
    steps: Annotated[
        int | None, option("--steps", help="Generator updates; fewer are faster but give worse images.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Run the whole workflow on built-in digit images, in minutes."""
    from balancegan.cli.results import show_augment, show_inspect
    from balancegan.commands.demo import run_demo

    def inspected(document: dict[str, Any]) -> None:
        if not console.as_json:
            show_inspect(console, document)
            sys.stdout.flush()

    with console.progress() as view:
        document = run_demo(out, device, view, view, steps=steps, inspected=inspected)
    console.result(document, show_augment)
