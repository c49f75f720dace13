"""What `augment` reports: its document, the quality report, and the README.md in the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balancegan.core.files import disk_errors, sha256, write_atomic
from balancegan.core.options import Extractor, Fill, Filter, Format, OutSize, Real, Sampler, SamplingOptions
from balancegan.core.progress import Progress
from balancegan.data.imbalance import imbalance_rate
from balancegan.data.training_set import TrainingSet
from balancegan.evaluation import assembly as judge
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.shortcuts import shortcut_checks
from balancegan.folder.card import Card, copies_line, dataset_card
from balancegan.folder.destination import finished_result, is_whole
from balancegan.folder.fill import Filled
from balancegan.folder.metadata import misread_labels
from balancegan.folder.real_files import RealFile
from balancegan.folder.recipe import Recipe, closing_lines, overall_share, recipe_json
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.report.write import write_report
from balancegan.runs.directory import AUTO
from balancegan.runs.restore import Restored
from balancegan.verdict.rule import gate_json


@dataclass(frozen=True)
class AugmentOptions:
    """Options of `augment`, with the command line's defaults."""

    out: Path = Path("balanced")
    target_ir: float | None = None  # None: 1
    counts: dict[str, int] = field(default_factory=dict)  # class -> total to reach, instead of `target_ir`
    classes: tuple[str, ...] = ()  # only these get synthetic images; empty: all that need them
    data: Path | None = None
    real: Real = "copy"
    fill: Fill = "auto"
    share: float | None = None  # generated part of the synthetic images; None: chosen by measurement
    filter: Filter = "auto"  # copies; or quality, where the search finds that it helps
    sampler: Sampler = "auto"
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    out_size: OutSize = "native"
    format: Format = "match"
    seed: int = 0
    report: bool = True
    weights: Path | None = None
    extractor: Extractor = "auto"
    utility: bool = True
    fail_under: str | float | None = None
    checkpoint: str = AUTO

    @property
    def chooses_checkpoint(self) -> bool:
        """Whether checkpoints are compared by their images, as shares are."""
        return self.checkpoint == AUTO and self.fill == "auto" and self.share is None


def finished_document(options: AugmentOptions, judging: Judging | None) -> dict[str, Any] | None:
    """Return the document of a finished folder, or None if its report lacks something that is asked for."""
    result = {**finished_result(options.out), "out": str(options.out.absolute())}
    page = options.out / "report.html"
    result["report"] = str(page.absolute()) if page.is_file() else None
    if not is_whole(result):
        return None
    if judging is None:
        return {**result, "gate": None}
    if not result["report"] or "utility" not in result:
        return None
    better = judging.choice.name == "own" and options.extractor == "auto"  # Inception will do too
    extractor, utility = result["extractor"], result["utility"]
    if extractor != judging.choice.name and not (better and extractor == "inception"):
        return None
    try:
        if options.utility and utility["measured"] is False and utility.get("asked") is False:
            return None
        return {**result, "gate": gate_json(utility, options.fail_under)}
    except (AttributeError, KeyError, TypeError):
        return None


