"""`demo`: inspect, train, augment and report on the built-in digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.train import TrainRequest, launch
from balancegan.compute.device import resolve_device
from balancegan.core.progress import Progress
from balancegan.data.digits import SIZE, write_digits
from balancegan.data.scan import scan
from balancegan.inspection.inspect import inspect_folder
from balancegan.runs.directory import RunDir
from balancegan.training.monitor import Monitor

STEPS = 1500


def run_demo(
    out: Path,
    device: str,
    progress: Progress,
    monitor: Monitor,
    *,
    steps: int | None = None,
    inspected: Callable[[dict[str, Any]], None] = lambda document: None,
) -> dict[str, Any]:
    """Run the three commands in `out` (digits/, runs/, balanced/); returns augment's document.

    `inspected` is called with inspect's document before the training starts.

    A second call continues where the first one stopped, or returns the finished result.
    """
    data = write_digits(out / "digits")
    found = inspect_folder(scan(data)).to_json()
    inspected({**found, "advice": [line for line in found["advice"] if not line.startswith("next:")]})
    request = TrainRequest(
        data=data,
        method="sgbgan",
        preset="tiny",
        flags={"image_size": SIZE, "steps": STEPS if steps is None else steps, "sample_every": 250},
        device=device,
        out=out / "runs",
        use_environment=False,
    )
    trained = launch(request, monitor, progress)
    # A different number of steps continues the run, but its result gets its own folder.
    balanced = out / ("balanced" if steps in (None, STEPS) else f"balanced-{steps}-steps")
    options = AugmentOptions(out=balanced, target_ir=1.0)
    return augment(RunDir(trained["run"]), options, device=resolve_device(device), progress=progress, note=monitor.note)
