"""Reduces features to two dimensions with t-SNE, for visual inspection only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json

MIN_POINTS = 5
"""Fewer points have no meaningful neighbourhoods."""

PERPLEXITY = 30.0
COMPONENTS = 50
"""Maximum number of principal components passed to t-SNE."""

CAVEAT = (
    "t-SNE keeps neighbours together, but distances between clusters and their sizes and densities mean little, and "
    "another seed gives a different plot."
)

Floats = NDArray[np.floating[Any]]


def tsne(features: Floats, seed: int = 0) -> NDArray[np.float32]:
    """Two t-SNE coordinates per row; the same rows and seed give the same result.

    Uses scikit-learn's implementation of van der Maaten & Hinton (2008), initialised with the first two principal
    components. Features are standardised first, and at most `COMPONENTS` principal components are kept.

    Args:
        features: (n, d), finite.
        seed: for scikit-learn's random numbers.

    Returns:
        float32 (n, 2); all zero if all rows are equal.

    Raises:
        ValueError: fewer than `MIN_POINTS` rows.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(features)
    if n < MIN_POINTS:
        raise ValueError(f"{n} points are too few: t-SNE needs {MIN_POINTS}")
    x = features.reshape(n, -1).astype(np.float64)
    spread = x.std(axis=0)
    varied = spread > 1e-12 * np.abs(x).max(initial=1.0)  # drop constant features
    if not varied.any():
        return np.zeros((n, 2), np.float32)
    x = (x[:, varied] - x[:, varied].mean(axis=0)) / spread[varied]
    if x.shape[1] == 1:
        x = np.concatenate([x, np.zeros_like(x)], axis=1)  # initialisation needs two components
    x = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit_transform(x)
    layout = TSNE(2, perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed)
    return layout.fit_transform(x.astype(np.float32)).astype(np.float32)


def equal_shares(counts: Sequence[int], limit: int) -> list[int]:
    """How many items to take from each group, at most `limit` in total.

    Groups get equal shares; what small groups leave over goes to the larger ones. If `limit` is smaller than the
    number of non-empty groups, the largest groups get one item each.
    """
    taken, left = [0] * len(counts), limit
    waiting = sorted((n, i) for i, n in enumerate(counts) if n > 0)
    for rank, (n, i) in enumerate(waiting):  # the smallest first
        share = left // (len(waiting) - rank)
        taken[i] = min(n, share)
        left -= taken[i]
    return taken


def feature_embedding(
    names: Sequence[str],
    feats_real: Sequence[Floats],
    feats_fake: Sequence[Floats],
    seed: int = 0,
    limit: int = 600,
    *,
    features: str = "the features behind FID",
) -> Json | None:
    """t-SNE plot of real and synthetic images in feature space, like SGBGAN's Fig. 11.

    Args:
        names: class names.
        feats_real: per class, (n, d) features of real images; may be empty.
        feats_fake: per class, (m, d) features of synthetic images; may be empty.
        seed: for the choice of images and t-SNE.
        limit: maximum number of points, shared equally among classes. Within a class, real and synthetic images get
            equal numbers where there are enough.
        features: the name of the features for the caption.

    Returns:
        `{id, title, caption, x, y, label, fake}` for the report's document; None with fewer than `MIN_POINTS` points.
    """
    rng = np.random.default_rng(seed)
    rows: list[Floats] = []
    labels: list[int] = []
    fakes: list[bool] = []
    shares = equal_shares([len(r) + len(f) for r, f in zip(feats_real, feats_fake, strict=True)], limit)
    for label, share in enumerate(shares):
        both = (feats_real[label], feats_fake[label])
        for is_fake, (group, n) in enumerate(zip(both, equal_shares([len(g) for g in both], share), strict=True)):
            if not n:
                continue
            rows.append(group[np.sort(rng.choice(len(group), n, replace=False))])
            labels += [label] * n
            fakes += [bool(is_fake)] * n
    if len(labels) < MIN_POINTS:
        return None
    n_real, n_fake = len(fakes) - sum(fakes), sum(fakes)
    caption = (
        f"t-SNE of {features} for {n_real:,} real (●) and {n_fake:,} synthetic images (×), coloured by class, with "
        "equal numbers per class where there are enough. Where × and ● of one colour mix, synthetic and real images "
        f"look alike in these features; × far from all ● are unlike any real image. {CAVEAT}"
    )
    layout = tsne(np.concatenate(rows), seed)
    return embedding_json("features", "Real and synthetic images in feature space", caption, layout, labels, fakes)


def embedding_json(
    id: str, title: str, caption: str, layout: Floats, labels: Sequence[int], fakes: Sequence[bool]
) -> Json:
    """A scatter plot for the report's document; coordinates are scaled to [-1, 1] and rounded to three decimals."""
    scale = float(np.abs(layout).max(initial=0.0)) or 1.0
    x, y = ([round(float(v), 3) for v in column] for column in (layout / scale).T)
    return {
        "id": id,
        "title": title,
        "caption": caption,
        "x": x,
        "y": y,
        "label": [int(label) for label in labels],
        "fake": [bool(fake) for fake in fakes],
    }
