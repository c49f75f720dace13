"""Shared helpers: tiny image folders made on the spot, and a cache that is thrown away."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or written to the user's cache, and no metric weights are found by chance."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(root / "store"))
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    for name in ("BALANCEGAN_INCEPTION_WEIGHTS", "BALANCEGAN_DEVICE", "BALANCEGAN_SEED"):
        monkeypatch.delenv(name, raising=False)


def write_images(folder: Path, counts: dict[str, int], *, size: int = 16, grey: bool = False, seed: int = 0) -> Path:
    """`folder/<class>/NNN.png` of noisy discs, one colour and one position per class."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            cx, cy = rng.uniform(0.3, 0.7, 2) * size
            disc = ((xx - cx) ** 2 + (yy - cy) ** 2 < (size * (0.2 + 0.08 * k)) ** 2)[..., None]
            pixels = np.where(disc, COLOURS[k % 3], (230, 230, 230)) + rng.normal(0, 6, (size, size, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            (image.convert("L") if grey else image).save(folder / name / f"{i:03d}.png")
    return folder


@pytest.fixture
def discs(tmp_path) -> Path:
    """A flat data set: 24 + 8 + 6 colour images of 16 px."""
    return write_images(tmp_path / "discs", {"ant": 24, "bee": 8, "cat": 6})


@pytest.fixture
def split_discs(tmp_path) -> Path:
    """The same with train and test folders."""
    write_images(tmp_path / "split" / "train", {"ant": 24, "bee": 8, "cat": 6})
    write_images(tmp_path / "split" / "test", {"ant": 6, "bee": 5, "cat": 4}, seed=1)
    return tmp_path / "split"
