"""Count the processes that `torchrun` started, without importing torch."""

from __future__ import annotations

import os


def processes() -> int:
    """Return the number of processes that `torchrun` started on all machines; 1 without it."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and "MASTER_ADDR" in os.environ else 1
