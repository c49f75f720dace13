"""`balancegan weights`: fetch and check the weights files of metric networks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from balancegan.cli.options import option
from balancegan.cli.registrar import registrar
from balancegan.core.options import Network

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
    name: Annotated[Network, typer.Argument(metavar="NAME", help="inception, resnet50 or resnet18.")] = "inception",
    from_: Annotated[Path | None, option("--from", help="Use this copy of the file instead of downloading it.")] = None,
) -> None:
    """Download a network's published weights to where reports find them.

    That is torch's cache. The file is installed only if its SHA-256 is right; no code in it is ever executed.
    """
    from balancegan.commands.weights import fetch as get

    with console.progress() as view:
        done = get(name, source=from_, progress=view)
    console.result(done.to_json(), show_fetch)


@command
def verify(
    console: Any,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Weights file. [default: those that reports would use]")
    ] = None,
) -> None:
    """Check whether weights files are the published ones and, if not, whether they are usable.

    An unusable file is an error (exit code 8); a missing one is not.
    """
    from balancegan.commands.weights import document, require_usable, status
    from balancegan.commands.weights import verify as check

    found = status(load=True) if file is None else [check(file)]
    damaged = any(item.state == "damaged" for item in found)
    if not (damaged and console.as_json):  # a script gets one document: the error
        console.result(document(found), show_weights)
    require_usable(found)


@command
def list_(console: Any) -> None:
    """List the networks and which weights files are installed."""
    from balancegan.commands.weights import document, status

    console.result(document(status()), show_weights)


def show_fetch(console: Any, document: dict[str, Any]) -> None:
    """Print one line about what was done."""
    from balancegan.cli.tables import shown

    done = {"kept": "already installed", "downloaded": "downloaded", "copied": "copied"}[document["action"]]
    instead = ", replacing a wrong file" if document["replaced"] else ""
    console.print(f"{document['name']}: {done}{instead}, SHA-256 as published: {shown(document['path'])}")


def show_weights(console: Any, document: dict[str, Any]) -> None:
    """Print the state of every network's file."""
    from balancegan.cli.tables import shown

    words = {
        "published": "the published file",
        "other": "not the published file; `balancegan weights verify` checks whether it can be used",
        "usable": "not the published file, but it loads as this network and can be used",
        "damaged": "damaged, or for another network",
        "missing": "missing",
    }
    for item in document["weights"]:
        console.print(f"[bold]{item['name'] or 'unknown'}[/]: {words[item['state']]}")
        if item["state"] == "missing":
            console.print(f"  {shown(item['reason'])}; get it with: balancegan weights fetch {item['name']}")
        else:
            console.print(f"  {shown(item['path'])}")
