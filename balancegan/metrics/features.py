"""Feature extractors, which turn images into vectors for metrics that compare distributions, and their cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from balancegan.core.errors import UsageError, WeightsMissingError
from balancegan.core.files import cache_root, write_atomic
from balancegan.core.rows import blocks

if TYPE_CHECKING:
    import torch

    from balancegan.compute.memory import Fitting


Images = NDArray[np.uint8]
Features = NDArray[np.float32]

CACHE_BYTES = 1_000_000_000
"""Maximum total size of the features on disk."""

MEMORY_BYTES = 256_000_000
"""Maximum size of the features that one extractor keeps in memory: about twenty sets of 1,500 images."""

_SCHEMA = 3
"""Part of every entry's name; increase it when an extractor changes its features for the same images."""
_CHECK_BYTES = 16


class Extractor(Protocol):
    """A named function from images to feature vectors."""

    name: str
    comparable: bool  # are its values comparable with those of other reports?
    note: str  # a sentence for the report: what its values can be compared with
    dim: int
    persistent: bool  # do other processes have the same network, so that caching on disk is worthwhile?
    key: str  # hex hash of its weights; equal keys and images mean equal features

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, dim)."""


class WithHead(Extractor, Protocol):
    """An extractor that also outputs the class logits on which the Inception Score is defined."""

    has_head: bool  # do the loaded weights include the classifier?

    def classify(self, features: Features) -> Features:
        """Features that this extractor made, float32 (N, dim) -> logits float32 (N, K)."""


def with_head(extractor: Extractor) -> TypeGuard[WithHead]:
    """Whether `extractor.classify` can be called."""
    return bool(getattr(extractor, "has_head", False))


class Cached:
    """An extractor that runs once per set of images and then returns the cached features.

    A set is identified by its content and order. Features are kept in memory (the latest `MEMORY_BYTES`). If the
    extractor is `persistent`, they are also kept in `<cache>/features/<name>-<key>/` for other processes and later
    runs. The disk cache is optional: an unwritable folder, a full disk or a damaged entry only costs time. Its total
    size stays below `limit` bytes; the least recently used entries are deleted first.

    Features computed on a GPU and on a CPU differ in their last digits; the cache treats them as equal.
    `wrapped` is the extractor itself, for operations specific to its class.
    """

    def __init__(
        self,
        wrapped: Extractor,
        *,
        cache_dir: Path | None = None,
        limit: int = CACHE_BYTES,
        by: Callable[[Images], Features] | None = None,
    ) -> None:
        """Wrap an extractor.

        Args:
            wrapped: the extractor.
            by: called in its place to compute features, for example by several processes.
            cache_dir: folder to use instead of $BALANCEGAN_CACHE_DIR or the user's cache.
            limit: maximum bytes on disk for the entries of all extractors together.
        """
        self.wrapped, self._all = wrapped, by or wrapped
        self.name, self.comparable, self.note = wrapped.name, wrapped.comparable, wrapped.note
        self.dim, self.persistent, self.key = wrapped.dim, wrapped.persistent, wrapped.key
        self._memory: OrderedDict[str, Features] = OrderedDict()  # least recently used first
        self._disk = None
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a user without a home folder
            if wrapped.persistent:
                self._disk = _Disk(cache_root(cache_dir) / "features", f"{wrapped.name}-{wrapped.key[:16]}", limit)

    def __call__(self, images: Images) -> Features:
        """uint8 (N, C, H, W) -> float32 (N, dim), read-only, because all callers share the array."""
        if not len(images):
            return np.empty((0, self.dim), np.float32)
        name = _content(images)
        if name not in self._memory:
            found = self._disk.read(name, (len(images), self.dim)) if self._disk else None
            if found is None:
                found = np.asarray(self._all(images), np.float32)
                if self._disk:
                    self._disk.write(name, found)
            found = found.view()
            found.flags.writeable = False
            self._memory[name] = found
            while len(self._memory) > 1 and sum(kept.nbytes for kept in self._memory.values()) > MEMORY_BYTES:
                self._memory.popitem(last=False)
        self._memory.move_to_end(name)
        return self._memory[name]

    @property
    def has_head(self) -> bool:
        """Whether the wrapped extractor can `classify`."""
        return with_head(self.wrapped)

    def classify(self, features: Features) -> Features:
        """The wrapped extractor's logits; see `InceptionExtractor.classify`.

        Raises:
            WeightsMissingError: the extractor has no classifier.
        """
        if not with_head(self.wrapped):
            raise WeightsMissingError(f"the extractor {self.name} has no classifier")
        return self.wrapped.classify(features)


class _Disk:
    """Named arrays in `root/folder`: .npy files with a hash appended, which .npy readers ignore."""

    def __init__(self, root: Path, folder: str, limit: int) -> None:
        self._root, self._folder, self._limit = root, root / folder, limit

    def read(self, name: str, shape: tuple[int, int]) -> Features | None:
        """Read an array; None if it is missing, damaged or of another shape."""
        path = self._folder / f"{name}.npy"
        try:
            content = path.read_bytes()
            body, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
            if _check(body) != check:
                return None
            found = np.load(io.BytesIO(body), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if found.shape != shape or found.dtype != np.float32:
            return None
        with contextlib.suppress(OSError):
            path.touch()  # marks it as used, because many systems do not record access times
        return found

    def write(self, name: str, features: Features) -> None:
        """Store the array if possible."""
        buffer = io.BytesIO()
        np.save(buffer, features, allow_pickle=False)
        body = buffer.getvalue()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(body) + _CHECK_BYTES)
            if len(body) + _CHECK_BYTES <= self._limit:
                write_atomic(self._folder / f"{name}.npy", body + _check(body))

    def _make_room(self, size: int) -> None:
        """Delete the least recently used entries, and leftovers of crashed writers, until `size` more bytes fit."""
        entries = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):  # another process may be deleting too
                stat = path.stat()
                entries.append((stat.st_mtime_ns, path, stat.st_size))
        total = sum(entry[2] for entry in entries)
        for _, path, freed in sorted(entries):
            if total + size <= self._limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= freed


def extract(
    images: Images,
    dim: int,
    network: Callable[[Images], torch.Tensor],
    fitting: Fitting,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Run images through a network in batches, which shrink if memory runs out.

    Args:
        images: uint8 (N, C, H, W).
        dim: features per image.
        network: images (B, C, H, W) -> (B, dim) on its device; an image's features must not depend on its batch.
        fitting: controls the batch size.
        progress: called as `(images done, N)`.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    import torch

    features = np.empty((len(images), dim), np.float32)
    done = 0
    with torch.inference_mode():
        while done < len(images):
            start = done
            batch = fitting.run(lambda size: network(images[start : start + size]).float().cpu().numpy())  # noqa: B023
            done += len(batch)
            features[start:done] = batch
            progress(done, len(images))
    return features


def state_key(state: Mapping[str, torch.Tensor], *more: object) -> str:
    """SHA-256 of a network's tensors, with names, types and shapes, and of anything `more` its features depend on."""
    digest = hashlib.sha256(repr(more).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def three_channels(images: Images, network: str) -> Images:
    """Repeat grey images to three channels and leave colour images unchanged; the result is contiguous.

    Raises:
        UsageError: the images are neither grey nor RGB; `network` is the name for the message.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UsageError(f"{network} takes grey or RGB images, not an array of shape {images.shape}")
    return np.ascontiguousarray(np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images)


def _content(images: Images) -> str:
    digest = hashlib.blake2b(f"{_SCHEMA} {images.dtype} {images.shape}\n".encode(), digest_size=20)
    for some in blocks(len(images), 256):  # avoids copying a whole selection from a memory map
        digest.update(np.ascontiguousarray(images[some]).tobytes())
    return digest.hexdigest()


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES).digest()
