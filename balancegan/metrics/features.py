"""Feature extractors: images in, vectors out, for every metric that compares distributions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Features = NDArray[np.float32]


class Extractor(Protocol):
    """A named function from images to feature vectors."""

    name: str
    comparable: bool  # do its numbers compare with numbers from other reports?
    dim: int

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, dim)."""
