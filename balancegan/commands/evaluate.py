"""`evaluate`: the quality report of a run's generator, or of any folder of synthetic images against a real one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.commands.evaluate_run import EvaluateOptions, Note, evaluate_run
from balancegan.compute.device import use_device
from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.options import Arms, Extractor, SamplingOptions, require_choices, require_range
from balancegan.core.progress import Progress, silent
from balancegan.evaluation.assembly import Judging, parse_metrics
from balancegan.metrics.extractors import choose
from balancegan.runs.directory import RUNS, find_run
from balancegan.verdict.networks import choose_network
from balancegan.verdict.rule import parse_least
from balancegan.verdict.utility import SEEDS


@dataclass(frozen=True)
class Measuring:
    """What to measure and with what, as given by users; defaults as on the command line."""

    metrics: tuple[str, ...] = ()  # only these; empty: all
    extractor: Extractor = "auto"
    weights: Path | None = None
    utility: bool = True
    seeds: int = SEEDS  # classifiers trained per arm
    classifier: str = "small"
    arms: Arms = "auto"

    def judging(self, device: torch.device) -> Judging:
        """Return the checked settings. Raises `UsageError`, `WeightsMissingError`."""
        require_choices(self)
        require_range("seeds", self.seeds, 1, 100)
        choice, metrics = choose(self.extractor, self.weights), parse_metrics(self.metrics)
        return Judging(
            choice,
            device,
            metrics=metrics,
            utility=self.utility,
            seeds=self.seeds,
            network=choose_network(self.classifier),
            arms=self.arms,
        )


def evaluate(
    what: str | Path | None,
    fake: Path | None,
    options: EvaluateOptions,
    measuring: Measuring,
    *,
    runs: Path = RUNS,
    device: str = "auto",
    progress: Progress = silent,
    note: Note | None = None,
) -> Json:
    """Report on a run, or on the synthetic images in `fake` against the real ones in `what`.

    Without `fake`, `what` is a run's path, name or number, or None for the newest in `runs`. Returns the command's
    JSON document. Raises as `evaluate_run` and `evaluate_folders` do.
    """
    require_range("images", options.images, 1)
    require_range("image_size", options.image_size, 8, 512)
    options = replace(options, fail_under=parse_least(options.fail_under, utility=measuring.utility))
    judging = measuring.judging(use_device(device))
    if fake is not None:
        if options.sampling != SamplingOptions():
            raise UsageError("--from, --strength and --guidance apply to a run, not to two folders", "leave them out")
        return evaluate_folders(Path(what or ""), fake, options, judging, progress=progress)
    if what and Path(what).is_dir() and not (Path(what) / "config.yaml").is_file():
        raise UsageError(f"{what} is not a run", "to evaluate images, give two folders: evaluate REAL FAKE")
    return evaluate_run(find_run(what, runs), options, judging, progress=progress, note=note)
