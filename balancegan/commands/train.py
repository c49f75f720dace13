"""`train`: from a folder and options to a run directory, new or continued."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan.commands.data_notes import data_notes
from balancegan.compute import device as devices
from balancegan.compute.memory import memory_errors
from balancegan.compute.ranks import here
from balancegan.core.config import MethodConfig, dump_yaml, load_yaml, resolve
from balancegan.core.errors import BalanceGANError, CheckpointError, DatasetError, OutOfMemoryError, UsageError
from balancegan.core.files import disk_errors, refuse_source, require_space, write_atomic, write_json
from balancegan.core.grid import save_grid
from balancegan.core.options import DECODING, is_table
from balancegan.core.progress import Progress, silent
from balancegan.data.batches import Batches
from balancegan.data.training_set import TrainingSet, open_training_set, recorded_holdout
from balancegan.inspection.resolution import Training, loses, resolution_note
from balancegan.methods import RECOMMENDED_ON_GPU, WHY_RECOMMENDED, load_method
from balancegan.methods.base import DataSpec, Method
from balancegan.report.loss_charts import plot_losses
from balancegan.runs.checkpoint import step_of
from balancegan.runs.directory import RunDir, find_run, list_runs
from balancegan.runs.restore import read_config, recorded_settings
from balancegan.sampling.preview import GRID_COLUMNS
from balancegan.training.accumulation import HINT
from balancegan.training.estimate import checkpoint_bytes, estimate
from balancegan.training.loop import train
from balancegan.training.monitor import Monitor, SilentMonitor

BESIDE = 2  # checkpoints besides those kept: the last before a collapse, and the one being written
NO_SPACE = "free some space, choose another disk with --out, or keep fewer checkpoints: --set keep_checkpoints=1"


@dataclass(frozen=True)
class TrainRequest:
    """One `train` command. `flags` are configuration fields; None means not given."""

    data: Path
    method: str | None = None
    preset: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    config_file: Path | None = None
    device: str = "auto"
    out: Path = Path("runs")
    resume: str = "auto"
    max_seconds: float | None = None
    strict: bool = False
    use_environment: bool = True  # whether BALANCEGAN_<FIELD> variables count


@dataclass(frozen=True)
class Plan:
    """A request with everything resolved except the data."""

    name: str
    by_default: bool  # whether nobody chose the method
    preset: str
    method: Method  # not set up yet
    cfg: MethodConfig
    device: torch.device
    run: RunDir | None  # the run that --resume names


def configure(request: TrainRequest) -> Plan:
    """Resolve method, configuration, device and the run to continue; raises `UsageError` before any data is read.

    A run that `resume` names brings its own configuration, which file, environment and flags override.
    """
    run = None if request.resume in ("auto", "never") else find_run(request.resume, request.out)
    base = recorded_settings(run) if run else {}
    file = {**base, **(load_yaml(request.config_file) if request.config_file else {})}
    chosen = request.method or file.get("method")
    name = str(chosen or "sgbgan")
    preset = str(request.preset or file.get("preset") or "default")
    if run and preset != base.get("preset", preset):
        raise UsageError(f"{run.name} has the preset {base['preset']}, not {preset}", "omit --preset to continue it")
    kind = load_method(name)
    if preset not in kind.presets:
        near = difflib.get_close_matches(preset, kind.presets, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown preset {preset!r}", f"{hint}choose one of {', '.join(kind.presets)}")
    fields = {k: v for k, v in file.items() if k not in ("method", "preset")}
    env: Mapping[str, str] | None = None if request.use_environment else {}
    # A run records every field of its time; fields added since take their defaults, not the preset's values.
    defaults = {} if run else {"decoding": DECODING, **kind.presets[preset]}
    cfg = resolve(kind.Config, defaults, file=fields, flags=request.flags, env=env)
    if is_table(cfg.group_by) and Path(cfg.group_by).is_file():  # found from other working folders, too
        cfg = replace(cfg, group_by=str(Path(cfg.group_by).absolute()))
    if cfg.labels and Path(cfg.labels).is_file():
        cfg = replace(cfg, labels=str(Path(cfg.labels).absolute()))
    device = devices.resolve_device(request.device)
    devices.prepare(device)
    here().require_equal_parts(cfg.batch_size, kind.least_part)
    return Plan(name, not chosen, preset, kind(cfg), cfg, device, run)


def launch(request: TrainRequest, monitor: Monitor, progress: Progress = silent) -> dict[str, Any]:
    """Train and return the command's JSON document."""
    plan = configure(request)
    cfg, method, device = plan.cfg, plan.method, plan.device
    data = _open_data(request, plan, progress)
    found = _find_run(request, plan, data)
    if found and (held_out := recorded_holdout(found.read_json("dataset.json"))) != data.held_out:
        data = open_training_set(request.data, cfg, held_out=held_out, strict=request.strict, progress=progress)
    for note in data_notes(data):
        monitor.note(note)
    for advice in () if found else _advice(plan, data):
        monitor.note(advice)
    torch.manual_seed(cfg.seed)
    with memory_errors(device, HINT):
        method.setup(data_spec(data))
    place = found.path if found else request.out
    require_space(place, _bytes_to_come(method, found), "the checkpoints need", NO_SPACE)
    if found:
        run = found
        run.lock()
    else:
        run = RunDir.begin(request.out, plan.name, data.folder.root.name)
    try:
        _describe(run, plan, data, continued=found is not None)
        where = (request.data.absolute(), data.store.fingerprint, str(device), run.path)
        more = (data.held_out, request.strict, request.max_seconds)
        beside = here().joined(_train_beside, plan.name, cfg, *where, *more)
        with beside, memory_errors(device, HINT):
            result = train(
                method,
                here().everywhere(lambda: Batches.of(data, cfg, device)),
                run,
                device=device,
                monitor=monitor,
                max_seconds=request.max_seconds,
                class_names=data.class_names,
            )
    finally:
        with contextlib.suppress(OSError, BalanceGANError):  # a failed plot must not hide the real error
            plot_losses(run.read_metrics(), run.path / "losses.png")
        run.unlock()
    return {
        "schema_version": 1,
        "run": str(run.path),
        "method": plan.name,
        "device": str(device),
        "steps": result.steps,
        "images_seen": result.images_seen,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "resumed_from": result.resumed_from,
        "finished": result.finished,
        "collapsed": list(result.collapsed),
        "signum": result.signum,
    }


