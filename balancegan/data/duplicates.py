"""Find images with equal pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.data.high_depth import row_blocks
from balancegan.data.resize import is_grey


def pixel_digest(pixels: NDArray[Any]) -> bytes:
    """Hash the decoded pixels, however they are stored.

    A grey image saved as RGB has the hash of its grey version, and 16-bit values stored as 32-bit that of 16-bit ones.
    """
    deep = pixels.dtype != np.uint8
    if not deep and pixels.ndim == 3 and is_grey(pixels):
        pixels = pixels[..., 0]
    head = f"{pixels.shape}{'f' if deep else 'u'}".encode()
    digest = hashlib.blake2b(digest_size=16, key=head)
    for block in row_blocks(pixels):
        digest.update((block.astype(np.float64) if deep else block).tobytes())
    return digest.digest()


def equal_groups(keys: Sequence[bytes]) -> list[list[int]]:
    """Group the positions of keys that occur at least twice, in order of first occurrence; b"" is ignored."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            places[key].append(i)
    return [group for group in places.values() if len(group) > 1]
