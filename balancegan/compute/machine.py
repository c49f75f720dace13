"""Facts about the machine: cores, memory, accelerators, and whether a folder can really be written to.

torch is imported where accelerators are asked for: scanning images counts cores and needs no torch.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GIB = 2**30
PROBE_BYTES = 1 << 20
"""Written to see whether a folder takes files; the smallest files fit into a full disk's directory entries."""


def usable_cores() -> int:
    """Processor cores that this process may use: its affinity, and a container's share of time, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _container_cores()
    return allowed if share is None else max(1, min(allowed, round(share)))


def load() -> float | None:
    """Processes that wanted a core over the last minute, on average; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def memory() -> dict[str, float | None]:
    """`total_gib` and `available_gib` (None where the system does not tell), within a container's limit."""
    total, available, limit = _physical_bytes(), _available_bytes(), _container_bytes()
    if limit is not None and limit < total:
        used = _number("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes") or 0
        total, left = limit, max(0, limit - int(used))
        available = left if available is None else min(available, left)
    return {"total_gib": in_gib(total), "available_gib": None if available is None else in_gib(available)}


def memory_bytes() -> int:
    """Memory of this machine in bytes, or of the container that this process is in."""
    return min(_physical_bytes(), _container_bytes() or sys.maxsize)


def in_gib(size: float) -> float:
    """Bytes to GiB, with two decimals."""
    return round(size / GIB, 2)


def processor_name() -> str:
    """The processor's model where the system tells it, else the architecture."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


# Accelerators ----------------------------------------------------------------------------------------------------


def gpus() -> list[dict[str, Any]]:
    """CUDA's and Apple's devices: `device`, `kind`, `name`, `total_gib`, `free_gib` (None where it is not told)."""
    import torch

    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            entry = {"device": f"cuda:{index}", "kind": "cuda", "name": properties.name}
            found.append({**entry, "total_gib": in_gib(properties.total_memory), "free_gib": _free_gpu(index)})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "kind": "mps", "name": processor_name(), "total_gib": None, "free_gib": None})
    return found


def _free_gpu(index: int) -> float | None:
    """Of a device that another program has for itself nothing can be asked."""
    import torch

    try:
        return in_gib(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return None


def has_nvidia_driver() -> bool:
    """Whether a driver for NVIDIA cards is loaded, whatever PyTorch makes of it."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def try_device(device: torch.device) -> None:
    """A convolution on the device; raises what PyTorch raises when it was not built for it."""
    import torch

    with torch.no_grad():
        x = torch.ones(1, 3, 8, 8, device=device)
        torch.nn.functional.conv2d(x, torch.ones(4, 3, 3, 3, device=device)).sum().item()  # item waits for it


# Disks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder, or where it would be made."""

    path: Path
    free_bytes: int | None
    disk: int | None
    """The file system's number: equal for folders that share their free space."""
    error: OSError | None
    """Why nothing can be written there."""


def examine_place(path: Path) -> Place:
    """Write, sync and delete a file in the folder, or in its nearest parent where it does not exist yet.

    Permission bits do not tell: file systems are mounted read-only, are full, or belong to another machine.
    """
    free = disk = error = None
    try:
        path = there = path.absolute()
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        free, disk = shutil.disk_usage(there).free, there.stat().st_dev
        write_and_delete(there)
    except OSError as reason:
        error = reason
    return Place(path, free, disk, error)


def write_and_delete(folder: Path) -> None:
    """Put a megabyte on the disk and take it away again; raises `OSError`."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        Path(name).unlink()


# What the system tells -------------------------------------------------------------------------------------------


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(*paths: str) -> float | None:
    """The number in the first file that has one ("max" is none)."""
    for path in paths:
        for line in _lines(path)[:1]:
            if line.strip().isdecimal():
                return float(line)
    return None


def _physical_bytes() -> int:
    """4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _container_bytes() -> int | None:
    """A container's limit of memory, or None without one."""
    own = next((line.partition("::")[2] for line in _lines("/proc/self/cgroup") if "::" in line), "/")
    groups = [own.strip("/").rsplit("/", k)[0] for k in range(own.count("/"))]  # a group's parents limit it too
    files = [f"/sys/fs/cgroup/{group}/memory.max" for group in groups]
    files += ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
    limits = [limit for file in files if (limit := _number(file)) is not None]
    return int(min(limits)) if limits else None


def _available_bytes() -> int | None:
    """Memory that programs can still get: what is free, and what the system would give back."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container_cores() -> float | None:
    """How many cores' time a container's limit leaves, or None without a limit."""
    quota, _, period = "".join(_lines("/sys/fs/cgroup/cpu.max")[:1]).partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        return int(quota) / int(period)
    old = _number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # -1 is no number here, and no limit
    period_old = _number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return old / period_old if old and period_old else None
