"""`doctor`: what this machine can do, which problems it has, and how to fix them.

Every check is independent: a failed one becomes a problem in the report and never ends it. The network is not used.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from balancegan.commands.weights import Status, status
from balancegan.compute import machine
from balancegan.compute.device import describe, resolve_device, threads
from balancegan.core.errors import BalanceGANError, DiskError, OutOfMemoryError, UsageError, WeightsMissingError
from balancegan.core.files import cache_root, disk_errors
from balancegan.core.progress import Progress, silent
from balancegan.methods import RECOMMENDED_ON_GPU, WHY_RECOMMENDED
from balancegan.metrics.weights import PUBLISHED
from balancegan.training import speed

LEAST_FREE_GIB = 2.0
"""With less free space, a long training run's checkpoints, or a balanced folder, may not fit."""
MUCH_FASTER = 2.0
"""One thread beats all threads by this factor only if threads wait for one another."""
PACKAGES = ("torchvision", "pillow", "numpy")
MEASURING = "measuring the speed"
_BUG = 1


@dataclass
class Findings:
    """Problems and notes, in the order in which they were found."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    """`what` is wrong, what to `do`, and the `exit_code` that a command would end with."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """`what` is good to know, and what to `do`; commands work nevertheless."""

    def problem(self, what: str, do: str, exit_code: int) -> None:
        """Add something that must be fixed first."""
        self.problems.append({"what": what, "do": do, "exit_code": exit_code})

    def note(self, what: str, do: str) -> None:
        """Add something that need not be fixed."""
        self.notes.append({"what": what, "do": do})

    @contextlib.contextmanager
    def checking(self, doing: str) -> Iterator[None]:
        """Turn any exception while `doing` something into a problem."""
        try:
            yield
        except BalanceGANError as error:
            self.problem(error.message, error.hint, error.exit_code)
        except Exception as error:  # a failed check also says something about the machine
            self.problem(f"could not {doing}: {_first_line(error)}", "report this if the reason is unclear", _BUG)


def examine(
    out: Path = Path(), *, device: str = "auto", with_speed: bool = True, progress: Progress = silent
) -> dict[str, Any]:
    """Return the command's JSON document: versions, device, memory, disks, metric weights, speed, problems, notes.

    Args:
        out: where results would be written; nothing is left there.
        device: as for `train`.
        with_speed: also measure the speed, which takes some ten seconds on a CPU.
        progress: called as `(MEASURING, done, total)`.
    """
    findings = Findings()
    versions: dict[str, Any] = {}
    with findings.checking("read the versions"):
        versions = _versions()
    memory: dict[str, float | None] = {"total_gib": None, "available_gib": None}
    with findings.checking("read the memory size"):
        memory = machine.memory()
    chosen, devices = _devices(device, memory, findings)
    document = {
        "schema_version": 1,
        "versions": versions,
        "device": devices,
        "memory": memory,
        "disk": _disks(out, findings),
        "weights": _weights(findings),
        "speed": _speed(chosen, devices, findings, progress) if with_speed and chosen else None,
    }
    return {**document, "ok": not findings.problems, "problems": findings.problems, "notes": findings.notes}


def _versions() -> dict[str, Any]:
    """Return the versions that affect results and speed; no host or user names."""
    told = describe(torch.device("cpu"))
    versions = {name: told[name] for name in ("balancegan", "python", "torch")}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
    if cudnn := torch.backends.cudnn.version():
        versions["cudnn"] = str(cudnn)
    return {**versions, "platform": told["platform"]}


# Devices ---------------------------------------------------------------------------------------------------------


def _devices(
    name: str, memory: dict[str, float | None], findings: Findings
) -> tuple[torch.device | None, dict[str, Any]]:
    """Return the device that commands would use (None if it is unusable), and the available devices."""
    chosen: torch.device | None = None
    gpus: list[dict[str, Any]] = []
    with warnings.catch_warnings(record=True) as caught:  # PyTorch warns of old drivers and unsupported cards
        warnings.simplefilter("always")
        with findings.checking("look for GPUs"):
            gpus = machine.gpus()
        with findings.checking("choose a device"):
            chosen = resolve_device(name)
    warned = list(dict.fromkeys(_first_line(w.message) for w in caught if issubclass(w.category, UserWarning)))
    if gpus:
        for text in warned:
            findings.note(f"PyTorch warns: {text}", "see https://pytorch.org for builds that support the card")
    else:
        _note_no_gpu(warned, findings)
    bf16 = False
    if chosen is not None and chosen.type != "cpu":
        chosen, bf16 = _tried(chosen, findings)
    cpu = {"device": "cpu", "kind": "cpu", "name": machine.processor_name()}
    return chosen, {
        "chosen": None if chosen is None else str(chosen),
        "available": [*gpus, {**cpu, "total_gib": memory["total_gib"], "free_gib": memory["available_gib"]}],
        "threads": torch.get_num_threads(),
        "cores": _cores(findings),
        "load": machine.load(),
        "bf16": bf16,
    }


def _cores(findings: Findings) -> int | None:
    """Return the number of cores that this process may use; adds a note if PyTorch starts more threads."""
    cores = None
    with findings.checking("count the cores"):
        cores = machine.usable_cores()
        if torch.get_num_threads() > cores:
            what = f"PyTorch starts {torch.get_num_threads()} threads, but only {cores} can run at once"
            findings.note(what, f"set the environment variable OMP_NUM_THREADS={cores}; extra threads slow it down")
    return cores


def _note_no_gpu(warned: list[str], findings: Findings) -> None:
    tiny = "train with --preset tiny, which is made for CPUs"
    if warned:
        findings.note(f"PyTorch found no usable GPU: {warned[0]}", f"update the driver, or {tiny}")
    elif machine.has_nvidia_gpu():
        built = (
            f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch is built without CUDA"
        )
        what = f"an NVIDIA driver is installed, but PyTorch found no usable GPU ({built})"
        findings.note(what, f"install a PyTorch build that supports the driver (https://pytorch.org), or {tiny}")
    else:
        findings.note("PyTorch found no usable GPU", tiny)


def _tried(device: torch.device, findings: Findings) -> tuple[torch.device | None, bool]:
    """Return the device if it works (PyTorch also lists unsupported cards), and whether it supports bfloat16."""
    bf16 = False
    try:
        machine.try_device(device)
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    except Exception as error:
        full = isinstance(error, torch.OutOfMemoryError)
        findings.problem(
            f"{device} cannot be used: {_first_line(error)}",
            "close other programs that use the GPU, or choose another device"
            if full
            else "install a PyTorch build for the card and its driver (https://pytorch.org), or use --device cpu",
            OutOfMemoryError.exit_code if full else UsageError.exit_code,
        )
        return None, False
    if device.type == "cuda" and not bf16:
        what = f"{device} does not support bfloat16, which training on GPUs uses"
        findings.problem(what, "train with --set amp=false, or use --device cpu", UsageError.exit_code)
    what = f"the method {RECOMMENDED_ON_GPU} is recommended on a GPU: {WHY_RECOMMENDED}"
    findings.note(what, f"train with --method {RECOMMENDED_ON_GPU}")
    return device, bf16


# Disks -----------------------------------------------------------------------------------------------------------


def _disks(out: Path, findings: Findings) -> list[dict[str, Any]]:
    """Return the folders that commands write to, whether each is writable, and its free space."""
    found: list[dict[str, Any]] = []
    short: set[int | None] = set()  # disks already reported as full
    for what, option, folder in (("output", "--out", lambda: out), ("cache", "BALANCEGAN_CACHE_DIR", cache_root)):
        with findings.checking(f"check the {what} folder"):
            place = machine.examine_place(folder())
            free = None if place.free_bytes is None else machine.in_gib(place.free_bytes)
            reason = None if place.error is None else place.error.strerror or str(place.error)
            found.append(
                {"what": what, "path": str(place.path), "free_gib": free, "writable": not reason, "reason": reason}
            )
            if place.error is not None:
                _cannot_write(what, place.path, place.error, option, findings)
            elif free is not None and free < LEAST_FREE_GIB and place.disk not in short:
                short.add(place.disk)
                text = f"the disk of the {what} folder {place.path} has only {free:.1f} GiB free"
                do = f"free some space, or choose another disk ({option}); {LEAST_FREE_GIB:.0f} GiB should be free"
                findings.problem(text, do, DiskError.exit_code)
    return found


def _cannot_write(what: str, path: Path, error: OSError, option: str, findings: Findings) -> None:
    """Add a problem with the hint that commands themselves would give."""
    try:
        with disk_errors(f"write to the {what} folder {path}", option):
            raise OSError(error.errno, error.strerror)  # without the probe file's name
    except DiskError as told:
        hint = told.hint
        if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.EEXIST):
            hint = f"it or a parent is not a folder: choose another place ({option})"
        findings.problem(told.message, hint, told.exit_code)


# Weights ---------------------------------------------------------------------------------------------------------


def _weights(findings: Findings) -> list[dict[str, Any]]:
    """Return which metric networks' weights are installed; their files are hashed, not loaded."""
    found: list[Status] = []
    with findings.checking("check the metric weights"), disk_errors("check the metric weights", "TORCH_HOME"):
        found = status()
    for item in found:
        if item.name == "inception":
            _judge_inception(item, findings)
    return [
        {
            "name": item.name,
            "state": item.state,
            "path": None if item.path is None else str(item.path),
            "reason": item.reason or None,
        }
        for item in found
    ]


