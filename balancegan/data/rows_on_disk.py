"""Write rows of equal size into a file, and close the gaps of missing ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_all(fd: int, block: NDArray[np.uint8]) -> None:
    """Write a block of bytes, however few the system takes at once."""
    data = block.data.cast("B")
    while data:
        data = data[os.write(fd, data) :]


def runs(indices: list[int]) -> list[tuple[int, int]]:
    """Return the positions (first, last) of runs of consecutive indices."""
    breaks = [i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1]
    return list(zip([0, *breaks], [*(b - 1 for b in breaks), len(indices) - 1], strict=True))


def close_gaps(out: Path, rows: NDArray[np.int64], size: int) -> None:
    """Close the gaps left by files without a row, in place and block by block."""
    with out.open("r+b") as f:
        target = 0
        for first, last in runs(rows.tolist()) if len(rows) else []:
            for start in range(int(rows[first]), int(rows[last]) + 1, 256):
                count = min(256, int(rows[last]) + 1 - start)
                if start != target:
                    f.seek(start * size)
                    block = f.read(count * size)
                    f.seek(target * size)
                    f.write(block)
                target += count
        f.truncate(target * size)
        f.flush()
        os.fsync(f.fileno())