def _train_beside(
    name: str,
    cfg: MethodConfig,
    data: Path,
    fingerprint: str,
    device_name: str,
    run: Path,
    held_out: list[str],
    strict: bool,
    max_seconds: float | None,
) -> None:
    """Run a higher rank's part of the training that `launch` runs at rank 0."""

    def prepared() -> tuple[Method, Batches, torch.device]:
        device = devices.resolve_device(device_name)
        devices.prepare(device)
        found = open_training_set(data, cfg, held_out=held_out, strict=strict)
        if found.store.fingerprint != fingerprint:
            raise DatasetError(f"{data} holds different images on this machine", "give all machines the same data set")
        torch.manual_seed(cfg.seed)
        method = load_method(name)(cfg)
        with memory_errors(device, HINT):
            method.setup(data_spec(found))
            return method, Batches.of(found, cfg, device), device

    method, batches, device = here().everywhere(prepared)
    with memory_errors(device, HINT):
        train(method, batches, RunDir(run), device=device, monitor=SilentMonitor(), max_seconds=max_seconds)


def _bytes_to_come(method: Method, run: RunDir | None = None) -> int:
    """Return the most bytes that a run's checkpoints will take in addition to existing ones."""
    steps = [step_of(path) for path in run.checkpoint_dirs()] if run else []
    if steps and steps[0] >= method.schedule.total:
        return 0  # it is finished
    there = len(steps)
    return max(1, method.cfg.keep_checkpoints + BESIDE - there) * checkpoint_bytes(method)


def run_bytes(plan: Plan, data: TrainingSet) -> int:
    """Return the most bytes that the checkpoints of a planned run will take."""
    method = type(plan.method)(plan.cfg)
    method.setup(data_spec(data))
    return _bytes_to_come(method)


def dry_run(request: TrainRequest, progress: Progress = silent) -> dict[str, Any]:
    """Return the resolved configuration, parameter counts, memory and time on this machine; trains nothing."""
    plan = configure(request)
    data = _open_data(request, plan, progress)
    cost = _cost(plan, data)
    return {
        "schema_version": 1,
        "method": plan.name,
        "preset": plan.preset,
        "device": str(plan.device),
        "config": {**vars(plan.cfg), "channels": data.store.images.shape[1], "amp": plan.device.type == "cuda"},
        "classes": data.split_counts(),
        "trained_on": dict(zip(data.class_names, data.class_counts, strict=True)),
        **cost,
        "notes": _resolution_notes(plan, data, cost),
    }


def _open_data(request: TrainRequest, plan: Plan, progress: Progress) -> TrainingSet:
    """Open the training set; refuses to put runs into it."""
    data = open_training_set(request.data, plan.cfg, strict=request.strict, progress=progress)
    refuse_source(plan.run.path if plan.run else request.out, data.folder.folders())
    return data