def _judge_inception(item: Status, findings: Findings) -> None:
    """Check the Inception weights, which reports use by default, so that a wrong file affects everybody."""
    variable = PUBLISHED["inception"].variable
    if item.state == "missing" and os.environ.get(variable):
        findings.problem(
            item.reason, f"correct or unset the environment variable {variable}", WeightsMissingError.exit_code
        )
    elif item.state == "missing":
        what = "the Inception weights are missing: FID and KID are not comparable with published values"
        findings.note(what, "download them with `balancegan weights fetch inception`")
    elif item.state == "other":
        what = f"the Inception weights in {item.path} are not the published file"
        findings.note(what, "run `balancegan weights verify` to check whether they can be used")


# Speed -----------------------------------------------------------------------------------------------------------


def _speed(device: torch.device, devices: dict[str, Any], findings: Findings, progress: Progress) -> dict[str, Any]:
    """Measure presets as `train --dry-run` does, one thread against all, and decoding."""
    rows, one, decoding, took = [], None, None, 0.0
    on_cpu = device.type == "cpu"
    if on_cpu:
        _note_load(devices["load"], findings)
    progress(MEASURING, 0, 4)
    if on_cpu and torch.get_num_threads() > 1:  # first, so that warming up counts against it
        with findings.checking("measure the speed with one thread"), threads(1):
            one = speed.measure_preset("tiny", device)[0]["images_per_second"]
    progress(MEASURING, 1, 4)
    with findings.checking("measure the speed of the preset tiny"):
        row, took = speed.measure_preset("tiny", device)
        rows.append(row)
    progress(MEASURING, 2, 4)
    if rows and on_cpu and took * speed.DEFAULT_OVER_TINY > speed.DEFAULT_SECONDS:
        rows.append(speed.row("default", None, "not measured: one batch takes too long here; it is made for GPUs"))
    elif rows:
        with findings.checking("measure the speed of the preset default"):
            rows.append(speed.measure_preset("default", device, runs=1 if on_cpu else speed.RUNS)[0])
    progress(MEASURING, 3, 4)
    with findings.checking("measure the decoding of images"):
        decoding = speed.measure_decoding()
    progress(MEASURING, 4, 4)
    if rows and one is not None:
        _compare_threads(one, rows[0]["images_per_second"], findings)
    free = next((d["free_gib"] for d in devices["available"] if d["device"] == str(device)), None)
    _judge_memory(rows, free, on_cpu, findings)
    return {"presets": rows, "one_thread_images_per_second": one, "decoding": decoding}


