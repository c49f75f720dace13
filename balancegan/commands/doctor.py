"""`doctor`: what this machine can do, what is in the way of it, and what to do about that.

Every check stands alone: one that fails is a problem in the report, never an end of it. The network is not used.
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
from balancegan.metrics.weights import PUBLISHED
from balancegan.training import speed

LEAST_FREE_GIB = 2.0
"""Below this on a disk, a long training with its checkpoints, or a balanced folder, may not fit."""
MUCH_FASTER = 2.0
"""One thread beats all threads by this factor only where threads wait for one another."""
PACKAGES = ("torchvision", "pillow", "numpy")
MEASURING = "measuring the speed"
_BUG = 1


@dataclass
class Findings:
    """What was found out, in the order in which it was."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    """`what` is in the way of work, what to `do`, and the `exit_code` that the work would end with."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """`what` is good to know, and what to `do`; work can go on."""

    def problem(self, what: str, do: str, exit_code: int) -> None:
        """Something that must be changed first."""
        self.problems.append({"what": what, "do": do, "exit_code": exit_code})

    def note(self, what: str, do: str) -> None:
        """Something that can stay as it is."""
        self.notes.append({"what": what, "do": do})

    @contextlib.contextmanager
    def checking(self, doing: str) -> Iterator[None]:
        """Turn whatever goes wrong while `doing` something into a problem."""
        try:
            yield
        except BalanceGANError as error:
            self.problem(error.message, error.hint, error.exit_code)
        except Exception as error:  # a check that fails tells something about the machine, too
            self.problem(f"could not {doing}: {_first_line(error)}", "report it if the reason is not plain", _BUG)


def examine(
    out: Path = Path(), *, device: str = "auto", with_speed: bool = True, progress: Progress = silent
) -> dict[str, Any]:
    """The command's JSON document: versions, device, memory, disks, metric weights, speed, problems, notes.

    Args:
        out: where results would be written; nothing is left there.
        device: as for `train`.
        with_speed: also measure, some ten seconds on a CPU.
        progress: called as `(MEASURING, done, of how many)`.
    """
    findings = Findings()
    versions: dict[str, Any] = {}
    with findings.checking("tell the versions"):
        versions = _versions()
    memory: dict[str, float | None] = {"total_gib": None, "available_gib": None}
    with findings.checking("ask for the memory"):
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
    """Of what decides about results and speed; no host or user names."""
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
    """The device that commands would use, None where it cannot be used, and what there is to choose from."""
    chosen: torch.device | None = None
    gpus: list[dict[str, Any]] = []
    with warnings.catch_warnings(record=True) as caught:  # PyTorch warns of old drivers and of cards too old or new
        warnings.simplefilter("always")
        with findings.checking("look for GPUs"):
            gpus = machine.gpus()
        with findings.checking("choose a device"):
            chosen = resolve_device(name)
    warned = list(dict.fromkeys(_first_line(w.message) for w in caught if issubclass(w.category, UserWarning)))
    if gpus:
        for text in warned:
            findings.note(f"PyTorch warns: {text}", "see https://pytorch.org for builds that fit the card")
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
    """Cores that this process may use; more threads than that are a note."""
    cores = None
    with findings.checking("count the cores"):
        cores = machine.usable_cores()
        if torch.get_num_threads() > cores:
            what = f"PyTorch starts {torch.get_num_threads()} threads where {cores} can run at a time"
            findings.note(what, f"set the environment variable OMP_NUM_THREADS={cores}: waiting threads cost time")
    return cores


def _note_no_gpu(warned: list[str], findings: Findings) -> None:
    tiny = "train with --preset tiny, which is made for CPUs"
    if warned:
        findings.note(f"no GPU that PyTorch can use: {warned[0]}", f"update the driver, or {tiny}")
    elif machine.has_nvidia_driver():
        built = f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch is without CUDA"
        what = f"an NVIDIA driver is here, but no GPU that PyTorch can use ({built})"
        findings.note(what, f"install a PyTorch that fits the driver (https://pytorch.org), or {tiny}")
    else:
        findings.note("no GPU that PyTorch can use", tiny)


def _tried(device: torch.device, findings: Findings) -> tuple[torch.device | None, bool]:
    """The device if it works (PyTorch also lists cards that it was not built for), and whether it has bfloat16."""
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
            else "install a PyTorch that fits the card and its driver (https://pytorch.org), or use --device cpu",
            OutOfMemoryError.exit_code if full else UsageError.exit_code,
        )
        return None, False
    if device.type == "cuda" and not bf16:
        what = f"{device} cannot compute in bfloat16, in which training runs on GPUs"
        findings.problem(what, "train with --set amp=false, or use --device cpu", UsageError.exit_code)
    return device, bf16


# Disks -----------------------------------------------------------------------------------------------------------


def _disks(out: Path, findings: Findings) -> list[dict[str, Any]]:
    """The folders that commands write to: whether they can be, and how much is free there."""
    found: list[dict[str, Any]] = []
    short: set[int | None] = set()  # disks that were called full already
    for what, option, folder in (("output", "--out", lambda: out), ("cache", "BALANCEGAN_CACHE_DIR", cache_root)):
        with findings.checking(f"look at the {what} folder"):
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
                text = f"only {free:.1f} GiB are free on the disk of the {what} folder {place.path}"
                do = f"free some space, or choose another disk ({option}); {LEAST_FREE_GIB:.0f} GiB should be free"
                findings.problem(text, do, DiskError.exit_code)
    return found


def _cannot_write(what: str, path: Path, error: OSError, option: str, findings: Findings) -> None:
    """With the hints that the commands themselves would give."""
    try:
        with disk_errors(f"write to the {what} folder {path}", option):
            raise OSError(error.errno, error.strerror)  # without the name of the file that was tried
    except DiskError as told:
        hint = told.hint
        if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.EEXIST):
            hint = f"it, or what it would lie in, is not a folder: choose another place ({option})"
        findings.problem(told.message, hint, told.exit_code)


# Weights ---------------------------------------------------------------------------------------------------------


def _weights(findings: Findings) -> list[dict[str, Any]]:
    """Which metric networks' weights are here; their files are read, not loaded."""
    found: list[Status] = []
    with findings.checking("look at the metric weights"), disk_errors("look at the metric weights", "TORCH_HOME"):
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
    """Reports use these without being asked, so a wrong file concerns everybody."""
    variable = PUBLISHED["inception"].variable
    if item.state == "missing" and os.environ.get(variable):
        findings.problem(item.reason, f"correct the variable, or unset {variable}", WeightsMissingError.exit_code)
    elif item.state == "missing":
        what = "the Inception weights are missing: FID and KID are not the literature's"
        findings.note(what, "get them with `balancegan weights fetch inception`")
    elif item.state == "other":
        what = f"the Inception weights in {item.path} are not the published file"
        findings.note(what, "`balancegan weights verify` tells whether they can be used")


