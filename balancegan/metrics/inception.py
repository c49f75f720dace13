"""Loads the Inception network on which FID is defined from a local weights file.

Its values are comparable with published ones for equal sample sizes.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from balancegan.core.errors import CheckpointError, WeightsMissingError
from balancegan.metrics.features import Features
from balancegan.metrics.inception_net import InceptionNet
from balancegan.metrics.published import PublishedExtractor
from balancegan.metrics.weights import get_weights


class InceptionExtractor(PublishedExtractor):
    """2048 features of the Inception network on which FID is defined, as torch-fidelity computes them.

    The network is torch-fidelity's, with its TensorFlow-1-like bilinear resize to 299 pixels, as implemented in
    `inception_net`. `has_head` says whether the file holds the classifier layer that an Inception Score needs. Some
    files omit it or fill it with zeros, which does not affect the features.
    """

    name = "inception"
    title = "Inception"
    note = "FID uses the standard Inception features. Compare it only between sets of equal size."
    batch_size = 16

    def _build(self, state: dict[str, Tensor], weights: Path) -> None:
        # The features do not use the classifier layer, and many files omit it.
        state.setdefault("fc.weight", torch.zeros(1008, 2048))
        state.setdefault("fc.bias", torch.zeros(1008))
        self.has_head = bool(state["fc.weight"].any())
        self._head = state["fc.weight"].numpy()  # (1008, 2048)
        self._network = InceptionNet(_inception(state, weights).state_dict(), self._device)

    def _features(self, images: Tensor) -> Tensor:
        return self._network(images)

    def classify(self, features: Features) -> Features:
        """Logits from features that this extractor made: float32 (N, 2048) -> (N, 1008).

        The layer's bias is left out, as in the original TensorFlow Inception Score and in torch-fidelity.

        Raises:
            WeightsMissingError: the weights file has no classifier layer (`has_head`).
        """
        if not self.has_head:
            raise WeightsMissingError("these Inception weights have no classifier layer", get_weights("inception"))
        return features @ self._head.T


def _inception(state: dict[str, Tensor], path: Path) -> nn.Module:
    """Build torch-fidelity's network with these tensors.

    Its constructor unpickles with `weights_only=False`. It therefore never gets the user's file, but an in-memory
    buffer written here from safely loaded tensors.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=buffer)
    except RuntimeError as error:  # load_state_dict: missing or unexpected names, other shapes
        raise CheckpointError(f"{path} holds a network other than FID's Inception", get_weights("inception")) from error
    return network.eval()  # torch-fidelity before 0.4 does not call eval() itself
