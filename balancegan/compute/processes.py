"""Count the processes that `torchrun` started, without importing torch."""

from __future__ import annotations

import os

NEEDED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets for every process. Single ones are left over in many shells, by cluster jobs for example."""


def processes() -> int:
    """Return the number of processes that `torchrun` started on all machines; 1 without it."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and all(name in os.environ for name in NEEDED) else 1