# Speed -----------------------------------------------------------------------------------------------------------


def _speed(device: torch.device, devices: dict[str, Any], findings: Findings, progress: Progress) -> dict[str, Any]:
    """Presets by `train --dry-run`'s estimate, one thread against all of them, and decoding."""
    rows, one, decoding, took = [], None, None, 0.0
    on_cpu = device.type == "cpu"
    if on_cpu:
        _note_load(devices["load"], findings)
    progress(MEASURING, 0, 4)
    if on_cpu and torch.get_num_threads() > 1:  # first, so that it, and not what it is compared with, warms up
        with findings.checking("measure the speed with one thread"), threads(1):
            one = speed.measure_preset("tiny", device)[0]["images_per_second"]
    progress(MEASURING, 1, 4)
    with findings.checking("measure the speed of the preset tiny"):
        row, took = speed.measure_preset("tiny", device)
        rows.append(row)
    progress(MEASURING, 2, 4)
    if rows and on_cpu and took * speed.DEFAULT_OVER_TINY > speed.DEFAULT_SECONDS:
        rows.append(speed.row("default", None, "not measured, one batch takes too long here; it is made for GPUs"))
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
    """Figures taken beside other work are not the machine's."""
    cores = os.cpu_count() or 1  # the load is that of all cores, whoever may use them
    if load is not None and load >= cores:
        what = f"other programs are busy (load {load:.1f}, cores {cores})"
        findings.note(what, "the speed is what they leave; measure again when they are done")


def _compare_threads(one: float, all_threads: float, findings: Findings) -> None:
    """Images a second with one thread and with all."""
    if one > MUCH_FASTER * all_threads:
        what = f"one thread trains {one / all_threads:.1f} times as fast as {torch.get_num_threads()} do together"
        findings.note(what, "set the environment variable OMP_NUM_THREADS=1 while other programs are busy")


def _judge_memory(rows: list[dict[str, Any]], free: float | None, on_cpu: bool, findings: Findings) -> None:
    """Does what a training needs fit into the GiB that were free on its device?"""
    for row in rows if free is not None else ():
        if row["memory_gib"] is None or row["memory_gib"] <= free:
            continue
        what = f"the preset {row['preset']} needs about {row['memory_gib']:.1f} GiB, and {free:.1f} GiB are free"
        if row["preset"] == "default" and on_cpu:
            findings.note(what, "use --preset tiny, which is made for CPUs")
        else:
            do = "close other programs, or lower --batch-size or --image-size"
            findings.problem(what, do, OutOfMemoryError.exit_code)


def _first_line(error: object) -> str:
    """What an exception or a warning says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__
