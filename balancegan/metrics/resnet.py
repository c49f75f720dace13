"""torchvision's ResNet-50 as a feature extractor, from a weights file on this machine.

Its features come from another training than Inception's, with stronger augmentation, and see other flaws. FIDs from
them compare with each other, not with published ones.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balancegan.core.errors import CheckpointError
from balancegan.core.files import sha256
from balancegan.core.progress import Progress, silent
from balancegan.metrics.features import Features, Images, extract, three_channels
from balancegan.metrics.weights import existing, get_weights, read_state

if TYPE_CHECKING:
    import torch


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1], as in training
_SIDE = 224


class ResNet50Extractor:
    """2048 features of torchvision's ResNet-50 after global average pooling, trained on ImageNet (IMAGENET1K_V2).

    The whole image is resized to 224 x 224 pixels, bilinear with antialiasing, in floating point. torchvision's own
    transform would enlarge it further and cut out the centre: that loses the rim, where a generator may fail too.
    Images that are not square are stretched. Grey images are repeated to three channels.
    """

    name = "resnet50"
    comparable = True
    note = (
        "FID here uses features of torchvision's ResNet-50, not the standard Inception network. Compare it only with "
        "reports that use the same extractor, between sets of the same sizes, and never with published FIDs."
    )
    dim = 2048
    persistent = True

    def __init__(
        self, weights: Path, *, device: str = "cpu", batch_size: int = 32, progress: Progress = silent
    ) -> None:
        """Build the network from a `.pth` or `.safetensors` file, without running code from that file.

        The classifier layer is not used and may be missing.

        Raises:
            WeightsMissingError: no such file.
            CheckpointError: the file is damaged, holds something else than tensors, or is another network.
        """
        from balancegan.compute.memory import Fitting

        state = read_state(existing(weights, "The weights file", self.name), self.name)
        self.key = sha256(weights)
        self._network = _resnet(state, weights).to(device)
        self._device, self._progress = device, progress
        self._fitting = Fitting(batch_size, device, hint="use --device cpu, or --extractor own")

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the display of this one."""
        return {**vars(self), "_progress": silent}

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W), C = 1 or 3 -> float32 (N, 2048)."""

        def network(batch: Images) -> torch.Tensor:
            return self._network(_prepared(three_channels(batch, "ResNet-50"), self._device))

        return extract(images, self.dim, network, self._fitting, partial(self._progress, "ResNet-50 features"))


def _prepared(images: Images, device: str) -> torch.Tensor:
    """uint8 (N, 3, H, W) -> float (N, 3, 224, 224), normalised as ImageNet's images were in training."""
    import torch
    from torch.nn import functional

    x = torch.from_numpy(images).to(device).float() / 255.0
    x = functional.interpolate(x, size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (x - mean) / std


def _resnet(state: dict[str, torch.Tensor], path: Path) -> torch.nn.Module:
    """torchvision's network with these tensors and without its classifier."""
    import torch
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = torch.nn.Identity()
    trunk = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    for key in ("fc.weight", "fc.bias"):
        trunk.pop(key, None)
    try:
        network.load_state_dict(trunk)
    except RuntimeError as error:  # missing or unexpected names, other shapes
        raise CheckpointError(f"{path} holds a network other than ResNet-50", get_weights("resnet50")) from error
    return network.eval()
