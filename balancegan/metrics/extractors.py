"""Chooses and opens the network that computes the features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balancegan.compute.ranks import given, here
from balancegan.core.errors import UsageError, WeightsMissingError
from balancegan.core.progress import Progress, silent
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Cached, Extractor, Features, Images
from balancegan.metrics.inception import InceptionExtractor
from balancegan.metrics.resnet import ResNet50Extractor
from balancegan.metrics.weights import find_weights, get_weights

EXTRACTORS: dict[str, type[Extractor]] = {
    "inception": InceptionExtractor,
    "resnet50": ResNet50Extractor,
    "own": OwnExtractor,
}
CHOICES = ("auto", *EXTRACTORS)


@dataclass(frozen=True)
class Choice:
    """An extractor's name, and its weights file if it needs one."""

    name: str
    weights: Path | None

    @property
    def slow_on_cpu(self) -> bool:
        """Whether it processes only a few images per second on a CPU."""
        return self.weights is not None

    def open(self, own: Callable[[], OwnExtractor], *, device: str = "cpu", progress: Progress = silent) -> Cached:
        """Open the extractor with its cache; `own` trains the small classifier if that was chosen.

        Raises `CheckpointError` for a file that does not hold the network's weights.
        """
        if self.weights is None:
            extractor: Extractor = own()
        else:
            kind: Any = EXTRACTORS[self.name]
            extractor = kind(self.weights, device=device, progress=progress)
        return Cached(extractor, by=spread(extractor))


def choose(name: str = "auto", weights: Path | None = None) -> Choice:
    """Choose the extractor before long work starts; `auto` means Inception if this machine has its weights, else `own`.

    Raises:
        UsageError: unknown extractor, or a weights file for one that takes none.
        WeightsMissingError: the requested weights are not on this machine.
    """
    if name not in CHOICES:
        raise UsageError(f"--extractor {name} is not known", f"choose one of {', '.join(CHOICES)}")
    if name == "own":
        if weights is not None:
            raise UsageError("--extractor own is trained on your images and takes no --weights", "leave one out")
        return Choice(name, None)
    network = "inception" if name == "auto" else name
    found = find_weights(network, weights)
    if found is None and name != "auto":
        raise WeightsMissingError(f"no {network} weights on this machine", get_weights(network))
    return Choice(network, found) if found else Choice("own", None)


def spread(extractor: Extractor) -> Callable[[Images], Features]:
    """The extractor, run by all processes together: uint8 (N, C, H, W) -> float32 (N, dim)."""
    if here().size == 1:
        return extractor
    name = here().give(extractor)

    def features(images: Images) -> Features:
        shares = np.array_split(images, here().size)
        return np.concatenate(here().split(_share, [(name, share) for share in shares]))

    return features


def _share(name: str, images: Images) -> Features:
    return given(name)(images)
