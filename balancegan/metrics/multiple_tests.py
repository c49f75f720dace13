"""Several tests, one risk of a false claim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p_values: Sequence[float], level: float) -> NDArray[np.bool_]:
    """Mask of the claims that hold when the risk of any false one is at most `level`.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979). The risk of one side of a 95% interval
    is 0.025.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    passed = p[order] <= level / np.arange(len(p), 0, -1)
    holds = np.zeros(len(p), bool)
    holds[order] = np.logical_and.accumulate(passed)
    return holds
