"""`sample`: a labelled grid or single images from a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from balancegan.compute.device import use_device
from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors, refuse_source, write_atomic
from balancegan.core.grid import png_bytes, save_grid, to_pil
from balancegan.core.options import Sampler, SamplingOptions
from balancegan.core.progress import Progress, silent
from balancegan.core.text import printable
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import reopen_training_set
from balancegan.folder.destination import is_free
from balancegan.runs.directory import AUTO, RUNS, RunDir, find_run
from balancegan.runs.restore import Restored, restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers

Drawn = dict[str, tuple[list[int], np.ndarray]]
"""Class -> the seeds and images uint8 (m, C, S, S)."""


def look(
    run: RunDir | str | Path | None,
    classes: Sequence[str],
    seeds: Sequence[int] | None,
    n: int,
    out: Path | None,
    *,
    runs: Path = RUNS,
    device: torch.device | str = "auto",
    note: Callable[[str], None],
    sampler: Sampler = "auto",
    checkpoint: str = AUTO,
    sampling: SamplingOptions | None = None,
    data: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Sample the given classes (all if empty) and write pictures; returns the command's JSON document.

    Takes the first `n` images of each class, or those of the given `seeds`. For unconditional methods, `sampler` finds
    the images that belong to the class: `auto` uses rejection sampling and, for the first `n`, Langevin sampling of
    classes that are rarely generated.

    `out` ending in .png is a new grid with one row per class, any other `out` a new folder with one PNG per image; by
    default a grid in the run's samples/. The images are those that `augment` makes from the same seeds and `sampling`
    options; real images to start from are read from `data`, by default where the run was trained.
    """
    restored = _restored(find_run(run, runs), use_device(device), checkpoint, note)
    restored.require_classes(classes)
    if out is None:
        out = restored.run.samples / f"look-{restored.checkpoint.step:06d}.png"
    else:
        refuse_source(out, [restored.source])
        if out.suffix.lower() in (".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"):
            raise UsageError(f"a grid is written as .png, not {out.suffix}", "choose a name that ends in .png")
        if out.is_file() if out.suffix.lower() == ".png" else not is_free(out):
            raise UsageError(f"{out} already exists", "choose a new file or folder with --out")
    found = _draw(restored, classes, seeds, n, sampler, note, sampling, data, progress)
    chosen, rows = list(found), [images for _, images in found.values()]
    with disk_errors(f"write {out}"):
        if out.suffix.lower() == ".png":
            out.parent.mkdir(parents=True, exist_ok=True)
            save_grid(rows, out, chosen)
        else:
            for name, (of_class, images) in found.items():
                (out / name).mkdir(parents=True, exist_ok=True)
                for seed, image in zip(of_class, images, strict=True):
                    write_atomic(out / name / f"{seed}.png", png_bytes(to_pil(image)))
    return {
        "schema_version": 1,
        "run": str(restored.run.path),
        "step": restored.checkpoint.step,
        "classes": chosen,
        "seeds": list(seeds or range(n)),
        "found": {name: of_class for name, (of_class, _) in found.items()},
        "images": sum(map(len, rows)),
        "out": str(out.absolute()),
    }


def draw(
    run: RunDir,
    classes: Sequence[str],
    seeds: Sequence[int] | None,
    n: int,
    *,
    device: torch.device | str = "auto",
    note: Callable[[str], None],
    sampler: Sampler = "auto",
    checkpoint: str = AUTO,
    sampling: SamplingOptions | None = None,
    data: Path | None = None,
) -> Drawn:
    """Sample like `look`, but write nothing; returns the seeds and images of every class."""
    restored = _restored(run, use_device(device), checkpoint, note)
    restored.require_classes(classes)
    return _draw(restored, classes, seeds, n, sampler, note, sampling, data)


def _tick(progress: Progress, name: str, n: int, made: int) -> None:
    progress(f"generate {printable(name)}", made, n)


def _restored(run: RunDir, device: torch.device, checkpoint: str, note: Callable[[str], None]) -> Restored:
    """Restore the run's generator at a checkpoint that can be sampled."""
    restored = restore(run, device, warn=note, checkpoint=checkpoint)
    if checkpoint == AUTO and restored.trained and not restored.method.ready:
        note(f"classes cannot be assigned at step {restored.checkpoint.step} without the data; using the last step")
        restored = restore(run, device, warn=note)
    if not restored.trained:
        stage = restored.method.schedule.last.name
        note(f"{run.name} has not made a {stage} step yet: these images come from pre-training")
    return restored


def _draw(
    restored: Restored,
    classes: Sequence[str],
    seeds: Sequence[int] | None,
    n: int,
    sampler: Sampler,
    note: Callable[[str], None],
    sampling: SamplingOptions | None,
    data: Path | None,
    progress: Progress = silent,
) -> Drawn:
    """Return the seeds and images of every class that was asked for."""
    method, sources = restored.method, None
    method.sample_with(sampling or SamplingOptions())
    if method.uses_sources:
        recorded = restored.run.read_json("dataset.json")
        sources = SourceImages.of(reopen_training_set(recorded, method.cfg, data=data, progress=progress))
    elif data is not None:
        raise UsageError("--data names real images to start from", "add --from own or other, where a method has it")
    samplers = make_samplers(method, restored.device, sampler, sources)
    found: Drawn = {}
    for label, name in enumerate(restored.class_names):
        if not classes or name in classes:
            if seeds is None:
                found[name] = first_images(samplers, label, n, partial(_tick, progress, name, n))
            else:
                found[name] = samplers[0].of_seeds(label, seeds)
    for name, (_, images) in found.items():
        if len(images) < (n if seeds is None else len(seeds)):
            note(f"{name}: only {len(images)} images; the method generates few or none of this class")
    return found
