"""`balancegan methods`."""

from typing import Any


def methods(console: Any) -> None:
    """List the methods that can be trained."""
    from balancegan.cli.results import show_methods
    from balancegan.commands.methods import list_methods

    console.result(list_methods(), show_methods)
