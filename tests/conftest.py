"""Shared helpers: tiny image folders made on the spot, and a cache that is thrown away."""

import os
from pathlib import Path

# Networks this small gain nothing from threads, and waiting threads cost much when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from helpers import write_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or written to the user's cache, and no metric weights are found by chance."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(root / "store"))
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    for name in ("BALANCEGAN_INCEPTION_WEIGHTS", "BALANCEGAN_DEVICE", "BALANCEGAN_SEED"):
        monkeypatch.delenv(name, raising=False)


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
