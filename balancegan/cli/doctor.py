"""`balancegan methods` and `balancegan doctor`: what is installed here, and what this machine can do with it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import Device


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
    from balancegan.cli.doctor_result import show_doctor
    from balancegan.commands.doctor import examine

    with console.progress() as progress:
        document = examine(out, device=device, with_speed=not no_speed, progress=progress)
    console.result(document, show_doctor)
    if document["problems"]:
        raise typer.Exit(document["problems"][0]["exit_code"])
