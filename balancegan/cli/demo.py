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
    out: Annotated[Path, typer.Option("--out", help="Folder for data, run and result.")] = Path("balancegan-demo"),
    steps: Annotated[int | None, option("--steps", help="Generator updates; fewer are faster and worse.")] = None,
    device: Device = "auto",
) -> None:
    """The whole job on embedded digits, in minutes."""
    from balancegan.cli.results import show_augment, show_inspect
    from balancegan.commands.demo import run_demo

    def inspected(document: dict[str, Any]) -> None:
        if not console.as_json:
            show_inspect(console, document)
            sys.stdout.flush()

    with console.progress() as view:
        document = run_demo(out, device, view, view, steps=steps, inspected=inspected)
    console.result(document, show_augment)
