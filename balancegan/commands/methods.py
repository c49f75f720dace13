"""`methods`: the methods that can be trained."""

from __future__ import annotations

from balancegan.core.documents import Json
from balancegan.methods import METHODS, PAPER_TABLE, load_method

__all__ = ["PAPER_TABLE", "list_methods"]


def list_methods() -> Json:
    """Return the command's JSON document: name, paper and capabilities of every method."""
    kinds = {name: load_method(name) for name in METHODS}
    return {
        "schema_version": 1,
        "methods": [
            {"name": name, "paper": kind.paper, "conditional": kind.conditional, "image_sizes": list(kind.image_sizes)}
            for name, kind in kinds.items()
        ],
    }
