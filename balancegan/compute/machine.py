"""Facts about the machine: cores, memory, accelerators, and whether a folder is really writable.

torch is imported only where accelerators are queried: scanning images counts cores and does not need torch.
"""

from __future__ import annotations

import glob
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
"""Bytes written to test whether a folder is writable; a tiny file can fit into a full disk's directory entries."""

NVIDIA_CARDS = ("/proc/driver/nvidia/gpus/*", "/dev/nvidia[0-9]*")
"""Where Linux lists NVIDIA cards; a container or a sandbox may have only one of the two."""
WSL_FILES = ("/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1")
"""The GPU and NVIDIA's driver library in the Windows Subsystem for Linux."""


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's CPU quota; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _container_cores()
    return allowed if share is None else max(1, min(allowed, round(share)))


def load() -> float | None:
    """Return the load average over the last minute, or None if the system does not report it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def memory() -> dict[str, float | None]:
    """Return `total_gib` and `available_gib` (None if the system does not report it), within a container's limit."""
    total, available, limit = _physical_bytes(), _available_bytes(), _container_bytes()
    if limit is not None and limit < total:
        used = _number("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes") or 0
        total, left = limit, max(0, limit - int(used))
        available = left if available is None else min(available, left)
    return {"total_gib": in_gib(total), "available_gib": None if available is None else in_gib(available)}


def memory_bytes() -> int:
    """Return the memory in bytes of this machine, or of the container that this process is in."""
    return min(_physical_bytes(), _container_bytes() or sys.maxsize)


def in_gib(size: float) -> float:
    """Convert bytes to GiB, with two decimals."""
    return round(size / GIB, 2)


def processor_name() -> str:
    """Return the processor's model if the system reports it, else the architecture."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


# Accelerators ----------------------------------------------------------------------------------------------------


def gpus() -> list[dict[str, Any]]:
    """Return CUDA and Apple devices: `device`, `kind`, `name`, `total_gib`, `free_gib` (None if not reported)."""
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
    """Return a GPU's free memory in GiB, or None if another program has exclusive use of it."""
    import torch

    try:
        return in_gib(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return None


def device_gib(device: str) -> float:
    """Return a device's memory in GiB: a GPU's own, or this machine's, which Apple's GPUs share."""
    own = [gpu["total_gib"] for gpu in ([] if device == "cpu" else gpus()) if gpu["device"] == device]
    return next(filter(None, own), in_gib(memory_bytes()))


def has_gpu() -> bool:
    """Whether there seems to be a GPU that PyTorch could use; asks the system, since loading torch takes seconds."""
    return has_nvidia_gpu() or (platform.system() == "Darwin" and platform.machine() == "arm64")


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA card with a driver is visible to this process, even if PyTorch cannot use it."""
    first_visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first_visible in ("", "-1"):  # CUDA ignores what follows an invalid number
        return False
    if platform.system() == "Windows":
        return shutil.which("nvidia-smi") is not None  # comes with the driver
    return any(map(glob.glob, NVIDIA_CARDS)) or all(map(os.path.exists, WSL_FILES))


def try_device(device: torch.device) -> None:
    """Run a convolution on the device; raises what PyTorch raises if it was not built for it."""
    import torch

    with torch.no_grad():
        x = torch.ones(1, 3, 8, 8, device=device)
        torch.nn.functional.conv2d(x, torch.ones(4, 3, 3, 3, device=device)).sum().item()  # item() waits for the result


# Disks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder that exists or could be created."""

    path: Path
    free_bytes: int | None
    disk: int | None
    """The file system's device number, equal for folders that share their free space."""
    error: OSError | None
    """Why the folder is not writable, or None."""


def examine_place(path: Path) -> Place:
    """Write, sync and delete a file in the folder, or in its nearest existing parent.

    Permission bits do not suffice: the file system may be read-only, full, or on another machine.
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
    """Write a megabyte to the disk and delete it again; raises `OSError`."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        Path(name).unlink()


# System files ----------------------------------------------------------------------------------------------------


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(*paths: str) -> float | None:
    """Return the number in the first file that contains one ("max" does not count)."""
    for path in paths:
        for line in _lines(path)[:1]:
            if line.strip().isdecimal():
                return float(line)
    return None


def _physical_bytes() -> int:
    """Return the physical memory in bytes; 4 GiB if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _container_bytes() -> int | None:
    """Return the container's memory limit in bytes, or None without one."""
    own = next((line.partition("::")[2] for line in _lines("/proc/self/cgroup") if "::" in line), "/")
    groups = [own.strip("/").rsplit("/", k)[0] for k in range(own.count("/"))]  # a group's parents limit it too
    files = [f"/sys/fs/cgroup/{group}/memory.max" for group in groups]
    files += ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
    limits = [limit for file in files if (limit := _number(file)) is not None]
    return int(min(limits)) if limits else None


def _available_bytes() -> int | None:
    """Return the memory available to programs in bytes, including what the system can reclaim; None if unknown."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container_cores() -> float | None:
    """Return how many cores a container's CPU quota allows, or None without a quota."""
    quota, _, period = "".join(_lines("/sys/fs/cgroup/cpu.max")[:1]).partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        return int(quota) / int(period)
    old = _number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # -1, which is not read as a number, means no limit
    period_old = _number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return old / period_old if old and period_old else None
