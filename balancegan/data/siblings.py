"""Find siblings: several photographs of one object, frames of one filmed track, near-duplicates.

Siblings on both sides of a split make a test too easy. They differ in exposure, contrast, a few pixels of shift, a
small crop, mirroring or compression, while images of one class may look alike without being siblings. So two images
are joined only if they are much nearer to each other than different objects of their class are (`sibling_looks`).
Where many are found, they teach what else may differ between siblings, and more are found (`sibling_metric`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from balancegan.core.progress import Progress, silent
from balancegan.data.sibling_looks import (
    KEPT,
    PLAIN,
    SHIFTED,
    SIDE,
    Floats,
    Ints,
    Pairs,
    View,
    aligned_look,
    components,
    in_blocks,
    outline,
    picture,
    plain_look,
    sampled,
    unit,
    whitening,
)
from balancegan.data.sibling_metric import more_siblings
from balancegan.data.sibling_names import NameHints, name_hints
from balancegan.data.window import extremes, to_uint8

THUMB_BYTES = SIDE * SIDE * 3
FALSE_SHARE = 0.02
"""The share of joined images that may be joined by chance, as far as the expected number of neighbours tells."""
LIMITS = np.arange(-5.0, -0.25, 0.05)
NAMED = 1.0
"""Where names say that two images are siblings, ten times as many others may be expected to be as near, at most."""
FLAT = 2.0
"""Images whose grey levels spread less than this at 32 x 32 pixels show nothing and have no siblings."""
SAME_LEVELS = 3.0
"""Images of different classes are siblings if they differ by less than this (RMS of 255 levels): copies."""


def sibling_thumbnail(pixels: NDArray[Any]) -> bytes:
    """Return an image's native pixels, (H, W) or (H, W, 3) of any depth, in colour at 32 x 32 (3,072 bytes)."""
    flat = to_uint8(pixels, None if pixels.dtype == np.uint8 else extremes(pixels))
    colour = Image.fromarray(flat).convert("RGB")
    return colour.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0).tobytes()


def sibling_groups(
    thumbs: NDArray[np.uint8], labels: NDArray[np.int64], names: Sequence[str], *, progress: Progress = silent
) -> NDArray[np.int64]:
    """Number the groups of siblings among N images: (N,), equal for siblings, in order of first occurrence.

    `thumbs`: (N, THUMB_BYTES) or (N, 32, 32, 3) of `sibling_thumbnail`; `names`: relative paths, which support what
    the content says (one run, or consecutive numbers) but never join images by themselves. Across classes, only copies
    are joined. An image without siblings is alone in its group. The order of the images does not matter.
    """
    count = len(thumbs)
    if not count:
        return np.zeros(0, np.int64)
    thumbs, labels = thumbs.reshape(count, THUMB_BYTES), np.asarray(labels, np.int64)
    rows = np.concatenate([labels[:, None].astype(">i8").view(np.uint8), thumbs], axis=1)
    _, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)  # one order for all, equal once
    place = place.reshape(-1)
    distinct = thumbs[first].reshape(-1, SIDE, SIDE, 3)
    shown = np.flatnonzero(distinct.astype(np.float32).mean(axis=3).std(axis=(1, 2)) >= FLAT)
    hints = name_hints([names[k] for k in first[shown]], labels[first[shown]])
    progress("siblings", 0, count)
    joined = _join(distinct[shown], labels[first[shown]], hints, progress)
    progress("siblings", count, count)
    groups = np.full(len(first), -1, np.int64)
    groups[shown] = joined
    found = groups[place]
    alone = found < 0  # flat images
    found[alone] = len(first) + np.arange(alone.sum())
    _, start, number = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(start))[number.reshape(-1)].astype(np.int64)