def _cost(plan: Plan, data: TrainingSet) -> dict[str, Any]:
    """Run `estimate` on a fresh method, since measuring may change it. Nothing is compiled, which takes minutes."""
    changes: dict[str, Any] = {"compile": False} if hasattr(plan.cfg, "compile") else {}
    with memory_errors(plan.device, HINT):
        method = type(plan.method)(replace(plan.cfg, **changes))
        method.setup(data_spec(data))
        return estimate(method, plan.device, len(data.train_rows))


def data_spec(data: TrainingSet) -> DataSpec:
    """Return what the networks need to know about a training set."""
    _, channels, size, _ = data.store.images.shape
    return DataSpec(len(data.class_names), channels, size, data.class_counts, tuple(data.class_names))


def _advice(plan: Plan, data: TrainingSet) -> Iterator[str]:
    """Yield what would suit the device better than the plan, and what resolution the images lose."""
    size, on_cpu = plan.cfg.image_size, plan.device.type == "cpu"
    if not on_cpu and plan.by_default and size in load_method(RECOMMENDED_ON_GPU).image_sizes:
        yield f"on a GPU, --method {RECOMMENDED_ON_GPU} is recommended: {WHY_RECOMMENDED}"
    slow = on_cpu and plan.preset != "tiny"
    if not slow and not loses(data.median_side, size):
        return
    try:
        cost = _cost(plan, data)
    except OutOfMemoryError:  # training works on fewer images at once
        return
    hours = cost["seconds_estimated"] / 3600
    if slow and hours > 0.5:
        yield f"this may take {hours:.0f} hours on this CPU; consider --preset tiny --image-size 32"
    yield from _resolution_notes(plan, data, cost)


def _resolution_notes(plan: Plan, data: TrainingSet, cost: dict[str, Any]) -> list[str]:
    """Return what resolution the images lose and which size the device could carry, if they lose any."""
    cfg, hours = plan.cfg, cost["seconds_estimated"] / 3600 if plan.device.type == "cpu" else None
    training = Training(cfg.image_size, plan.method.image_sizes, cfg.batch_size, cost["memory_gib"], hours)
    note = resolution_note("the generator", data.median_side, training, str(plan.device))
    return [note.replace("`", "")] if note else []


def _find_run(request: TrainRequest, plan: Plan, data: TrainingSet) -> RunDir | None:
    """Return the run to continue, or None."""
    if plan.run:
        if difference := _difference(plan.run, plan, data):
            raise CheckpointError(f"{plan.run.name} cannot be continued: {difference}", "start a new run")
        return plan.run
    if request.resume == "auto":
        for run in list_runs(request.out):
            if (run.path / "dataset.json").is_file() and _difference(run, plan, data) is None:
                return run
    return None


def _difference(run: RunDir, plan: Plan, data: TrainingSet) -> str | None:
    """Return why `run` does not match this configuration and data, or None if it does."""
    try:
        recorded = run.read_yaml()
        _, theirs = read_config(run)
        dataset = run.read_json("dataset.json")
    except CheckpointError as error:
        return error.message
    if recorded.get("method") != plan.name:
        return f"it trains {recorded.get('method')}, not {plan.name}"
    for key, value in plan.cfg.identity().items():
        if getattr(theirs, key) != value:
            return f"it has {key} = {getattr(theirs, key)!r}, not {value!r}"
    if dataset.get("fingerprint") != data.store.fingerprint:
        return "its data set is different or has changed"
    return None


def _describe(run: RunDir, plan: Plan, data: TrainingSet, continued: bool) -> None:
    """Describe the run before it starts: config.yaml, dataset.json, env.json, samples/real.png.

    A continued run keeps its first env.json (log.txt has later ones), records where its data is now, and adopts the
    new `steps` unless it has already made more.
    """
    environment = devices.describe(plan.device)
    with disk_errors(f"write to {run.path}"):
        write_json(run.path / "dataset.json", data.describe(plan.cfg), durable=True)
        if not continued:
            write_json(run.path / "env.json", environment)
            save_grid(_real_rows(data, plan.cfg.seed), run.samples / "real.png", data.class_names)
        newest = next((step_of(p) for p in run.checkpoint_dirs()), 0)
        if newest <= plan.method.schedule.total:
            write_atomic(
                run.path / "config.yaml", dump_yaml(plan.cfg, method=plan.name, preset=plan.preset), durable=True
            )
    run.log(f"{'continue' if continued else 'start'} {plan.name}: {json.dumps(environment)}")


def _real_rows(data: TrainingSet, seed: int) -> list[np.ndarray]:
    """Return a few training images per class exactly as the networks see them."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in range(len(data.class_names)):
        members = data.train_rows[data.labels[data.train_rows] == label]
        chosen = rng.choice(members, min(GRID_COLUMNS, len(members)), replace=False)
        rows.append(data.store.images[np.sort(chosen)])
    return rows
