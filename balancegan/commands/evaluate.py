"""`evaluate`: the quality report of a run's generator, or of any folder of synthetic images beside a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.commands.evaluate_run import EvaluateOptions, Note, evaluate_run
from balancegan.compute.device import use_device
from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.options import require_choices, require_range
from balancegan.core.progress import Progress, silent
from balancegan.runs.directory import RUNS, find_run
from balancegan.verdict.rule import parse_least


def evaluate(
    what: str | Path | None,
    fake: Path | None,
    options: EvaluateOptions,
    *,
    runs: Path = RUNS,
    device: str = "auto",
    progress: Progress = silent,
    note: Note | None = None,
) -> Json:
    """Report on a run, or on the synthetic images in `fake` beside the real ones in `what`.

    Without `fake`, `what` is a run's path, name or number, or None for the newest in `runs`. Returns the command's
    JSON document. Raises as `evaluate_run` and `evaluate_folders` do.
    """
    require_choices(options)
    for name, least, most in (("images", 1, None), ("image_size", 8, 512), ("seeds", 1, 100)):
        require_range(name, getattr(options, name), least, most)
    options = replace(options, fail_under=parse_least(options.fail_under, utility=options.utility))
    judging = options.judging(use_device(device))
    if fake is not None:
        return evaluate_folders(Path(what or ""), fake, options, judging, progress=progress)
    if what and Path(what).is_dir() and not (Path(what) / "config.yaml").is_file():
        raise UsageError(f"{what} is no run", "to evaluate images, give two folders: evaluate REAL FAKE")
    return evaluate_run(find_run(what, runs), options, judging, progress=progress, note=note)
