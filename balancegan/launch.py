"""`train`: from a folder and options to a run directory, new or continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan import device as devices
from balancegan.batches import Batches
from balancegan.config import MethodConfig, dump_yaml, load_yaml, resolve
from balancegan.data.training_set import TrainingSet, open_training_set
from balancegan.errors import CheckpointError, UsageError
from balancegan.estimate import estimate
from balancegan.files import disk_errors, write_atomic, write_json
from balancegan.grid import save_grid
from balancegan.methods import load_method
from balancegan.methods.base import PRESETS, DataSpec, Method
from balancegan.progress import Progress, silent
from balancegan.restore import read_config
from balancegan.rundir import RunDir, find_run, list_runs
from balancegan.sample import GRID_COLUMNS
from balancegan.train import Monitor, train


@dataclass(frozen=True)
class TrainRequest:
    """One `train` command. `flags` are configuration fields; those that are None were not given."""

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


def configure(request: TrainRequest) -> tuple[str, str, type[Method], MethodConfig]:
    """Method name, preset name, method class and the resolved configuration of a request."""
    file = load_yaml(request.config_file) if request.config_file else {}
    name = request.method or file.pop("method", None) or "sgbgan"
    preset = request.preset or file.pop("preset", None) or "default"
    file = {k: v for k, v in file.items() if k not in ("method", "preset")}
    method = load_method(str(name))
    if preset not in PRESETS or preset not in method.presets:
        raise UsageError(f"there is no preset {preset!r}", f"choose one of {', '.join(method.presets)}")
    return str(name), preset, method, resolve(method.Config, method.presets[preset], file=file, flags=request.flags)


def launch(request: TrainRequest, monitor: Monitor, progress: Progress = silent) -> dict[str, Any]:
    """Train, and return the command's JSON document."""
    name, preset, kind, cfg = configure(request)
    device = devices.resolve_device(request.device)
    devices.prepare(device)
    data = open_training_set(request.data, cfg, strict=request.strict, progress=progress)
    for note in _data_notes(data):
        monitor.note(note)
    run, continued = _find_or_create(request, name, cfg, data)
    run.lock()
    try:
        checkpoint_dirs = run.checkpoint_dirs()
        total = cfg.pretrain_steps + cfg.steps
        if continued and checkpoint_dirs and int(checkpoint_dirs[0].name[5:]) >= total:
            monitor.note(f"{run.name} has made its {cfg.steps} steps already; nothing to do.")
        _describe(run, name, preset, cfg, data, device, continued)
        method = kind(cfg)
        torch.manual_seed(cfg.seed)
        method.setup(data_spec(data))
        batches = Batches(
            data.store.images, data.train_rows, data.labels[data.train_rows], cfg.sampling, device, cfg.batch_size
        )
        result = train(
            method,
            batches,
            run,
            device=device,
            monitor=monitor,
            max_seconds=request.max_seconds,
            class_names=data.class_names,
        )
    finally:
        run.unlock()
    return {
        "schema_version": 1,
        "run": str(run.path),
        "method": name,
        "device": str(device),
        "steps": result.steps,
        "images_seen": result.images_seen,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "resumed_from": result.resumed_from,
        "finished": result.finished,
    }


def dry_run(request: TrainRequest, progress: Progress = silent) -> dict[str, Any]:
    """The resolved configuration with parameter counts, memory and time on this machine; trains and writes nothing."""
    name, preset, kind, cfg = configure(request)
    device = devices.resolve_device(request.device)
    devices.prepare(device)
    data = open_training_set(request.data, cfg, strict=request.strict, progress=progress)
    method = kind(cfg)
    method.setup(data_spec(data))
    return {
        "schema_version": 1,
        "method": name,
        "preset": preset,
        "device": str(device),
        "config": dict(vars(cfg)),
        "classes": data.split_counts(),
        "trained_on": dict(zip(data.class_names, data.class_counts, strict=True)),
        **estimate(method, device, len(data.train_rows)),
    }


def data_spec(data: TrainingSet) -> DataSpec:
    """What the networks must know of a training set."""
    _, channels, size, _ = data.store.images.shape
    return DataSpec(len(data.class_names), channels, size, data.class_counts)


def _data_notes(data: TrainingSet) -> list[str]:
    notes = list(data.store.notes)
    if bad := data.store.bad_files:
        notes.append(f"{len(bad)} files cannot be read and are left out (first: {bad[0].path}: {bad[0].reason}).")
    if len(data.holdout_rows):
        notes.append(
            f"{len(data.holdout_rows)} of {len(data.holdout_rows) + len(data.train_rows)} images are held out "
            "for the quality report; no network sees them."
        )
    return notes


def _find_or_create(request: TrainRequest, name: str, cfg: MethodConfig, data: TrainingSet) -> tuple[RunDir, bool]:
    """The run to continue (true) or a new one (false)."""
    if request.resume not in ("auto", "never"):
        run = find_run(request.resume, request.out)
        if difference := _difference(run, name, cfg, data):
            raise CheckpointError(f"{run.name} cannot be continued: {difference}", "start a run of its own")
        return run, True
    if request.resume == "auto":
        for run in list_runs(request.out):
            if (run.path / "dataset.json").is_file() and _difference(run, name, cfg, data) is None:
                return run, True
    return RunDir.create(request.out, name, data.folder.root.name), False


def _difference(run: RunDir, name: str, cfg: MethodConfig, data: TrainingSet) -> str | None:
    """Why `run` is not the run of this configuration and data, or None when it is."""
    try:
        recorded = run.read_yaml()
        _, theirs = read_config(run)
        dataset = run.read_json("dataset.json")
    except CheckpointError as error:
        return error.message
    if recorded.get("method") != name:
        return f"it trains {recorded.get('method')}, not {name}"
    if dataset.get("fingerprint") != data.store.fingerprint:
        return "its data set is another one, or has changed"
    for key, value in cfg.identity().items():
        if getattr(theirs, key) != value:
            return f"it has {key} = {getattr(theirs, key)!r}, not {value!r}"
    return None


def _describe(
    run: RunDir, name: str, preset: str, cfg: MethodConfig, data: TrainingSet, device: torch.device, continued: bool
) -> None:
    """Write what the run is before it starts: config.yaml, dataset.json, env.json, samples/real.png."""
    with disk_errors(f"write to {run.path}"):
        write_json(run.path / "env.json", devices.describe(device))
        if not continued:
            write_json(run.path / "dataset.json", data.describe(cfg))
            save_grid(_real_rows(data, cfg.seed), run.samples / "real.png", data.class_names)
        write_atomic(run.path / "config.yaml", dump_yaml(cfg, method=name, preset=preset))
    run.log(f"{'continue' if continued else 'start'} {name} on {device}: {json.dumps(cfg.identity())}")


def _real_rows(data: TrainingSet, seed: int) -> list[np.ndarray]:
    """A few training images per class exactly as the networks see them."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in range(len(data.class_names)):
        members = data.train_rows[data.labels[data.train_rows] == label]
        chosen = rng.choice(members, min(GRID_COLUMNS, len(members)), replace=False)
        rows.append(data.store.images[np.sort(chosen)])
    return rows
