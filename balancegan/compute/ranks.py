"""Run several processes as one: `torchrun` starts them, torch.distributed connects them.

Rank 0 runs the command. The others wait in `serve` for the work it hands out: a training, in which all ranks make the
same steps, each on its rows of every batch (`together`), or a share of some other work (`split`). Only rank 0 writes
files and talks to the user. `from_main` gives the others the result of work that rank 0 does alone, or its error.

Inside `together`, `all_sum` and `gathered` connect the ranks' networks, with gradients; elsewhere, and in a single
process, they return their input.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from balancegan.compute import microbatch as parts
from balancegan.compute.joining import JOIN, wait_for_all
from balancegan.compute.machine import usable_cores
from balancegan.compute.processes import processes
from balancegan.core.errors import BalanceGANError, RankLostError, UsageError
from balancegan.core.signals import STOPPING

T = TypeVar("T")

MOST_GIVEN = 8  # samplers and extractors, of which few are in use at once

# The other ranks wait while rank 0 scans, writes a report or does other work alone. A dead process is noticed at once,
# by its closed connection.
_TIMEOUT = timedelta(days=7)

_together: ContextVar[bool] = ContextVar("together", default=False)


@dataclass
class Ranks:
    """This process among those that work together; on its own, it is rank 0 of 1."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine
    local_size: int = 1
    machines: tuple[int, ...] = (0,)  # the first rank on each machine
    _lost: bool = False  # the other ranks are out of step with this one

    @property
    def is_main(self) -> bool:
        """Whether this process writes, and talks to the user."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self, batch_size: int) -> Iterator[None]:
        """Inside, this rank handles its rows of every batch of `batch_size`, and the ranks' networks are connected."""
        if self.size == 1:
            yield
            return
        each = batch_size // self.size
        token = _together.set(True)
        try:
            with parts.part(parts.Part(self.rank * each, (self.rank + 1) * each, batch_size)):
                yield
        finally:
            _together.reset(token)

    def require_equal_parts(self, batch_size: int, least: int) -> int:
        """Return how many images of a batch each rank gets. Raises `UsageError` if they cannot be divided evenly."""
        each = batch_size // self.size
        if each * self.size != batch_size or each < least:
            raise UsageError(
                f"a batch of {batch_size} images cannot be divided among {self.size} processes",
                f"use a --batch-size that is a multiple of {self.size}, at least {least * self.size}",
            )
        return each

    def summed(self, parameters: Iterable[Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum the ranks' gradients in place and return their summed terms, all in one message."""
        if self.size == 1:
            return terms
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = torch.stack(list(terms.values()))
        flat = torch.cat([values, *(g.flatten() for g in gradients)])
        reduce_in_place(flat)
        pieces = flat.split([len(values), *(g.numel() for g in gradients)])
        torch._foreach_copy_(gradients, [piece.view_as(g) for piece, g in zip(pieces[1:], gradients, strict=True)])
        return dict(zip(terms, pieces[0].unbind(), strict=True))

    def most(self, *values: int) -> tuple[int, ...]:
        """Return the largest of the ranks' values, for each value; they are small and not on the device."""
        if self.size == 1:
            return values
        found = torch.tensor(values)
        reduce_in_place(found, dist.ReduceOp.MAX)
        return tuple(found.tolist())

    def equal(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with rank 0's, in place."""
        if self.size > 1:
            with _connected():
                for tensor in tensors:
                    whole = tensor.detach().contiguous()  # shares memory unless strided
                    dist.broadcast(whole, 0)
                    if whole.data_ptr() != tensor.data_ptr():
                        tensor.detach().copy_(whole)

    def from_main(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0 alone and return its result on all ranks. All ranks raise its `BalanceGANError`."""
        if self.size == 1:
            return work()
        return self._agreed(_attempt(work) if self.is_main else None)

    def everywhere(self, work: Callable[[], T]) -> T:
        """Do `work` on all ranks and return this rank's result; if one fails, all raise its `BalanceGANError`."""
        if self.size == 1:
            return work()
        result, failed = _attempt(work)
        for rank, error in enumerate(_all_objects(failed, self.size)):
            if error is not None:
                if rank:
                    error.message = f"process {rank}: {error.message}"
                raise _shared(error)
        return cast(T, result)

    def _agreed(self, outcome: tuple[Any, BalanceGANError | None] | None) -> Any:
        result, error = _broadcast(outcome)
        if error is not None:
            raise _shared(error)
        return result

    # Handing out work ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def joined(self, work: Callable[..., None], *arguments: object) -> Iterator[None]:
        """On rank 0: make the others call `work(*arguments)`, a module-level function, while this rank works inside.

        All ranks must make the same collective calls, in the same order. An error on this rank alone leaves the others
        waiting, and no more work can be handed out.
        """
        if self.size == 1:
            yield
            return
        _broadcast((work, arguments))
        try:
            yield
        except BaseException as error:
            self._lost = not getattr(error, "shared", False)
            raise

    def split(self, work: Callable[..., T], shares: Sequence[tuple[Any, ...]]) -> list[T]:
        """On rank 0: return `work(*shares[rank])` of every rank, in their order; `work` is a module-level function."""
        with self.joined(_take_share, work):
            return _do_share(work, shares)

    def give(self, thing: object) -> str:
        """On rank 0: give every rank its own copy of an object, available as `given(name)`; returns the name.

        The latest `MOST_GIVEN` objects are kept.
        """
        name = f"{next(_numbers)}"
        with self.joined(_keep, name, thing):
            _keep(name, thing)
        return name

    def serve(self) -> None:
        """On other ranks: do the work that rank 0 hands out, until rank 0 ends."""
        for signum in STOPPING:  # a training handles these; otherwise rank 0 gets them too and ends the others
            signal.signal(signum, lambda *_: None)
        while (task := _broadcast(None)) is not None:
            work, arguments = task
            try:
                work(*arguments)
            except BalanceGANError as error:
                if not getattr(error, "shared", False):
                    raise

    def end(self) -> None:
        """On rank 0: let the others end."""
        if self.size > 1 and not self._lost:
            with contextlib.suppress(RankLostError):
                _broadcast(None)


_here = Ranks()
_given: OrderedDict[str, Any] = OrderedDict()
_numbers = itertools.count()


def here() -> Ranks:
    """Return this process's place among the others."""
    return _here


def given(name: str) -> Any:
    """Return this rank's copy of an object that rank 0 gave to all."""
    return _given[name]


def several() -> bool:
    """Whether this rank's networks are currently connected with those of other ranks."""
    return _together.get()


def run(command: Callable[[], None]) -> None:
    """Run a command, or serve it: of several processes that `torchrun` started, rank 0 runs it and the others serve.

    With several processes, each exits at once when its work is done, because closing the connections while another
    process does the same sometimes aborts. Raises `SystemExit`.
    """
    global _here
    _here = _connect()
    if _here.size == 1:
        command()
        return
    code = _main(command) if _here.is_main else _beside()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(command: Callable[[], None]) -> int:
    """Run the command and return its exit code."""
    try:
        command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        _here.end()
    return 0


def _beside() -> int:
    """Serve rank 0 and return the exit code."""
    try:
        _here.serve()
    except RankLostError:  # the lost process has reported why
        return RankLostError.exit_code
    except BalanceGANError as error:
        print(f"process {_here.rank}: error: {error.message}", error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _connect() -> Ranks:
    """Join the processes that the environment describes, if any."""
    env = os.environ
    size, rank = processes(), int(env.get("RANK", 0))
    local_rank, local_size = int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size))
    if size < 2:
        return Ranks()
    # Each process sees one device, so that `cuda:0` is its own. Must be set before CUDA is initialised.
    devices = env.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(local_size)))).split(",")
    env["CUDA_VISIBLE_DEVICES"] = devices[local_rank] if local_rank < len(devices) else ""
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    if env.get("OMP_NUM_THREADS") == "1":  # torchrun's default
        torch.set_num_threads(max(1, usable_cores() // local_size))
    with _connected():
        store, rank, size = next(dist.rendezvous("env://", timeout=JOIN))
        wait_for_all(store, rank, size)
        store.set_timeout(_TIMEOUT)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    machines = tuple(i for i, first in enumerate(_all_objects(local_rank == 0, size)) if first)
    return Ranks(rank, size, local_rank, local_size, machines)


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo's, and DistError
        raise RankLostError(
            "another process of this job has ended",
            "its own message says why; the same command continues from the last checkpoint",
        ) from error


def reduce_in_place(x: Tensor, op: Any = dist.ReduceOp.SUM) -> None:
    """Overwrite a tensor with the sum (or another reduction) of all ranks' tensors; raises `RankLostError`."""
    with _connected():
        dist.all_reduce(x, op)


def _broadcast(thing: Any) -> Any:
    box = [thing]
    with _connected():
        dist.broadcast_object_list(box, 0)
    return box[0]


def _all_objects(thing: Any, size: int) -> list[Any]:
    box = [None] * size
    with _connected():
        dist.all_gather_object(box, thing)
    return box


def _attempt(work: Callable[..., T], *arguments: Any) -> tuple[T | None, BalanceGANError | None]:
    try:
        return work(*arguments), None
    except BalanceGANError as error:
        return None, error


def _shared(error: BalanceGANError) -> BalanceGANError:
    """Mark an error as one that all ranks raise."""
    error.shared = True  # type: ignore[attr-defined]
    return error


def _take_share(work: Callable[..., Any]) -> None:
    _do_share(work, None)


def _do_share(work: Callable[..., T], shares: Sequence[tuple[Any, ...]] | None) -> list[T]:
    mine: list[Any] = [None]
    with _connected():
        dist.scatter_object_list(mine, list(shares) if shares else None, 0)
    outcome = _attempt(work, *mine[0])
    outcomes: list[Any] | None = [None] * _here.size if _here.is_main else None
    with _connected():
        dist.gather_object(outcome, outcomes, 0)
    for _, error in outcomes or ():
        if error is not None:
            raise _shared(error)
    return [result for result, _ in outcomes or ()]


def _keep(name: str, thing: Any) -> None:
    _given[name] = thing
    while len(_given) > MOST_GIVEN:
        _given.popitem(last=False)
