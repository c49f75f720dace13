"""Feature extractors: images in, vectors out, for every metric that compares distributions.

`inception` is the network on which FID is defined, from a weights file on this machine; its numbers compare with
published ones as far as the sample sizes allow. `own` is a small classifier trained on the spot on the real
training images; it needs no download, and its numbers compare only with numbers from the same trained network.
Nothing here downloads anything.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from balancegan.errors import CheckpointError, UsageError, WeightsMissingError
from balancegan.files import disk_errors, write_atomic
from balancegan.progress import Progress, silent

if TYPE_CHECKING:
    import torch

Images = NDArray[np.uint8]
Features = NDArray[np.float32]

WEIGHTS_VARIABLE = "BALANCEGAN_INCEPTION_WEIGHTS"
WEIGHTS_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""File names under which torch-fidelity and pytorch-fid keep the network in torch's cache."""

_GET_WEIGHTS = "Take torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or leave the option out."


class Extractor(Protocol):
    """A named function from images to feature vectors."""

    name: str
    comparable: bool  # do its numbers compare with numbers from other reports?
    dim: int

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, dim)."""


def find_inception_weights(explicit: Path | None = None) -> Path | None:
    """The Inception weights file to use, or None where this machine has none. Never downloads.

    The order is: `explicit`, the file named by the environment variable `BALANCEGAN_INCEPTION_WEIGHTS`, then torch's
    cache under the names in `WEIGHTS_NAMES`.

    Raises:
        WeightsMissingError: a file that was asked for, by argument or variable, does not exist.
    """
    if explicit is not None:
        return _existing(explicit, "The weights file")
    if named := os.environ.get(WEIGHTS_VARIABLE):
        return _existing(Path(named).expanduser(), f"The file named by {WEIGHTS_VARIABLE}")
    from torch.hub import get_dir

    cached = (Path(get_dir()) / "checkpoints" / name for name in WEIGHTS_NAMES)
    return next((path for path in cached if path.is_file()), None)


class InceptionExtractor:
    """2048 features of the Inception network on which FID is defined, as torch-fidelity computes them.

    The network and its TensorFlow-1-like bilinear resize to 299 pixels are torch-fidelity's; grey images are
    repeated to three channels. `has_head` tells whether the file holds the classifier layer that an Inception Score
    needs: some files leave it out or fill it with zeros, which does not touch the features.
    """

    name = "inception"
    comparable = True
    dim = 2048

    def __init__(
        self, weights: Path, *, device: str = "cpu", batch_size: int = 32, progress: Progress = silent
    ) -> None:
        """Build the network from a `.pth` or `.safetensors` file, without running code from that file.

        Raises:
            WeightsMissingError: no such file.
            CheckpointError: the file is damaged, holds something else than tensors, or is another network.
        """
        import torch

        state = _read_state(_existing(weights, "The weights file"))
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        # The score layer plays no part in the features; files without it are common and useful.
        state.setdefault("fc.weight", torch.zeros(1008, 2048))
        state.setdefault("fc.bias", torch.zeros(1008))
        self.has_head = bool(state["fc.weight"].any())
        self._head = state["fc.weight"].numpy()  # (1008, 2048)
        self._network = _inception(state, weights).to(device)
        self._device, self._batch_size, self._progress = device, batch_size, progress

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W), C = 1 or 3 -> float32 (N, 2048)."""
        import torch

        features = np.empty((len(images), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), self._batch_size):
                x = torch.from_numpy(_three_channels(images[start : start + self._batch_size])).to(self._device)
                features[start : start + len(x)] = self._network(x)[0].float().cpu().numpy()
                self._progress("inception features", start + len(x), len(images))
        return features

    def classify(self, features: Features) -> Features:
        """Logits from features that this extractor made: float32 (N, 2048) -> (N, 1008).

        Without the layer's bias, as the Inception Score is defined in the TensorFlow original and torch-fidelity.

        Raises:
            WeightsMissingError: the weights file has no classifier layer (`has_head`).
        """
        if not self.has_head:
            raise WeightsMissingError("these Inception weights have no classifier layer", _GET_WEIGHTS)
        return features @ self._head.T


