"""Base class for extractors with published weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from balancegan.compute.memory import Fitting
from balancegan.core.files import sha256
from balancegan.core.progress import Progress, silent
from balancegan.metrics.features import Features, Images, extract, three_channels
from balancegan.metrics.weights import existing, read_state


class PublishedExtractor:
    """2048 features of a network with published weights; grey images are repeated to three channels.

    Subclasses build the network from its tensors and compute the features of a batch.
    """

    name: str
    note: str
    title: str  # the network's name in messages
    batch_size: int
    comparable = True
    dim = 2048
    persistent = True

    def __init__(
        self, weights: Path, *, device: str = "cpu", batch_size: int | None = None, progress: Progress = silent
    ) -> None:
        """Build the network from a `.pth` or `.safetensors` file, without running code from that file.

        Raises:
            WeightsMissingError: the file does not exist.
            CheckpointError: the file is damaged, holds anything other than tensors, or is a different network.
        """
        state = read_state(existing(weights, "The weights file", self.name), self.name)
        self.key = sha256(weights)
        self._device, self._progress = device, progress
        self._fitting = Fitting(batch_size or self.batch_size, device, hint="use --device cpu, or --extractor own")
        self._build(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, weights
        )

    def _build(self, state: dict[str, Tensor], weights: Path) -> None:
        """Build the network on the device from the file's tensors."""
        raise NotImplementedError

    def _features(self, images: Tensor) -> Tensor:
        """Uint8 (B, 3, H, W) on the device -> (B, 2048)."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the progress display, so that other processes can unpickle the extractor."""
        return {**vars(self), "_progress": silent}

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W), C = 1 or 3 -> float32 (N, 2048)."""

        def network(batch: Images) -> Tensor:
            return self._features(torch.from_numpy(three_channels(batch, self.title)).to(self._device))

        return extract(images, self.dim, network, self._fitting, partial(self._progress, f"{self.title} features"))
