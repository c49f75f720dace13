"""Every test writes its own files and keeps its own cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(cache))
    return cache


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a random picture; the seed makes it a different one."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (10, 8), mode: str = "RGB", **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture
def data(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """A flat data set: class a with six images, b with two."""
    root = tmp_path / "data"
    for i in range(6):
        picture(root / "a" / f"{i}.png", seed=i)
    for i in range(2):
        picture(root / "b" / f"{i}.png", seed=100 + i)
    return root
