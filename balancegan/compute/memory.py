"""Memory that runs out: what that looks like, and work in smaller pieces."""

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
    """Turn a failed allocation, on whatever device, into `OutOfMemoryError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{device} has too little free memory", hint) from None


_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "allocation_failed"),
    "unable to find an engine",  # cuDNN, when it has no memory for any
    # oneDNN's words for it; a kind of layer that it does not know has no "primitive descriptor".
    *("could not create a memory object", "could not create a primitive", "could not execute a primitive"),
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on whatever device."""
    # torch.OutOfMemoryError is CUDA's; the CPU's allocator and CUDA's libraries have none but RuntimeError.
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower().replace("could not create a primitive descriptor", "")
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


class Fitting:
    """How many images are worked on at once: all, until memory runs out; then half as many, and so on.

    Args:
        size: to begin with.
        device: whose memory is freed before another attempt.
        hint: advice where not even `least` images fit.
        least: images that the work needs at least.
        note: told when the size is halved.
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
        """`work(size)`, called again with half the size as long as memory runs out.

        Raises `OutOfMemoryError` where it does so at the least size. What a failed attempt made is thrown away, so
        `work` must not change anything that counts before it is sure to end.
        """
        while True:
            try:
                return work(self.size)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            # Outside the handler: the error's traceback holds on to the tensors of the failed attempt.
            if self.size <= self.least:
                few = "a single image" if self.size == 1 else f"{self.size} images"
                raise OutOfMemoryError(f"{self.device} has too little free memory for {few}", self.hint)
            _release(self.device)
            self.size = max(self.least, (self.size + 1) // 2)
            if self.note:
                self.note(f"out of memory: going on with {self.size} images at once")

    def rows(self, work: Callable[[slice], Tensor], n: int) -> Tensor:
        """`work` on slices of n rows, put together; each as large as memory allows."""

        def in_slices(size: int) -> Tensor:
            return torch.cat([work(slice(start, start + size)) for start in range(0, max(n, 1), size)])

        self.size = max(self.least, min(self.size, n))  # more were never tried
        return self.run(in_slices)


def mean_gradients(
    loss: Callable[[slice], Tensor], n: int, fitting: Fitting, clear: Callable[[], None] = lambda: None
) -> None:
    """Gradients of a mean over n images, in parts where memory does not hold all, after `clear` took old ones away.

    `loss` is the mean over some of the images, none of which may depend on another, nor on random numbers.
    """

    def work(size: int) -> None:
        clear()
        for this in cut(n, size, fitting.least):
            (loss(slice(this.start, this.stop)) * (this.size / n)).backward()

    fitting.run(work)


def _release(device: torch.device) -> None:
    """Give cached memory back, so that a smaller attempt finds it in one piece."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
