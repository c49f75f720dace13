"""Restore a trained method from its run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from balancegan.compute.memory import memory_errors
from balancegan.core.config import LARGEST, MethodConfig, resolve
from balancegan.core.errors import CheckpointError, UsageError
from balancegan.core.locks import is_held
from balancegan.core.options import NONE
from balancegan.data.batches import Batches
from balancegan.data.training_set import TrainingSet
from balancegan.methods import load_method
from balancegan.methods.base import DataSpec, Method
from balancegan.runs.checkpoint import Checkpoint, step_of
from balancegan.runs.directory import NEWEST, RunDir


@dataclass(frozen=True)
class Restored:
    """A method with the weights of a checkpoint, ready to sample."""

    run: RunDir
    method: Method
    checkpoint: Checkpoint
    class_names: tuple[str, ...]
    device: torch.device
    source: Path  # where the data was when the run was trained
    last_step: int  # of the newest checkpoint, which may not be this one

    def require_classes(self, names: Iterable[str]) -> None:
        """Raise `UsageError` for a class that the run does not have."""
        for name in names:
            if name not in self.class_names:
                raise UsageError(f"this run has no class {name!r}", f"its classes: {', '.join(self.class_names)}")

    def require_trained(self) -> None:
        """Raise `CheckpointError` unless the last stage has made a step."""
        if not self.trained:
            stage = self.method.schedule.last.name
            raise CheckpointError(
                f"{self.run.name} stopped before its first {stage} step", "continue its training first"
            )

    @property
    def finished(self) -> bool:
        """Whether all configured steps were made."""
        return self.last_step >= self.method.schedule.total

    @property
    def warnings(self) -> list[str]:
        """Warnings about the training that a report must show."""
        found = [] if self.finished else [f"The training was not finished: {self.progress}."]
        if self.checkpoint.step < self.last_step:
            here = f"The images are from step {self.checkpoint.step}"
            found.append(f"{here}; the training continued to step {self.last_step}.")
        return found

    def make_ready(self, data: TrainingSet) -> None:
        """Do what only the end of a training does, on its data, if the checkpoint is from the middle of one."""
        end = self.method.schedule.last.end
        if self.trained and not self.method.ready and end:
            with memory_errors(self.device):
                end(Batches.of(data, self.method.cfg, self.device))

    @property
    def progress(self) -> str:
        """The run's name and how far it got, in a few words."""
        schedule = self.method.schedule
        made = max(0, self.checkpoint.step - schedule.before_last)
        return f"{self.run.name}, {made:,} of {schedule.last.steps:,} steps"

    @property
    def trained(self) -> bool:
        """Whether the last stage has made a step; before that, the generator is not meant to sample."""
        return self.checkpoint.step > self.method.schedule.before_last


def recorded_settings(run: RunDir) -> dict[str, Any]:
    """Return a run's config.yaml, with settings added that earlier versions did not record."""
    recorded = run.read_yaml()
    if "seed" in recorded:  # it used to determine the held-out part too
        recorded.setdefault("holdout_seed", recorded["seed"])
    recorded.setdefault("group_by", NONE)
    return recorded


def read_config(run: RunDir) -> tuple[type[Method], MethodConfig]:
    """Return the method and configuration that a run's config.yaml records."""
    recorded = recorded_settings(run)
    try:
        method = load_method(str(recorded.pop("method")))
        recorded.pop("preset", None)
        known = {f.name for f in dataclasses.fields(method.Config)}
        if unknown := set(recorded) - known:
            raise CheckpointError(
                f"{run.name} was configured by another version (unknown: {', '.join(sorted(unknown))})",
                "use the version named in its env.json",
            )
        return method, resolve(method.Config, {}, file=recorded, env={})
    except (KeyError, TypeError, UsageError) as error:
        raise CheckpointError(f"the config.yaml of {run.name} cannot be used: {error}") from None


def restore(
    run: RunDir, device: torch.device, warn: Callable[[str], None] | None = None, *, checkpoint: str = NEWEST
) -> Restored:
    """Rebuild the method of a run and load an intact checkpoint: `newest`, `auto` or a step; see `load_checkpoint`."""
    kind, cfg = read_config(run)
    dataset = run.read_json("dataset.json")
    try:
        counts = dataset["train_counts"]
        names = tuple(dataset["trained_classes"])
        source = Path(dataset["data"])
        spec = DataSpec(len(names), dataset["channels"], dataset["image_size"], tuple(counts[n] for n in names), names)
        if not _plausible(spec, names, cfg):
            raise TypeError
    except (KeyError, TypeError):
        raise CheckpointError(f"the dataset.json of {run.name} is damaged", "choose another run") from None
    if warn and is_held(run.path / ".lock"):
        warn(f"{run.name} is still being trained: this is its state until now")
    found = run.load_checkpoint(warn=warn, choice=checkpoint)
    if found is None:
        raise CheckpointError(f"{run.name} has no checkpoint yet", "train it first, or choose another run")
    method = kind(cfg)
    with memory_errors(device):
        method.setup(spec)
        load_weights(method, found)
        last = max([found.step, *(step_of(path) for path in run.checkpoint_dirs()[:1])])
        return Restored(run, method.to(device).eval(), found, names, device, source, last)


def _plausible(spec: DataSpec, names: tuple[str, ...], cfg: MethodConfig) -> bool:
    """Whether a dataset.json describes data that this configuration could have been trained on."""
    return (
        all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names) >= 2
        and type(spec.channels) is int
        and spec.channels in ((cfg.channels,) if cfg.channels else (1, 3))
        and type(spec.image_size) is int
        and spec.image_size == cfg.image_size
        and all(type(n) is int and 0 < n < LARGEST for n in spec.class_counts)
    )


def load_weights(method: Method, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into a method that was set up for the same configuration and data."""
    try:
        method.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.path.name} does not fit this configuration", str(error).splitlines()[-1].strip()
        ) from None
