"""What a run can show beside its images' measures; an evaluation of two folders has none of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Extras:
    """Pictures for the page, made by `trace.run_extras`."""

    interpolation: NDArray[np.uint8] | None
    """(K, M, C, S, S): row k is class k on the way from one latent to another, or one row for an unconditional method.

    Only the first `trace.MAX_ROWS` classes.
    """

    frames: tuple[tuple[int, Path], ...] = ()
    """Step and PNG grid of the same seeds, from the run's samples/, in the order of steps."""
