"""Choose a device and describe it for a run's records."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Iterator
from typing import Any

import torch

from balancegan.compute.machine import usable_cores
from balancegan.core.errors import UsageError
from balancegan.core.version import __version__


def resolve_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` takes CUDA, then MPS, then the CPU. Raises `UsageError` if it does not exist."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}", "use auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                "this machine has no CUDA device that PyTorch can use", "use --device auto or --device cpu"
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"{name} does not exist: this machine has {torch.cuda.device_count()} CUDA device(s)")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("this machine has no MPS device", "use --device auto or --device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"{name} is not supported", "use auto, cpu, cuda, cuda:1 or mps")
    return device


def prepare(device: torch.device) -> None:
    """Prepare a device: TF32 for float32 products on CUDA; on the CPU, no more threads than usable cores."""
    if device.type == "cpu":
        # torch counts all cores of the machine, even if a container may use only a few; threads that wait for a core
        # hold up all others.
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def use_device(name: str | torch.device = "auto") -> torch.device:
    """Resolve a device and prepare it for work."""
    device = resolve_device(str(name))
    prepare(device)
    return device


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Return the states of torch's global generators that work on `device` draws from, without synchronisation."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def set_random_state(states: list[torch.Tensor], device: torch.device) -> None:
    """Restore the states that `random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])


def describe(device: torch.device) -> dict[str, Any]:
    """Return versions and hardware for env.json, without host or user names."""
    info: dict[str, Any] = {
        "balancegan": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(terse=True),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        info["gpu"] = {"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
        info["cuda"] = torch.version.cuda
    return info


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of PyTorch's CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Let torch use one CPU thread inside the block.

    Layers this small gain little from more, and if other programs run on the same cores, threads that wait for each
    other in every layer make training ten times slower.
    """
    return threads(1)
