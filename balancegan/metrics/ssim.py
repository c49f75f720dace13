"""Computes the structural similarity (SSIM) of image sets over random pairs, with scikit-image.

Wang et al., "Image quality assessment: from error visibility to structural similarity" (IEEE TIP 2004). The SGBGAN
paper reports SSIM between generated and real images of a class. Higher is not always better: copies have a high SSIM
to the real images, and a collapsed generator has a high SSIM within its own images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

_WINDOW = 7  # scikit-image's default


def mean_ssim(real: Images, fake: Images, *, pairs: int = 500, seed: int = 0) -> float:
    """Mean SSIM over pairs of one real and one synthetic image.

    Args:
        real: uint8 (N, C, H, W).
        fake: uint8 (M, C, H, W), the same C, H, W.
        pairs: random pairs to compare; all pairs when there are no more than this.
        seed: of the random pairs.

    Returns:
        Mean over the pairs and channels, -1 to 1.

    Raises:
        ValueError: an empty set, or different image shapes.
    """
    if not len(real) or not len(fake) or real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"needs two non-empty sets of equal image shape, got {real.shape} and {fake.shape}")
    if len(real) * len(fake) <= pairs:
        left, right = (index.ravel() for index in np.indices((len(real), len(fake))))
    else:
        rng = np.random.default_rng(seed)
        left, right = rng.integers(len(real), size=pairs), rng.integers(len(fake), size=pairs)
    return _mean(real, fake, left, right)


def within_ssim(images: Images, *, pairs: int = 500, seed: int = 0) -> float:
    """Mean SSIM over pairs of different images of one set; higher means less diverse.

    Args:
        images: uint8 (N, C, H, W).
        pairs: random pairs to compare; all pairs when there are no more than this.
        seed: of the random pairs.

    Returns:
        Mean over the pairs and channels, -1 to 1.

    Raises:
        ValueError: fewer than two images.
    """
    n = len(images)
    if n < 2:
        raise ValueError("a pair needs two images")
    if n * (n - 1) // 2 <= pairs:
        left, right = np.triu_indices(n, k=1)
    else:
        rng = np.random.default_rng(seed)
        left = rng.integers(n, size=pairs)
        right = (left + rng.integers(1, n, size=pairs)) % n  # never the same image twice
    return _mean(images, images, left, right)


def _mean(first: Images, second: Images, left: NDArray[np.intp], right: NDArray[np.intp]) -> float:
    from skimage.metrics import structural_similarity  # slow to import

    window = min(_WINDOW, *first.shape[2:])
    window -= 1 - window % 2  # scikit-image needs an odd window no larger than the image
    values = [
        structural_similarity(first[i], second[j], data_range=255, channel_axis=0, win_size=window)
        for i, j in zip(left, right, strict=True)
    ]
    return float(np.mean(values))