class OwnExtractor:
    """128 features of a small classifier trained on the real training images of this data set.

    Four convolution blocks with group normalisation (so no image's features depend on its batch), pooling over
    space, a 128-unit layer that gives the features, and a linear classifier. Training draws the classes equally
    often and shifts the images by up to an eighth of their side. It does not mirror them: a mirrored digit or traffic
    sign is another class, and a generator that mirrors should be seen. Images over 64 pixels are scaled down to 64.
    """

    name = "own"
    comparable = False
    dim = 128

    def __init__(self, network: torch.nn.Module, *, side: int, device: str = "cpu") -> None:
        """Wrap a trained network; use `fit` to get one."""
        self._network = network.to(device).eval()
        self._side, self._device = side, device

    @classmethod
    def fit(
        cls,
        images: Images,
        labels: NDArray[np.integer],
        num_classes: int,
        *,
        seed: int = 0,
        device: str = "cpu",
        steps: int = 400,
        batch_size: int = 64,
        progress: Progress = silent,
    ) -> OwnExtractor:
        """Train the classifier on real images.

        The cost depends neither on the number of images nor much on their size: 400 steps take 10 to 25 seconds on
        one CPU core. The same seed gives the same network on the same kind of CPU, however many cores it has.

        Args:
            images: uint8 (N, C, H, W), training images only.
            labels: integers (N,) in 0 … num_classes - 1; a class may be empty.
            num_classes: width of the classifier.
            seed: of initialisation, batches and shifts.
            device: a torch device name.
            steps: updates with `batch_size` images each.
            batch_size: images in an update.
            progress: called as `("classifier", step, steps)`.

        Raises:
            ValueError: no images, or labels that do not fit them.
        """
        import torch
        from torch.nn import functional

        if not len(images) or len(labels) != len(images):
            raise ValueError(f"{len(images)} images and {len(labels)} labels cannot train a classifier")
        side = min(64, max(images.shape[2:]))
        rng = np.random.default_rng(seed)
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _classifier(images.shape[1], num_classes, side).to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=max(2, steps + 1))
        with _one_thread():
            for step in range(steps):
                chosen = np.array([rng.choice(members[k]) for k in rng.integers(len(members), size=batch_size)])
                x = _shifted(_normalised(images[chosen], side, device), rng)  # (B, C, side, side)
                target = torch.from_numpy(labels[chosen].astype(np.int64)).to(device)
                optimiser.zero_grad(set_to_none=True)
                functional.cross_entropy(network(x), target).backward()
                optimiser.step()
                schedule.step()
                progress("classifier", step + 1, steps)
        return cls(network, side=side, device=device)

    def save(self, path: Path) -> None:
        """Write the trained network, whole or not at all; `load` gives the same features."""
        from safetensors.torch import save

        network: Any = self._network
        form = {"channels": network[0][0].in_channels, "classes": network[1].out_features, "side": self._side}
        with disk_errors(f"write {path.name}"):
            write_atomic(path, save(network.state_dict(), {key: str(value) for key, value in form.items()}))

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> OwnExtractor:
        """Read a network that `save` wrote.

        Raises:
            CheckpointError: the file is damaged or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                form = {key: int(value) for key, value in file.metadata().items()}
                network = _classifier(form["channels"], form["classes"], form["side"])
                network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__})", "delete it: it is made again"
            ) from None
        return cls(network, side=form["side"], device=device)

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, 128)."""
        return self._run(images, classify=False)

    def logits(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, num_classes), before the softmax."""
        return self._run(images, classify=True)

    def accuracy(self, images: Images, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Recall of every class on these images, (num_classes,); NaN for a class without images."""
        scores = self.logits(images)
        right = scores.argmax(axis=1) == labels
        recalls = [
            right[labels == label].mean() if (labels == label).any() else np.nan for label in range(scores.shape[1])
        ]
        return np.array(recalls, np.float64)

    def _run(self, images: Images, *, classify: bool, batch_size: int = 128) -> Features:
        import torch

        network: Any = self._network
        parts: list[Features] = []
        with torch.inference_mode():
            for start in range(0, max(1, len(images)), batch_size):
                x = _normalised(images[start : start + batch_size], self._side, self._device)
                features = network[0](x)
                parts.append((network[1](features) if classify else features).float().cpu().numpy())
        return np.concatenate(parts)


def _existing(path: Path, what: str) -> Path:
    if not path.is_file():
        raise WeightsMissingError(f"{what} does not exist: {path}", _GET_WEIGHTS)
    return path


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, by readers that cannot run code: a malicious pickle is refused."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds for files that are not theirs
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, and was not loaded ({type(error).__name__})",
            _GET_WEIGHTS,
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a network's tensors by name", _GET_WEIGHTS)
    return {str(key): value for key, value in state.items()}


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
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=buffer)
    except RuntimeError as error:  # load_state_dict: missing or unexpected names, other shapes
        raise CheckpointError(f"{path} holds a network other than FID's Inception", _GET_WEIGHTS) from error


def _three_channels(images: Images) -> Images:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UsageError(f"Inception takes grey or RGB images, not an array of shape {images.shape}")
    return np.ascontiguousarray(np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images)


def _normalised(images: Images, side: int, device: str) -> torch.Tensor:
    """uint8 (N, C, H, W) -> float (N, C, side, side) in [-1, 1]; antialiased where it shrinks."""
    import torch
    from torch.nn import functional

    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).float() / 127.5 - 1.0
    if x.shape[2:] != (side, side) and len(x):
        x = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return x


def _shifted(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move the whole batch by up to an eighth of the side, with the edge pixels repeated behind it."""
    from torch.nn import functional

    side = x.shape[-1]
    reach = side // 8
    top, left = (int(offset) for offset in rng.integers(0, 2 * reach + 1, size=2))
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    return padded[:, :, top : top + side, left : left + side]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one CPU thread: layers this small gain little from more, and where other programs run on the
    same cores, threads that wait for each other in every layer make training ten times slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _classifier(channels: int, num_classes: int, side: int) -> torch.nn.Sequential:
    """`Sequential(features, head)`: (N, C, side, side) -> (N, 128) -> (N, num_classes)."""
    from torch import nn

    def block(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False)
        return [conv, nn.GroupNorm(8, outside), nn.ReLU()]

    # Every map after the first layer has about 16 pixels a side, so that a larger image costs no more time.
    first = max(1, side // 16)
    trunk = nn.Sequential(
        *block(channels, 32, stride=first, kernel=5 if first > 2 else 3),
        *block(32, 64, stride=2),
        *block(64, 96, stride=2),
        *block(96, 128),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128 * 4, OwnExtractor.dim),
        nn.ReLU(),
    )
    return nn.Sequential(trunk, nn.Linear(OwnExtractor.dim, num_classes))
