"""Feature extractor with torchvision's ResNet-50, from a local weights file.

ResNet-50 was trained differently from Inception, with stronger augmentation, so its features reveal other flaws. Its
FIDs are comparable with each other, but not with published ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from balancegan.core.errors import CheckpointError
from balancegan.metrics.published import PublishedExtractor
from balancegan.metrics.weights import get_weights

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of pixels in [0, 1], as in training
_SIDE = 224


class ResNet50Extractor(PublishedExtractor):
    """2048 features of torchvision's ResNet-50 after global average pooling, trained on ImageNet (IMAGENET1K_V2).

    The whole image is resized to 224 x 224 pixels in floating point (bilinear, antialiased). torchvision's own
    transform would enlarge it further and crop the centre, which hides flaws near the border. Images that are not
    square are stretched.
    """

    name = "resnet50"
    note = (
        "FID here uses features of torchvision's ResNet-50, not the standard Inception network. Compare it only "
        "with reports that use the same extractor, between sets of equal size, and never with published FIDs."
    )
    title = "ResNet-50"
    batch_size = 32

    def _build(self, state: dict[str, Tensor], weights: Path) -> None:
        self._network = _resnet(state, weights).to(self._device)

    def _features(self, images: Tensor) -> Tensor:
        return self._network(_prepared(images))


def _prepared(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float (N, 3, 224, 224), normalised as in ImageNet training."""
    x = functional.interpolate(
        images.float() / 255.0, size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in IMAGENET)
    return (x - mean) / std


def _resnet(state: dict[str, Tensor], path: Path) -> nn.Module:
    """Build torchvision's network with these tensors and without its classifier."""
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = nn.Identity()
    trunk = {key: value for key, value in state.items() if key not in ("fc.weight", "fc.bias")}
    try:
        network.load_state_dict(trunk)
    except RuntimeError as error:  # missing or unexpected names, other shapes
        raise CheckpointError(f"{path} holds a network other than ResNet-50", get_weights("resnet50")) from error
    return network.eval()
