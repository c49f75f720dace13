"""Process many files in worker processes or threads, with results in order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from balancegan.compute.machine import usable_cores

T = TypeVar("T")
R = TypeVar("R")

PROCESSES_FROM = 1500
"""Below this many files, starting worker processes costs more than it saves, so threads are used."""
_IN_FLIGHT = 4


def default_workers() -> int:
    """Return how many cores this process may use, at most 16: beyond that, the disk is the bottleneck."""
    return min(16, usable_cores())


def chunked(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into consecutive pieces of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def chunk_size(mean_bytes: float) -> int:
    """Return how many files of this mean size a worker takes at once: about a tenth of a second of work."""
    return 256 if mean_bytes < 16_000 else 32 if mean_bytes < 250_000 else 4


def map_chunks(
    fn: Callable[[Sequence[T]], R], chunks: Sequence[Sequence[T]], *, workers: int | None = None
) -> Iterator[R]:
    """Yield `fn(chunk)` for every chunk, in order.

    Small images keep the interpreter busier than the decoder, so large jobs run in processes; `fn` must then be
    importable by name. If processes cannot start or one is killed, the remaining chunks run in threads.
    """
    workers = workers or default_workers()
    total = sum(len(c) for c in chunks)
    done = 0
    if workers > 1 and total >= PROCESSES_FROM and _may_start_processes():
        try:
            for result in _in_order(_process_pool(workers), fn, chunks):
                yield result
                done += 1
            return
        except (BrokenProcessPool, _CannotStartError):
            pass  # too little memory for another interpreter, or a decoder crashed its process
    try:
        with _pillow_warnings_off():
            for result in _in_order(ThreadPoolExecutor(workers), fn, chunks[done:]):
                yield result
                done += 1
    except _CannotStartError:
        yield from map(fn, chunks[done:])


class _CannotStartError(Exception):
    """The system allows no more processes or threads."""


def _may_start_processes() -> bool:
    """Whether processes can be started that share semaphores, which live in /dev/shm on Linux."""
    if multiprocessing.current_process().daemon:
        return False
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError, NotImplementedError):  # /dev/shm is absent, read-only or full
        return False
    return True


def _process_pool(workers: int) -> ProcessPoolExecutor:
    # spawn everywhere: forking a process that already runs threads or CUDA can hang
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    warnings.filterwarnings("ignore", module="PIL")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent dies: if it is killed, its workers would otherwise wait for work forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _in_order(pool: Executor, fn: Callable[[Sequence[T]], R], chunks: Sequence[Sequence[T]]) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    todo = iter(chunks)
    ahead = _IN_FLIGHT * getattr(pool, "_max_workers", 4)
    try:
        with _without_main(), _interrupts_later():  # workers start with the first submissions
            try:
                waiting.extend(pool.submit(fn, chunk) for chunk in islice(todo, ahead))
            except (OSError, RuntimeError) as error:
                raise _CannotStartError from error
        while waiting:
            yield waiting.popleft().result()
            for chunk in islice(todo, 1):
                waiting.append(pool.submit(fn, chunk))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start processes without importing the caller's script again.

    A spawned process imports `__main__`, so a user's script without a `__name__` guard would run twice. Workers
    need nothing from it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Delay Ctrl-C until the block ends; processes started inside never receive it.

    The terminal sends it to all its processes, and a worker that is still importing would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield
