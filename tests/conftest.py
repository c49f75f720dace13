"""Shared helpers: tiny image folders made on the spot, and a cache that is thrown away."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Networks this small gain nothing from threads, and waiting threads cost much when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from helpers import correlated, tiny_network, write_images
from PIL import Image

OPTIONS = (
    *("DEVICE", "EXTRACTOR", "FAIL_UNDER", "IMAGES", "IMAGE_SIZE", "INCEPTION_WEIGHTS", "METRICS"),
    *("CHECKPOINT", "RESNET50_WEIGHTS", "RUNS", "SEED", "WEIGHTS"),
)
"""Of the environment variables that set options, those that would change what the tests do."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or written to the user's cache, and no metric weights are found by chance."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(root / "store"))
    monkeypatch.setenv("TORCH_HOME", str(root / "torch"))
    for name in OPTIONS:
        monkeypatch.delenv(f"BALANCEGAN_{name}", raising=False)


@pytest.fixture
def plain_search(monkeypatch):
    """A search for siblings that is exact in sets of a few made images."""
    for module in ("data.groups", "inspection.inspect"):
        monkeypatch.setattr(f"balancegan.{module}.sibling_groups", correlated)


@pytest.fixture
def quick_reports(monkeypatch):
    """Classifiers that hardly learn, few pairs, no figures in files: for tests of everything around them."""
    from balancegan.evaluation import assembly as judge
    from balancegan.evaluation import measures
    from balancegan.folder.quality_filter import QualityFilter
    from balancegan.metrics.classifier_features import OwnExtractor
    from balancegan.verdict.share_runs import Question
    from balancegan.verdict.utility import measure_utility

    def measure(material, **options):
        changed = {"seeds": min(2, options["seeds"]), "network": tiny_network()}
        return measure_utility(material, **{**options, **changed}, updates=2)

    monkeypatch.setattr(judge, "measure_utility", measure)
    monkeypatch.setattr("balancegan.verdict.rule.UNTOLD", 1.0)  # a verdict even with few test images
    monkeypatch.setattr(Question, "updates", 2)  # of the search for the share
    monkeypatch.setattr(OwnExtractor, "fit", partial(OwnExtractor.fit, steps=3))
    monkeypatch.setattr(QualityFilter, "fit", partial(QualityFilter.fit, steps=3))
    for name in ("mean_ssim", "within_ssim"):
        original = getattr(measures, name)
        monkeypatch.setattr(measures, name, lambda *args, f=original, **options: f(*args, **{**options, "pairs": 20}))
    monkeypatch.setattr("balancegan.report.write.write_figures", lambda *args: [])


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