def _join(thumbs: NDArray[np.uint8], labels: Ints, hints: NameHints, progress: Progress) -> Ints:
    count = len(thumbs)
    if count < 2:
        return np.arange(count, dtype=np.int64)
    compared = 0

    def tick(images: int) -> None:
        nonlocal compared
        compared += images
        progress("siblings", compared // 2, count)  # every image is compared in two ways

    one, other = _copies(thumbs)
    views = _descriptors(thumbs, labels, [*SHIFTED, View(mirror=True)])
    for pairs in (plain_look(views[:-1], labels, tick), aligned_look(thumbs, labels, (views[0], views[-1]), tick)):
        near = _accepted(pairs, labels, hints)
        one, other = np.concatenate([one, near.one]), np.concatenate([other, near.other])
    return more_siblings(thumbs, labels, components(count, one, other))


def _copies(thumbs: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Pairs of images, of any class, that differ only in noise and compression."""
    from scipy.spatial import cKDTree

    levels = thumbs.reshape(len(thumbs), SIDE // 8, 8, SIDE // 8, 8, 3).mean(axis=(2, 4), dtype=np.float32)
    coarse = levels.reshape(len(thumbs), -1)  # means of 64 pixels differ by no more than the pixels do
    pairs = cKDTree(coarse).query_pairs(SAME_LEVELS * np.sqrt(coarse.shape[1]), output_type="ndarray").astype(np.int64)
    if not len(pairs):
        return pairs[:, 0], pairs[:, 1]
    flat = thumbs.reshape(len(thumbs), -1)
    rms = [
        np.sqrt(np.mean((flat[part[:, 0]].astype(np.float32) - flat[part[:, 1]]) ** 2, axis=1))
        for part in np.split(pairs, range(4096, len(pairs), 4096))
    ]
    pairs = pairs[np.concatenate(rms) < SAME_LEVELS]
    return pairs[:, 0], pairs[:, 1]


def _descriptors(thumbs: NDArray[np.uint8], labels: Ints, views: list[View]) -> list[Floats]:
    """Descriptors (N, 192) of views of the images, of unit length."""
    sample = sampled(len(thumbs))
    features = in_blocks(thumbs[sample], lambda x, at: np.concatenate(_parts(x, PLAIN), axis=1))
    fits = [whitening(part, labels[sample], 64) for part in np.split(features, (256, 384), axis=1)]

    def described(view: View) -> Floats:
        def block(x: Floats, at: Ints) -> Floats:
            parts = zip(fits, _parts(x, view), strict=True)
            return unit(np.concatenate([unit(fit(part, labels[at])) for fit, part in parts], axis=1))

        return in_blocks(thumbs, block)

    return [described(view) for view in views]


def _parts(x: Floats, view: View) -> tuple[Floats, Floats, Floats]:
    """Brightness (N, 256), colour (N, 128) and edges (N, 512) of a view; each is whitened by itself."""
    seen = picture(x, view)
    return seen[:, :256], seen[:, 256:], outline(x, view)


def _accepted(pairs: Pairs, labels: Ints, hints: NameHints) -> Pairs:
    """Pairs whose expected number of others is low enough for the data set.

    The limit lets about `FALSE_SHARE` of the joined images be joined by chance, or fewer. Names allow more: if they
    place the sibling among 2 of 1,000 images, chance has only the share of these two.
    """
    best = np.full(len(labels), KEPT)
    np.minimum.at(best, pairs.one, pairs.expected)
    np.minimum.at(best, pairs.other, pairs.expected)
    shares = (best[:, None] < LIMITS).mean(axis=0)
    by_chance = 10**LIMITS * (1 - shares) / np.maximum(shares, 1e-9)
    fine = np.flatnonzero(by_chance <= FALSE_SHARE)
    limit = LIMITS[fine[-1] if len(fine) else 0]
    others = np.maximum(np.bincount(labels)[labels] - 1, 1)[pairs.one]
    easier = np.log10(np.minimum(hints.partners(pairs.one, pairs.other), others) / others) + 0.5
    keep = pairs.expected + np.clip(easier, -NAMED, 0) < limit
    return Pairs(pairs.one[keep], pairs.other[keep], pairs.expected[keep])
