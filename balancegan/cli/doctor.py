"""`balancegan doctor`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import Device


def doctor(
    console: Any,
    out: Annotated[Path, typer.Option("--out", help="Folder where results would go; nothing is left there.")] = Path(),
    device: Device = "auto",
    no_speed: Annotated[
        bool, typer.Option("--no-speed", help="Skip the speed measurement; takes a second or two.")
    ] = False,
) -> None:
    """Check what this machine can do, and how fast.

    Reports device, versions, free memory and disk space, write access, metric weights, and the expected training
    speed. If there are problems, exits with the code of the first, after the whole report; notes are not problems.
    """
    from balancegan.cli.doctor_result import show_doctor
    from balancegan.commands.doctor import examine

    with console.progress() as progress:
        document = examine(out, device=device, with_speed=not no_speed, progress=progress)
    console.result(document, show_doctor)
    if document["problems"]:
        raise typer.Exit(document["problems"][0]["exit_code"])
