"""A feature extractor that trains a small classifier on the real training images.

It needs no download. Its values are comparable only with values from the same trained network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from balancegan.compute.device import one_thread
from balancegan.compute.memory import Fitting
from balancegan.core.errors import CheckpointError
from balancegan.core.files import disk_errors, write_atomic
from balancegan.core.progress import Progress, silent
from balancegan.core.rows import rows_by_class
from balancegan.data.training_set import TrainingSet
from balancegan.metrics.features import Features, Images, extract, state_key
from balancegan.nets.classifier import FEATURES, build_classifier, seeded_classifier, train_classifier


class OwnExtractor:
    """128 features of a small classifier trained on the real training images of this data set.

    The network has four convolution blocks with group normalisation (so that an image's features do not depend on its
    batch), global pooling, a 128-unit layer that outputs the features, and a linear classifier. Training draws classes
    equally often and shifts images by up to an eighth of their side. It does not mirror them, because a mirrored digit
    or traffic sign belongs to another class, and the features should reveal a generator that mirrors. Images larger
    than 64 pixels are scaled down to 64.
    """

    name = "own"
    comparable = False
    note = (
        "FID here uses features of a small classifier trained on this data set's real training images, not the "
        "standard Inception network. Compare these values only within this report. The classifier has learnt its "
        "training images, so classes that are compared with training images look worse than they are."
    )
    dim = FEATURES
    persistent = False

    def __init__(self, network: nn.Module, *, side: int, device: str = "cpu") -> None:
        """Wrap a trained network; use `fit` to train one."""
        self._network = network.to(device).eval()
        self._side, self._device = side, device
        self._fitting = Fitting(128, device, hint="use --device cpu")
        self.key = state_key(network.state_dict(), side)

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

        The cost does not depend on the number of images, and hardly on their size: 400 steps take 10 to 25 seconds on
        one CPU core. The same seed gives the same network on the same kind of CPU, regardless of the number of cores.

        Args:
            images: uint8 (N, C, H, W), training images only.
            labels: integers (N,) in 0 … num_classes - 1; a class may be empty.
            num_classes: number of classifier outputs.
            seed: for initialisation, batches and shifts.
            device: a torch device name.
            steps: updates with `batch_size` images each.
            batch_size: images per update.
            progress: called as `("classifier", step, steps)`.

        Raises:
            ValueError: there are no images, or the labels do not match them.
        """
        if not len(images) or len(labels) != len(images):
            raise ValueError(f"{len(images)} images and {len(labels)} labels cannot train a classifier")
        side = min(64, max(images.shape[2:]))
        rng = np.random.default_rng(seed)
        members = [rows for rows in rows_by_class(labels, num_classes) if len(rows)]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for step in range(steps):
                chosen = np.array([rng.choice(members[k]) for k in rng.integers(len(members), size=batch_size)])
                x = _shifted(normalised(images[chosen], side, device), rng)  # (B, C, side, side)
                yield x, torch.from_numpy(labels[chosen].astype(np.int64)).to(device)
                progress("classifier", step + 1, steps)

        network = seeded_classifier(images.shape[1], num_classes, side, seed, device)
        with one_thread():
            train_classifier(network, batches(), steps, Fitting(batch_size, device, hint="use --device cpu"))
        return cls(network, side=side, device=device)

    @classmethod
    def of(cls, data: TrainingSet, *, device: str = "cpu", progress: Progress = silent) -> OwnExtractor:
        """Call `fit` on a data set's training images."""
        images, labels = data.store.images[data.train_rows], data.labels[data.train_rows]
        return cls.fit(images, labels, len(data.class_names), device=device, progress=progress)

    def save(self, path: Path) -> None:
        """Write the trained network atomically; after `load` it gives the same features."""
        from safetensors.torch import save

        network: Any = self._network
        form = {"channels": network[0][0].in_channels, "classes": network[1].out_features, "side": self._side}
        with disk_errors(f"write {path.name}"):
            write_atomic(path, save(network.state_dict(), {key: str(value) for key, value in form.items()}))

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> OwnExtractor:
        """Read a network that `save` wrote.

        Raises:
            CheckpointError: the file is damaged or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                form = {key: int(value) for key, value in file.metadata().items()}
                network = build_classifier(form["channels"], form["classes"], form["side"])
                network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__})", "delete it; balancegan will create it again"
            ) from None
        return cls(network, side=form["side"], device=device)

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, 128)."""
        return self._run(images, classify=False)

    def logits(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, num_classes), before the softmax."""
        return self._run(images, classify=True)

    def accuracy(self, images: Images, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Recall of every class on these images (num_classes,); NaN for a class without images."""
        scores = self.logits(images)
        right = scores.argmax(axis=1) == labels
        members = rows_by_class(labels, scores.shape[1])
        return np.array([right[rows].mean() if len(rows) else np.nan for rows in members], np.float64)

    def _run(self, images: Images, *, classify: bool) -> Features:
        network: Any = self._network

        def run(batch: Images) -> Tensor:
            features = network[0](normalised(batch, self._side, self._device))
            return network[1](features) if classify else features

        dim = network[1].out_features if classify else self.dim
        return extract(images, dim, run, self._fitting)


def normalised(images: Images, side: int, device: str) -> Tensor:
    """uint8 (N, C, H, W) -> float (N, C, side, side) in [-1, 1]; downscaling is antialiased."""
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).float() / 127.5 - 1.0
    if x.shape[2:] != (side, side) and len(x):
        x = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return x


def _shifted(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift the whole batch by up to an eighth of its side, padding with edge pixels."""
    side = x.shape[-1]
    reach = side // 8
    top, left = (int(offset) for offset in rng.integers(0, 2 * reach + 1, size=2))
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    return padded[:, :, top : top + side, left : left + side]
