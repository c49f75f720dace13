"""How far the classes of an unconditional method's images can be trusted, in numbers and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from balancegan.data.training_set import TrainingSet
from balancegan.pixels import to_float
from balancegan.restore import Restored
from balancegan.sample import Sampler

POOR = 0.5  # of the held-out images recognised; a reader is warned below
_BATCH = 256


@torch.no_grad()
def held_out_recall(restored: Restored, data: TrainingSet) -> dict[str, float | None]:
    """The share of each class's held-out images that the method itself assigns to it; None where none are held out."""
    rows = data.unseen_rows
    found = [np.empty(0, np.int64)]
    for start in range(0, len(rows), _BATCH):
        images = torch.from_numpy(np.ascontiguousarray(data.store.images[rows[start : start + _BATCH]]))
        found.append(restored.method.classify(to_float(images.to(restored.device))).cpu().numpy())
    right = np.concatenate(found) == data.labels[rows]
    mine = {name: right[data.labels[rows] == label] for label, name in enumerate(data.class_names)}
    return {name: float(hits.mean()) if len(hits) else None for name, hits in mine.items()}


def assignment_json(restored: Restored, data: TrainingSet, sampler: Sampler) -> dict[str, Any] | None:
    """What scripts get to know about the assignment; None for a method that is asked for its classes."""
    if restored.method.conditional:
        return None
    shares = sampler.shares()
    return {
        "held_out_recall": held_out_recall(restored, data),
        "samples": sampler.looked,
        "shares": dict(zip(data.class_names, shares, strict=True)),
        "share_over_training": {
            name: share / (n / sum(data.class_counts)) if sampler.looked else None
            for name, share, n in zip(data.class_names, shares, data.class_counts, strict=True)
        },
    }


def assignment_notes(document: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """Notes and warnings of `assignment_json` for the report."""
    if document is None:
        return [], []
    recall = {name: value for name, value in document["held_out_recall"].items() if value is not None}
    notes = ["The generator knows no classes; a linear evaluator on the discriminator's features assigns them."]
    if recall:
        shown = ", ".join(f"{name} {value:.0%}" for name, value in recall.items())
        notes.append(f"Of the held-out images it recognises: {shown}.")
    if document["samples"]:
        ratios = document["share_over_training"]
        shown = ", ".join(f"{name} {share:.1%} ({ratios[name]:.2g})" for name, share in document["shares"].items())
        notes.append(
            f"Of {document['samples']:,} samples it assigned to the classes (in brackets: over the share in training): "
            f"{shown}."
        )
    warnings = [
        f"{name}: the evaluator recognises only {value:.0%} of its held-out images; what it assigns to this class may "
        "be of another."
        for name, value in recall.items()
        if value < POOR
    ]
    return notes, warnings