def result_document(
    restored: Restored,
    options: AugmentOptions,
    filled: Filled,
    recipe: Recipe,
    notes: list[str],
    beside: Path | None,
) -> dict[str, Any]:
    """Return the command's document, without the report's part."""
    classes = filled.classes
    notes = [*notes, *(restored.method.notes() if any(c.generated for c in classes) else [])]
    if misread := misread_labels(c.name for c in classes):
        notes = [*notes, misread]
    if options.real == "none":
        notes = [*notes, "The real images were left out (--real none); counts and imbalance rates include them."]
    result = {
        "schema_version": 1,
        "run": str(restored.run.path),
        "step": restored.checkpoint.step,
        "out": str(options.out.absolute()),
        "generated_folder": None if beside is None else str(beside),
        "complete": all(c.synthetic >= c.requested for c in classes),
        "imbalance_rate_before": imbalance_rate({c.name: c.real for c in classes}),
        "imbalance_rate_after": imbalance_rate({c.name: c.real + c.synthetic for c in classes}),
        "share": overall_share(classes),
        "fill": options.fill,
        "filter": None if options.fill == "transformed" else recipe.filter,
        "recipe": list(recipe.rows),
        "classes": [
            {
                "name": c.name,
                "real": c.real,
                "synthetic": c.synthetic,
                "generated": c.generated,
                "transformed": c.transformed,
                "beside": filled.beside[c.name],  # generated images in `generated_folder`
                "rejected": c.rejected,
                "refused": c.refused,  # those of `rejected` that failed the quality filter
            }
            for c in classes
        ],
        "short": [c.name for c in classes if c.synthetic < c.requested],
        "sampling": options.sampling.to_json(),
        "notes": notes,
        "report": None,
        "extractor": None,
    }
    return result | {"in_words": closing_lines(recipe, result)}


def folder_report(
    restored: Restored,
    data: TrainingSet,
    filled: Filled,
    recipe: Recipe,
    result: dict[str, Any],
    real: list[RealFile],
    options: AugmentOptions,
    judging: Judging,
    own: Callable[[], OwnExtractor],
    progress: Progress,
) -> dict[str, Any]:
    """Measure, judge and write the report; returns its document."""
    made = {c.name for c in filled.classes if c.synthetic}
    train = set(data.split_rows.tolist())
    real_files = [options.out / f.target for f in real if f.label in made and f.row in train]
    extractor = judge.run_extractor(data, judging, progress, own)
    inp = judge.run_input(
        restored,
        data,
        filled.classes,
        result["assignment"],
        judging,
        title=f"Balanced {data.folder.root.name}",
        delivered=True,
        notes=result["notes"],
        # Where there are generated images, they are the ones that their form could tell.
        shortcuts=shortcut_checks(
            real_files,
            [options.out / name for name in filled.generated or filled.transformed],
            side=data.store.settings.image_size if filled.generated else None,
        ),
        recipe=recipe_json(recipe, filled.classes, options.fill),
        changes=recipe.changes if min(recipe.shares) < 1 else None,
        progress=progress,
    )
    document = judge.report_document(inp, extractor, judging, progress)
    write_report(document, inp, options.out, figures=restored.run.path / "figures")
    return document


def write_card(
    restored: Restored,
    data: TrainingSet,
    recipe: Recipe,
    result: dict[str, Any],
    document: dict[str, Any] | None,
    options: AugmentOptions,
    before: str | None,
    note: Callable[[str], None],
) -> str:
    """Write the balanced folder's README.md unless it was edited since its hash was `before`; returns its hash."""
    path = options.out / "README.md"
    if before and path.is_file() and sha256(path) != before:
        note("README.md was edited, so it is left unchanged")
        return before
    size = data.store.settings.image_size
    card = Card(
        source=data.folder.root.name,
        method=restored.method.title,
        paper=restored.method.paper,
        run=restored.run.name,
        number=restored.run.number,
        checkpoint_sha256=restored.checkpoint.sha256,
        counts={c["name"]: (c["real"], c["generated"], c["transformed"]) for c in result["classes"]},
        changes=str(recipe.changes),
        imbalance_rates=(result["imbalance_rate_before"], result["imbalance_rate_after"]),
        image_size=f"{size}x{size}" if options.out_size == "model" else "those of the real images of their class",
        model_size=size,
        split_dirs=tuple(data.folder.split_dirs.values()),
        untouched=int((data.store.splits != "train").sum()),
        real_included=options.real != "none",
        short=tuple(result["short"]),
        verdict=document["utility"].get("headline", "") if document else "",
        copies=copies_line(document),
        notes=result["notes"],
        report=document is not None,
    )
    with disk_errors("write README.md"):
        write_atomic(path, dataset_card(card))
    return sha256(path)
