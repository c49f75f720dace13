"""Recognise out-of-memory errors, and do work in smaller pieces."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from balancegan.compute.microbatch import T, cut
from balancegan.core.errors import OutOfMemoryError


@contextlib.contextmanager
def memory_errors(device: torch.device, hint: str = "use a smaller --batch-size or --image-size") -> Iterator[None]:
    """Turn a failed allocation on any device into `OutOfMemoryError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{device} has too little free memory", hint) from None


_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "allocation_failed"),
    "unable to find an engine",  # cuDNN, when no engine fits into memory
    # oneDNN; "primitive descriptor" instead means that it does not support a kind of layer.
    *("could not create a memory object", "could not create a primitive", "could not execute a primitive"),
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a failed allocation on any device."""
    # Only CUDA's allocator raises torch.OutOfMemoryError; the CPU's and CUDA's libraries raise RuntimeError.
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower().replace("could not create a primitive descriptor", "")
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


class Fitting:
    """Finds how many images fit into memory at once: starts with all, and halves the number when memory runs out.

    Args:
        size: number of images to start with.
        device: its cached memory is freed before another attempt.
        hint: advice if not even `least` images fit.
        least: smallest number of images that the work allows.
        note: called with a message when the size is halved.
    """

    def __init__(
        self,
        size: int,
        device: torch.device | str,
        *,
        hint: str = "use --device cpu, or a smaller --image-size",
        least: int = 1,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.size, self.device, self.hint, self.least, self.note = size, torch.device(device), hint, least, note

    def run(self, work: Callable[[int], T]) -> T:
        """Return `work(size)`, halving the size and trying again as long as memory runs out.

        Raises `OutOfMemoryError` if memory runs out at the least size. Results of failed attempts are discarded, so
        `work` must not change any lasting state before it can no longer fail.
        """
        while True:
            try:
                return work(self.size)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            # Outside the handler: the error's traceback keeps the failed attempt's tensors alive.
            if self.size <= self.least:
                few = "a single image" if self.size == 1 else f"{self.size} images"
                raise OutOfMemoryError(f"{self.device} has too little free memory for {few}", self.hint)
            _release(self.device)
            self.size = max(self.least, (self.size + 1) // 2)
            if self.note:
                self.note(f"out of memory: continuing with {self.size} images at once")

    def rows(self, work: Callable[[slice], Tensor], n: int) -> Tensor:
        """Apply `work` to slices of n rows, each as large as memory allows, and concatenate the results."""

        def in_slices(size: int) -> Tensor:
            return torch.cat([work(slice(start, start + size)) for start in range(0, max(n, 1), size)])

        self.size = max(self.least, min(self.size, n))  # larger sizes were never tried
        return self.run(in_slices)


def mean_gradients(
    loss: Callable[[slice], Tensor], n: int, fitting: Fitting, clear: Callable[[], None] = lambda: None
) -> None:
    """Compute gradients of a mean over n images, in parts if memory does not hold all; `clear` removes old gradients.

    `loss` returns the mean over a slice of the images, which must not depend on each other or on random numbers.
    """

    def work(size: int) -> None:
        clear()
        for this in cut(n, size, fitting.least):
            (loss(slice(this.start, this.stop)) * (this.size / n)).backward()

    fitting.run(work)


def _release(device: torch.device) -> None:
    """Free cached memory, so that a smaller attempt finds it in one piece."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
