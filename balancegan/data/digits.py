"""A small real data set that needs no download: scikit-learn's handwritten digits, made imbalanced.

Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), as shipped with scikit-learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from balancegan.core.files import disk_errors

COUNTS = {"zero": (0, 170), "three": (3, 60), "four": (4, 30), "six": (6, 20)}  # class -> digit, training images
SIZE = 16


def write_digits(folder: Path) -> Path:
    """Write `folder/{train,test}/<class>/*.png`: 170, 60, 30 and 20 training images; the rest is the test split.

    The 8x8 images with 17 grey levels are enlarged to 16x16. Writes nothing if the folder already exists.
    """
    if folder.exists():
        return folder
    from sklearn.datasets import load_digits

    digits = load_digits()
    partial = folder.with_name(f".{folder.name}.partial")
    with disk_errors(f"write the demo data to {folder}"):
        for name, (digit, count) in COUNTS.items():
            for i, row in enumerate(np.flatnonzero(digits.target == digit)):
                target = partial / ("train" if i < count else "test") / name / f"{i:03d}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                grey = np.clip(digits.images[row] * (255 / 16), 0, 255).astype(np.uint8)
                Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(target)
        partial.rename(folder)
    return folder
