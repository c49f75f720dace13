"""`balancegan methods`."""

from typing import Any


def methods(console: Any) -> None:
    """List the methods that can be trained."""
    from balancegan.cli.results import show_methods
    from balancegan.methods import METHODS, load_method

    kinds = {name: load_method(name) for name in METHODS}
    document = {
        "schema_version": 1,
        "methods": [
            {"name": name, "paper": kind.paper, "conditional": kind.conditional, "image_sizes": list(kind.image_sizes)}
            for name, kind in kinds.items()
        ],
    }
    console.result(document, show_methods)
