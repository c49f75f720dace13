"""Sample on all ranks: rank 0 requests chunks, and every rank makes its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from balancegan.compute.ranks import given, here
from balancegan.core.config import MethodConfig
from balancegan.core.options import SamplingOptions
from balancegan.data.sources import SourceImages
from balancegan.methods.base import DataSpec, Method
from balancegan.sampling.samplers import RejectionSampler, Sampler

T = TypeVar("T")


def spread(sampler: Sampler) -> Sampler:
    """Return the sampler; with several ranks, wrapped to sample one chunk per rank ahead."""
    return _SpreadSampler(sampler) if here().size > 1 else sampler


class _SpreadSampler(RejectionSampler):
    """Requests consecutive chunks from all ranks at once, and keeps those not requested yet.

    Each chunk is always made by the same rank, which caches the classes it found in it.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.own = sampler
        self.name, self.first_seed, self.patience = sampler.name, sampler.first_seed, sampler.patience
        self.method, self.device, self.sources = sampler.method, sampler.device, sampler.sources
        self.shape = sampler.shape
        self._name = here().give(_Parcel(sampler))
        self._found: dict[tuple[Any, ...], Any] = {}

    def chunk(self, label: int, index: int) -> np.ndarray:
        """Like the wrapped sampler's `chunk`."""
        return self._ahead(_chunk, label, index)

    def of_class(self, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Like the wrapped sampler's `of_class`."""
        return self._ahead(_of_class, label, index)

    def likeliest(self, index: int) -> np.ndarray:
        """Like the wrapped sampler's `likeliest`."""
        return self._ahead(_likeliest, 0, index)

    def _ahead(self, work: Callable[[str, int, int], T], label: int, index: int) -> T:
        if (work, label, index) not in self._found:
            size = here().size
            wave = sorted(range(index, index + size), key=lambda i: i % size)
            results = here().split(work, [(self._name, label, i) for i in wave])
            self._found = {(work, label, i): result for i, result in zip(wave, results, strict=True)}
        return self._found.pop((work, label, index))


def _chunk(name: str, label: int, index: int) -> np.ndarray:
    return _sampler(name).chunk(label, index)


def _of_class(name: str, label: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    return _sampler(name).of_class(label, index)


def _likeliest(name: str, label: int, index: int) -> np.ndarray:
    sampler = _sampler(name)
    assert isinstance(sampler, RejectionSampler)
    return sampler.likeliest(index)


def _sampler(name: str) -> Sampler:
    return given(name).open()


class _Parcel:
    """A sampler that can be pickled: weights computed from others (spectral norm) cannot be pickled directly."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler: Sampler | None = sampler

    def open(self) -> Sampler:
        assert self.sampler
        return self.sampler

    def __reduce__(self) -> tuple[Any, ...]:
        sampler = self.open()
        method = sampler.method
        made = (type(method), method.cfg, method.data, method.state_dict(), method.sampling)
        return _unpacked, (type(sampler), *made, sampler.device, sampler.sources)


def _unpacked(
    kind: type[Sampler],
    of: type[Method],
    cfg: MethodConfig,
    data: DataSpec,
    state: Mapping[str, Any],
    options: SamplingOptions,
    device: torch.device,
    sources: SourceImages | None,
) -> _Parcel:
    method = of(cfg)
    method.setup(data)
    method.load_state_dict(state)
    method.sample_with(options)
    return _Parcel(kind(method, device, sources))
