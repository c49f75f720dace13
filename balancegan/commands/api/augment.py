"""`balancegan.augment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from balancegan.commands.api.arguments import StrPath, as_names, as_path, as_run, passed, watching
from balancegan.commands.api.results import Balanced, Run
from balancegan.core.options import Extractor, Fill, Filter, Format, OutSize, Real, Sampler, SamplingOptions, Start


def augment(
    run: Run | StrPath | None = None,
    *,
    target_ir: float | None = None,
    counts: Mapping[str, int] | None = None,
    classes: Sequence[str] | None = None,
    data: StrPath | None = None,
    out: StrPath = "balanced",
    real: Real = "copy",
    fill: Fill = "auto",
    share: float | None = None,
    filter: Filter = "auto",
    sampler: Sampler = "auto",
    from_: Start = "noise",
    strength: float | None = None,
    guidance: float | None = None,
    out_size: OutSize = "native",
    format: Format = "match",
    seed: int = 0,
    checkpoint: str | int = "auto",
    report: bool = True,
    extractor: Extractor = "auto",
    weights: StrPath | None = None,
    utility: bool = True,
    fail_under: str | float | None = None,
    device: str = "auto",
    runs: StrPath = "runs",
    progress: bool = True,
) -> Balanced:
    """Write a balanced folder, real and synthetic images together, and its quality report.

    Args:
        run: a `Run`, or its folder, name or number; by default the newest.
        target_ir: imbalance rate to reach, by default 1; or `counts`: class totals to reach instead.
        classes: only these get synthetic images.
        out: new folder for the result; `data`: where the data is now, if it has moved.
        real: how to include the real images: `copy`, `hardlink`, `symlink`, `convert` or `none`.
        fill: `generated` or `transformed` (variations of real images) alone; `auto`: generated images as far as they
            help, the rest transformed. `share`: the generated part, 0 to 1; by default measured.
        filter: `none`; `copies` drops near-copies; `quality` also what is not recognised; `auto` measures.
        sampler: for unconditional methods: `rejection`, `langevin` or `auto`.
        from_: what images start from, with `strength` and `guidance`, as in `Run.sample` (`edm`).
        out_size: `native` for the sizes of real images, or `model`; `format`: `match` for theirs, `png` or `jpeg`.
        seed: seed of all random choices; `checkpoint`: as in `Run.sample`.
        report: write a quality report with it; `utility`: train classifiers to see whether the images help (minutes).
        extractor: network behind the metrics: `auto`, `inception`, `resnet50` or `own`; `weights`: its weights file.
        fail_under: raise `QualityGateError` below this verdict (`use`, `no-difference`) or this gain in points.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; `runs`: folder of the runs; `progress`: show it on stderr.

    Returns what was written: `path`, `share`, `classes[…].generated`, `.transformed` and more. Raises `UsageError` or
    `DatasetError` if an option is invalid or the data has changed since training, and `QualityGateError` if the quality
    is below `fail_under`; the folder is written then, and `error.result` describes it.
    """
    from balancegan.commands import augment as command

    options = command.AugmentOptions(
        out=Path(out),
        target_ir=target_ir,
        counts=dict(counts or {}),
        classes=as_names(classes),
        data=as_path(data),
        real=real,
        fill=fill,
        share=share,
        filter=filter,
        sampler=sampler,
        sampling=SamplingOptions(from_, strength, guidance),
        out_size=out_size,
        format=format,
        seed=seed,
        report=report,
        weights=as_path(weights),
        extractor=extractor,
        utility=utility,
        fail_under=fail_under,
        checkpoint=str(checkpoint),
    )
    with watching(progress) as board:
        found = command.augment(as_run(run), options, runs=Path(runs), device=device, progress=board, note=board.note)
    return passed(Balanced(found))
