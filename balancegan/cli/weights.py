"""`balancegan weights`: the metric networks' weights files, fetched and checked. Parse, call, render."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import option
from balancegan.cli.registrar import registrar

app = typer.Typer(
    name="weights",
    help="Fetch and check the weights of metric networks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

command = registrar(app)


@command
def fetch(
    console: Any,
    name: Annotated[str, typer.Argument(metavar="NAME", help="inception or resnet50.")] = "inception",
    from_: Annotated[
        Path | None, option("--from", help="Take this copy of the file instead of downloading it.")
    ] = None,
) -> None:
    """Put a network's published weights where reports find them.

    That is torch's cache. The file is checked by its SHA-256 before it gets its name; nothing in it is executed, now
    or later.
    """
    from balancegan.commands.weights import fetch as get
    from balancegan.metrics.weights import PUBLISHED

    with console.progress() as progress:
        done = get(name, source=from_, progress=progress)
    document = {
        "schema_version": 1,
        "name": done.name,
        "path": str(done.path),
        "action": done.action,
        "replaced": done.replaced,
        "sha256": PUBLISHED[done.name].sha256,
    }
    console.result(document, show_fetch)


@command
def verify(
    console: Any,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A weights file. [default: those that would be used]")
    ] = None,
) -> None:
    """Are these the published files? If not, are they usable?

    A file that cannot be used is an error (exit code 8); one that is missing is not.
    """
    from balancegan.commands.weights import Status, status
    from balancegan.commands.weights import verify as check
    from balancegan.core.errors import CheckpointError
    from balancegan.metrics.weights import get_weights

    found: list[Status] = status(load=True) if file is None else [check(file)]
    damaged = [item for item in found if item.state == "damaged"]
    if not (damaged and console.as_json):  # a script gets one document: the error
        console.result(_document(found), show_weights)
    if damaged:
        reasons = "; ".join(item.reason for item in damaged)
        raise CheckpointError(reasons, get_weights(damaged[0].name or "inception"))


@command
def list_(console: Any) -> None:
    """Which networks there are, and which files are here."""
    from balancegan.commands.weights import status

    console.result(_document(status()), show_weights)


def _document(found: list[Any]) -> dict[str, Any]:
    from balancegan.metrics.weights import PUBLISHED

    def row(item: Any) -> dict[str, Any]:
        published = PUBLISHED.get(item.name)
        return {
            "name": item.name,
            "state": item.state,
            "path": None if item.path is None else str(item.path),
            "sha256": item.sha256,
            "reason": item.reason or None,
            "published": published and {"url": published.url, "sha256": published.sha256, "size": published.size},
        }

    return {"schema_version": 1, "weights": [row(item) for item in found]}


def show_fetch(console: Any, document: dict[str, Any]) -> None:
    """What was done, in a line."""
    from balancegan.cli.tables import shown

    done = {"kept": "is there already", "downloaded": "downloaded", "copied": "copied"}[document["action"]]
    instead = ", in place of a damaged file" if document["replaced"] else ""
    console.print(f"{document['name']}: {done}{instead}, SHA-256 as published: {shown(document['path'])}")


def show_weights(console: Any, document: dict[str, Any]) -> None:
    """Every network's file in words."""
    from balancegan.cli.tables import shown

    words = {
        "published": "the published file",
        "other": "not the published file; `balancegan weights verify` tells whether it can be used",
        "usable": "not the published file, but it loads as this network and can be used",
        "damaged": "damaged, or another network",
        "missing": "missing",
    }
    for item in document["weights"]:
        console.print(f"[bold]{item['name'] or 'unknown'}[/]: {words[item['state']]}")
        if item["state"] == "missing":
            console.print(f"  {shown(item['reason'])}; get it with: balancegan weights fetch {item['name']}")
        else:
            console.print(f"  {shown(item['path'])}")