def _note_load(load: float | None, findings: Findings) -> None:
    """Add a note if other programs are busy, which lowers measured speeds."""
    cores = os.cpu_count() or 1  # the load counts all cores, also those closed to this process
    if load is not None and load >= cores:
        what = f"other programs are busy (load {load:.1f}, cores {cores})"
        findings.note(what, "speeds may be understated; measure again when they are done")


def _compare_threads(one: float, all_threads: float, findings: Findings) -> None:
    """Add a note if one thread is much faster than all; both in images per second."""
    if one > MUCH_FASTER * all_threads:
        what = f"one thread trains {one / all_threads:.1f} times as fast as {torch.get_num_threads()} together"
        findings.note(what, "set the environment variable OMP_NUM_THREADS=1 while other programs are busy")


def _judge_memory(rows: list[dict[str, Any]], free: float | None, on_cpu: bool, findings: Findings) -> None:
    """Report presets that need more than the GiB that were free on the device."""
    for row in rows if free is not None else ():
        if row["memory_gib"] is None or row["memory_gib"] <= free:
            continue
        what = f"the preset {row['preset']} needs about {row['memory_gib']:.1f} GiB, but only {free:.1f} GiB are free"
        if row["preset"] == "default" and on_cpu:
            findings.note(what, "use --preset tiny, which is made for CPUs")
        else:
            do = "close other programs, or lower --batch-size or --image-size"
            findings.problem(what, do, OutOfMemoryError.exit_code)


def _first_line(error: object) -> str:
    """Return the first line of an exception or a warning."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__
