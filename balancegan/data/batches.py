"""Draw training batches by class from the uint8 store, normalised on the device."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from balancegan.compute.machine import memory_bytes
from balancegan.compute.memory import out_of_memory
from balancegan.compute.microbatch import at_hand, rows
from balancegan.compute.pixels import to_float
from balancegan.compute.ranks import here
from balancegan.core.config import SAMPLING, MethodConfig, class_weights
from balancegan.data.sources import SourceImages

if TYPE_CHECKING:
    from balancegan.data.training_set import TrainingSet


CPU_SHARE = 0.3  # of the machine's memory that may hold the images; larger sets are read from their file
GPU_SHARE = 0.4
_BLOCK = 4096  # images moved to the device at once


class Batches:
    """Draws batches of real images with replacement: first a class, then one of its images.

    The probability of a class is proportional to its count to the power of `SAMPLING[sampling]`. A draw costs O(batch)
    whatever the number of images, needs no host synchronisation, and depends only on torch's seeded generators.

    `images`: (N, C, S, S) uint8, array or memory map; `rows`: the training rows; `labels`: their classes (len(rows),).
    """

    def __init__(
        self, images: Any, rows: np.ndarray, labels: np.ndarray, sampling: str, device: torch.device, batch_size: int
    ) -> None:
        rows, labels = np.asarray(rows), np.asarray(labels)
        if (labels[1:] < labels[:-1]).any():  # a store's rows are sorted by class, even without held-out rows
            order = np.argsort(labels, kind="stable")
            rows, labels = rows[order], labels[order]
        counts = np.bincount(labels)
        self.num_images, self.batch_size, self.device = len(rows), batch_size, device
        self.once_size = batch_size
        self.sources = SourceImages(images, rows, labels)
        self._rows, self._read = rows, RowReader(images)
        self._resident: Tensor | None = None
        if len(rows) * images[:1].nbytes <= _budget(device):
            self._resident = _on_device(self._read, rows, images.shape[1:], device)
        # Random numbers are drawn where the images are.
        self._at = device if self._resident is not None else torch.device("cpu")
        self._sampling = sampling
        self._weights = {
            name: torch.tensor(class_weights(counts.tolist(), name), dtype=torch.float32, device=self._at)
            for name in SAMPLING
        }
        self._counts = torch.tensor(counts, device=self._at)
        self._starts = torch.tensor(np.concatenate([[0], np.cumsum(counts)[:-1]]), device=self._at)

    @classmethod
    def of(cls, data: TrainingSet, cfg: MethodConfig, device: torch.device) -> Batches:
        """Draw from a training set, as a configuration says."""
        rows = data.train_rows
        return cls(data.store.images, rows, data.labels[rows], cfg.sampling, device, cfg.batch_size)

    def draw(self, sampling: str | None = None) -> tuple[Tensor, Tensor]:
        """Return x (B, C, S, S) float32 in [-1, 1] and c (B,) int64, on the device.

        `sampling` replaces the one given to the constructor.

        Inside `microbatch.part`, these are the part's rows.
        """
        n = at_hand(self.batch_size)
        weights = self._weights[sampling or self._sampling]
        c = rows(lambda b: torch.multinomial(weights, b, replacement=True), n)
        # Double precision keeps every image of a class of millions reachable.
        precision = torch.float32 if self._at.type == "mps" else torch.float64
        u = rows(lambda b: torch.rand(b, device=self._at, dtype=precision), n)
        counts = self._counts[c]
        position = self._starts[c] + torch.minimum((u * counts).long(), counts - 1)
        return self._images(position), c.to(self.device)

    def _images(self, position: Tensor) -> Tensor:
        """Return the images at positions in class order."""
        if self._resident is not None:
            return to_float(self._resident[position])
        chosen = torch.from_numpy(self._read(self._rows[position.numpy()]))
        return to_float(chosen.to(self.device, non_blocking=True))

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every training image once, class by class, in batches of `once_size` (the last may be smaller)."""
        for start in range(0, self.num_images, self.once_size):
            position = torch.arange(start, min(start + self.once_size, self.num_images), device=self._at)
            label = torch.searchsorted(self._starts, position, right=True) - 1
            yield self._images(position), label.to(self.device)

    def of_class(self, label: int, most: int) -> np.ndarray:
        """Return up to `most` images of a class, spread evenly over it: uint8 (n, C, S, S)."""
        first, count = int(self._starts[label]), int(self._counts[label])
        chosen = self._rows[first + np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))]
        return self._read(chosen)


class RowReader:
    """Reads rows of an array, or of the file behind a memory map: uint8 (n, C, S, S).

    Every page touched through a map, and its neighbours, count towards the process's memory, until the process seems as
    large as the file and is killed where memory is limited. Data read from a file is only in the system's cache. The
    file stays open, so that a training survives clearing the cache.
    """

    def __init__(self, images: Any) -> None:
        self._images = images
        self._file: BinaryIO | None = None
        if isinstance(images, np.memmap) and images.filename is not None and hasattr(os, "preadv"):
            file = open(images.filename, "rb", buffering=0)  # noqa: SIM115, PTH123 - open for this object's lifetime
            if os.fstat(file.fileno()).st_size == images.offset + images.nbytes:  # a slice keeps its parent's offset
                self._file = file
            else:
                file.close()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return copies of these rows. Raises `OSError`."""
        images, file = self._images, self._file
        if file is None:
            return np.ascontiguousarray(images[rows])
        found = np.empty((len(rows), *images.shape[1:]), images.dtype)
        for block, row in zip(found, rows.tolist(), strict=True):
            if os.preadv(file.fileno(), [block.data], images.offset + row * block.nbytes) != block.nbytes:
                raise OSError(errno.EIO, "the file ends too early", str(images.filename))
        return found


def _on_device(read: RowReader, rows: np.ndarray, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
    """Return the rows' images on the device, or None if they do not fit and must be read from the file."""
    try:
        images = torch.empty((len(rows), *shape), dtype=torch.uint8, device=device)
        for start in range(0, len(rows), _BLOCK):  # the images need not fit into the host's memory
            part = slice(start, start + _BLOCK)
            images[part] = torch.from_numpy(read(rows[part])).to(device)
        return images
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None


def _budget(device: torch.device) -> float:
    if device.type == "cuda":
        return GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    return CPU_SHARE * memory_bytes() / here().local_size
