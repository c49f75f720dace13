"""How long-running work reports progress, without knowing whether anybody is watching.

Library code takes `progress: Progress = silent` and calls `progress("decode", done, total)`; the console turns
the calls into bars on a terminal and into plain lines elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`; `total` is 0 while unknown."""


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""
