"""Wait until all processes of a job have started."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from balancegan.core.errors import RankLostError

JOIN = timedelta(minutes=10)
"""For all processes to start; variables left over from another job announce some that never will."""


def wait_for_all(store: Any, rank: int, size: int) -> None:
    """Wait until all processes of the job are there; raises `RankLostError` with the numbers of those that are not."""
    names = [f"balancegan/here/{k}" for k in range(size)]
    store.set(names[rank], "1")
    try:
        store.wait(names, JOIN)
    except RuntimeError:
        missing = [str(k) for k, name in enumerate(names) if not store.check([name])]
        raise RankLostError(
            f"of the {size} processes that WORLD_SIZE announces, {', '.join(missing)} did not start within "
            f"{JOIN.total_seconds() / 60:.0f} minutes",
            "start all with torchrun, or unset WORLD_SIZE",
        ) from None
