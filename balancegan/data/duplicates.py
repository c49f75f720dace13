"""Find duplicate images: exact duplicates by pixel hash, near-duplicates by gradient hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from balancegan.data.decode import finite_range, is_grey, to_uint8
from balancegan.data.high_depth import row_blocks

MAX_BITS = 7
"""Near-duplicates differ in at most this many of 128 gradient signs, so at least one of 8 bands of 16 is equal."""
MAX_LEVELS = 4.0
"""Near-duplicates differ on average by at most this many of 255 grey levels at 9 x 9 pixels."""
_CROWD = 1000
_BITS_SET = np.array([bin(i).count("1") for i in range(256)], dtype=np.uint8)


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


def thumbnail(pixels: NDArray[Any]) -> bytes:
    """Return the image in grey at 9 x 9 pixels (81 bytes), the input of `gradient_hash`."""
    flat = to_uint8(pixels, None if pixels.dtype == np.uint8 else finite_range(pixels))
    grey = Image.fromarray(flat).convert("L")
    return grey.resize((9, 9), Image.Resampling.LANCZOS, reducing_gap=2.0).tobytes()


def gradient_hash(thumbs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack the signs of horizontal and vertical gradients, (N, 9, 9) -> (N, 16) (a two-way dHash)."""
    across = thumbs[:, :8, 1:] > thumbs[:, :8, :-1]
    down = thumbs[:, 1:, :8] > thumbs[:, :-1, :8]
    signs = np.stack([across, down], axis=1).reshape(len(thumbs), -1)  # (N, 128)
    return np.packbits(signs, axis=1)


def equal_groups(keys: Sequence[bytes]) -> list[list[int]]:
    """Group the positions of keys that occur at least twice, in order of first occurrence; b"" is ignored."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            places[key].append(i)
    return [group for group in places.values() if len(group) > 1]


def near_groups(thumbs: NDArray[np.uint8]) -> list[list[int]]:
    """Group those of N thumbnails (N, 9, 9) that show nearly the same picture; a group has at least two members.

    Similarity is chained: two members of one group may differ by more than the limits. Bands shared by more than a
    thousand images (mostly flat ones) carry no information and are skipped.
    """
    if len(thumbs) < 2:
        return []
    signs = gradient_hash(thumbs)
    flat = thumbs.reshape(len(thumbs), -1).astype(np.int16)
    parents = list(range(len(thumbs)))
    for band in signs.view(np.uint16).T:
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for first, last in pairwise([0, *edges.tolist(), len(order)]):
            if 2 <= last - first <= _CROWD:
                _join(parents, _close_pairs(order[first:last], signs, flat))
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(parents)):
        groups[_root(parents, i)].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _close_pairs(
    members: NDArray[np.int64], signs: NDArray[np.uint8], flat: NDArray[np.int16]
) -> Iterable[tuple[int, int]]:
    for k, one in enumerate(members[:-1].tolist()):
        others = members[k + 1 :]
        bits = _BITS_SET[signs[others] ^ signs[one]].sum(axis=1)
        others = others[bits <= MAX_BITS]
        if len(others):
            levels = np.abs(flat[others] - flat[one]).mean(axis=1)
            yield from ((one, int(other)) for other in others[levels <= MAX_LEVELS])


def _join(parents: list[int], pairs: Iterable[tuple[int, int]]) -> None:
    for a, b in pairs:
        low, high = sorted((_root(parents, a), _root(parents, b)))
        parents[high] = low


def _root(parents: list[int], i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i
