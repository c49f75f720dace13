"""The Inception network on which FID is defined, from a weights file on this machine.

Its numbers compare with published ones as far as the sample sizes allow.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balancegan.core.errors import CheckpointError, WeightsMissingError
from balancegan.core.files import sha256
from balancegan.core.progress import Progress, silent
from balancegan.metrics.features import Features, Images, extract, three_channels
from balancegan.metrics.weights import existing, get_weights, read_state

if TYPE_CHECKING:
    import torch


class InceptionExtractor:
    """2048 features of the Inception network on which FID is defined, as torch-fidelity computes them.

    The network is torch-fidelity's, with its TensorFlow-1-like bilinear resize to 299 pixels, as `inception_net` works
    through it. Grey images are repeated to three channels. `has_head` tells whether the file holds the classifier layer
    that an Inception Score needs: some files leave it out or fill it with zeros, which does not touch the features.
    """

    name = "inception"
    comparable = True
    note = "FID uses the standard Inception features; compare it only between sets of the same sizes."
    dim = 2048
    persistent = True

    def __init__(
        self, weights: Path, *, device: str = "cpu", batch_size: int = 16, progress: Progress = silent
    ) -> None:
        """Build the network from a `.pth` or `.safetensors` file, without running code from that file.

        Raises:
            WeightsMissingError: no such file.
            CheckpointError: the file is damaged, holds something else than tensors, or is another network.
        """
        import torch

        from balancegan.compute.memory import Fitting
        from balancegan.metrics.inception_net import InceptionNet

        state = read_state(existing(weights, "The weights file", self.name), self.name)
        self.key = sha256(weights)
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        # The score layer plays no part in the features; files without it are common and useful.
        state.setdefault("fc.weight", torch.zeros(1008, 2048))
        state.setdefault("fc.bias", torch.zeros(1008))
        self.has_head = bool(state["fc.weight"].any())
        self._head = state["fc.weight"].numpy()  # (1008, 2048)
        self._network = InceptionNet(_inception(state, weights).state_dict(), device)
        self._device, self._progress = device, progress
        self._fitting = Fitting(batch_size, device, hint="use --device cpu, or --extractor own")

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the display of this one."""
        return {**vars(self), "_progress": silent}

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W), C = 1 or 3 -> float32 (N, 2048)."""
        import torch

        def network(batch: Images) -> torch.Tensor:
            return self._network(torch.from_numpy(three_channels(batch, "Inception")).to(self._device))

        shown = partial(self._progress, "inception features")
        return extract(images, self.dim, network, self._fitting, shown)

    def classify(self, features: Features) -> Features:
        """Logits from features that this extractor made: float32 (N, 2048) -> (N, 1008).

        Without the layer's bias, as the Inception Score is defined in the TensorFlow original and torch-fidelity.

        Raises:
            WeightsMissingError: the weights file has no classifier layer (`has_head`).
        """
        if not self.has_head:
            raise WeightsMissingError("these Inception weights have no classifier layer", get_weights("inception"))
        return features @ self._head.T


def _inception(state: dict[str, torch.Tensor], path: Path) -> torch.nn.Module:
    """torch-fidelity's network with these tensors.

    Its constructor reads a pickle with `weights_only=False`, from whatever `torch.load` accepts. It is given a
    buffer in memory that was written here, from tensors that were read safely: it never sees the user's file.
    """
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=buffer)
    except RuntimeError as error:  # load_state_dict: missing or unexpected names, other shapes
        raise CheckpointError(f"{path} holds a network other than FID's Inception", get_weights("inception")) from error
    return network.eval()  # torch-fidelity before 0.4 leaves that to its caller
