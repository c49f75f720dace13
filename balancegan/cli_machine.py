"""`balancegan methods` and `balancegan doctor`: what is installed here, and what this machine can do with it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.options import Device


def methods(console: Any) -> None:
    """List the methods that can be trained."""
    from balancegan.methods import METHODS, load_method
    from balancegan.show import show_methods

    kinds = {name: load_method(name) for name in METHODS}
    document = {
        "schema_version": 1,
        "methods": [
            {"name": name, "paper": kind.paper, "conditional": kind.conditional, "image_sizes": list(kind.image_sizes)}
            for name, kind in kinds.items()
        ],
    }
    console.result(document, show_methods)


def doctor(
    console: Any,
    out: Annotated[Path, typer.Option("--out", help="Where results would go; nothing is left there.")] = Path(),
    device: Device = "auto",
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Measure nothing; takes a second or two.")] = False,
) -> None:
    """What can this machine do, and how fast?

    Device, versions, free memory and disk, write access, metric weights, and the expected speed of training. Ends with
    the exit code of the first problem, after the whole report; notes are no problems.
    """
    from balancegan.doctor import examine
    from balancegan.show import show_doctor

    with console.progress() as progress:
        document = examine(out, device=device, with_speed=not no_speed, progress=progress)
    console.result(document, show_doctor)
    if document["problems"]:
        raise typer.Exit(document["problems"][0]["exit_code"])
