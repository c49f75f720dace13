"""The document behind a comparison's page, built from the results of its cells."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np

from balancegan.commands.compare.distribution import distribution_table
from balancegan.commands.compare.matrix import Cell
from balancegan.commands.compare.measure import FURTHER, MEASURES, Ruler
from balancegan.commands.compare.records import read_images, read_record, write_record
from balancegan.commands.compare.request import CompareRequest
from balancegan.commands.compare.table import findings, table
from balancegan.commands.train import Plan
from balancegan.compute import device as devices
from balancegan.core.documents import Json
from balancegan.core.version import __version__
from balancegan.data.imbalance import imbalance_rate
from balancegan.data.training_set import TrainingSet
from balancegan.evaluation.document import describe_extractor
from balancegan.report.comparison import SampleSheet

OF_CELL = ("seed", "train_ir")
SHEET_COLUMNS = 20
SHEET_CLASSES = 10


def make_document(
    request: CompareRequest,
    plans: dict[Cell, Plan],
    data: TrainingSet,
    thinned: dict[float, TrainingSet],
    ruler: Ruler,
    results: dict[Cell, Json],
) -> Json:
    """Return the document that `write_comparison` renders, where its structure is described.

    Args:
        request: the compare request.
        plans: how each cell was trained.
        data: the unthinned images.
        thinned: the images at each rate of the request.
        ruler: what the cells were measured with.
        results: results of every cell.
    """
    device = next(iter(plans.values())).device
    by_method = {cell.method: plan for cell, plan in plans.items()}
    first = next(iter(by_method.values()))
    counts = {ir: dict(zip(data.class_names, thin.class_counts, strict=True)) for ir, thin in thinned.items()}
    majority = max(counts[request.rates[0]], key=lambda name: counts[request.rates[0]][name])
    key = {**ruler.key, "data": data.store.fingerprint}
    path = request.out / "cells" / "references.json"
    described = read_record(path, key)
    if described is None:
        described = {"classes": ruler.describe()}
        write_record(path, key, described)
    cells = [row for cell, result in results.items() for row in _cell_rows(cell, result, data.class_names)]
    pair = request.pair
    document: Json = {
        "schema_version": 1,
        "balancegan_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": data.folder.root.name,
        "data": str(data.folder.root),
        "methods": list(request.methods),
        "seeds": list(request.seeds),
        "irs": [ir or None for ir in request.rates],
        "preset": first.preset,
        "steps": first.cfg.steps,
        "max_seconds": request.max_seconds,
        "image_size": first.cfg.image_size,
        "batch_size": first.cfg.batch_size,
        "images_per_class": ruler.images,
        "device": str(device),
        "hardware": devices.describe(device),
        "settings": {name: _settings(plan) for name, plan in by_method.items()},
        "extractor": describe_extractor(ruler.kind),
        "classes": [{**row, "majority": row["name"] == majority} for row in described["classes"]],
        "train_counts": [
            {"ir": ir or None, "imbalance_rate": imbalance_rate(count), "counts": count} for ir, count in counts.items()
        ],
        "baseline": pair[1] if pair else None,
        "target": pair[0] if pair else None,
        "cells": cells,
        "runs": [_run_row(cell, plans[cell], result) for cell, result in results.items()],
    }
    document["table"] = [
        {
            "ir": block["ir"],
            "imbalance_rate": block["imbalance_rate"],
            "measures": table(
                cells, ir=block["ir"], methods=request.methods, classes=data.class_names, majority=majority, pair=pair
            ),
            "distribution": distribution_table(results, request.methods, block["ir"] or 0.0),
        }
        for block in document["train_counts"]
    ]
    document["findings"] = findings(document)
    return document


def _settings(plan: Plan) -> Json:
    """Return a method's settings, except those that differ between its cells."""
    return {key: value for key, value in dataclasses.asdict(plan.cfg).items() if key not in OF_CELL}


def _cell_rows(cell: Cell, result: Json, class_names: tuple[str, ...]) -> list[Json]:
    """Return one row per class, even for a cell without a result."""
    empty = dict.fromkeys((*MEASURES, *FURTHER, "n_real", "n_fake", "n_walked", "reference"))
    rows = result["rows"] or [{"class": name, **empty, "reason": result["reason"]} for name in class_names]
    head = {"ir": cell.ir or None, "method": cell.method, "seed": cell.seed}
    return [{**head, **row, "status": result["status"]} for row in rows]


def _run_row(cell: Cell, plan: Plan, result: Json) -> Json:
    keep = ("status", "reason", "run", "steps", "seconds", "images_per_second", "parameters")
    head = {"ir": cell.ir or None, "method": cell.method, "seed": cell.seed, "pretrain_steps": plan.cfg.pretrain_steps}
    return {**head, **{name: result.get(name) for name in keep}}


def sample_sheets(
    request: CompareRequest, data: TrainingSet, ruler: Ruler, results: dict[Cell, Json]
) -> list[SampleSheet]:
    """Return one sheet per rate: real images and each method's of the first seed, one column per latent."""
    counts = data.class_counts
    labels = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    if len(labels) > SHEET_CLASSES:  # the majority and the rarest
        labels = [labels[0], *labels[1 - SHEET_CLASSES :]]
    labels.sort()
    each = max(1, min(8, SHEET_COLUMNS // len(labels)))
    real = [_repeat(ruler.references[label].images, each) for label in labels]
    sheets = []
    for ir in request.rates:
        rows = [("real", np.concatenate(real))]
        for method in request.methods:
            cell = Cell(ir, request.seeds[0], method)
            if results[cell]["status"] == "done":
                shown = read_images(request.out / "cells", cell)
                assert shown is not None  # `_Worker._read` checked
                rows.append((method, np.concatenate([shown[label, :each] for label in labels])))
        headings = [(data.class_names[label], each) for label in labels]
        sheets.append(SampleSheet(ir or None, rows, headings))
    return sheets


def _repeat(images: np.ndarray, n: int) -> np.ndarray:
    """Return the first n images, repeating them if there are fewer."""
    return images[np.arange(n) % len(images)]
