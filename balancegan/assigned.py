"""How far the classes of an unconditional method's images can be trusted, in numbers and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from balancegan.data.training_set import TrainingSet
from balancegan.pixels import to_float
from balancegan.progress import Progress, silent
from balancegan.restore import Restored
from balancegan.sample import CHUNK, Sampler, Tally

Json = dict[str, Any]

SAMPLES = 5120  # for the shares of the classes: one of 0.3% comes out to about a quarter
POOR = 0.5  # of the held-out images recognised; a reader is warned below
_BATCH = 256


def class_shares(sampler: Sampler, samples: int = SAMPLES, progress: Progress = silent) -> list[float]:
    """Of the first samples, rounded up to whole chunks, the share for which each class is the likeliest.

    For a method that assigns classes. Every sample counts, also where no class is likely enough for it to be taken.
    """
    chunks, counts = -(-samples // CHUNK), np.zeros(sampler.method.data.num_classes)
    for index in range(chunks):
        counts += np.bincount(sampler.likeliest(index), minlength=len(counts))
        progress("assign classes", index + 1, chunks)
    return (counts / counts.sum()).tolist()


def over_training(shares: Sequence[float], counts: Sequence[int]) -> Json:
    """Damage GAN's Table 4: each class's share over its share in training, their mean, and the mean |ratio - 1|.

    `counts` are the training images per class; a class without any has no ratio.
    """
    total = sum(counts)
    ratios = [share / (n / total) if n else None for share, n in zip(shares, counts, strict=True)]
    known = [ratio for ratio in ratios if ratio is not None]
    return {
        "ratios": ratios,
        "mean": float(np.mean(known)) if known else None,
        "mean_deviation": float(np.mean(np.abs(np.array(known) - 1))) if known else None,
    }


@torch.no_grad()
def confusion(restored: Restored, data: TrainingSet) -> np.ndarray:
    """Held-out images by class and by the class that the method finds likeliest: counts (K, K)."""
    rows, found = data.unseen_rows, np.zeros((len(data.class_names),) * 2, np.int64)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        images = torch.from_numpy(np.ascontiguousarray(data.store.images[batch]))
        likeliest, _ = restored.method.assign(to_float(images.to(restored.device)))
        np.add.at(found, (data.labels[batch], likeliest.cpu().numpy()), 1)
    return found


def real_shares(confused: np.ndarray, counts: Sequence[int]) -> tuple[list[float], list[int]]:
    """What the shares would be if the generator were perfect, and the counts to divide them by.

    Held-out images stand for each class, mixed as in training; classes without any are left out (count 0). Where these
    shares are far from those in training, it is the evaluator that is off, not the generator.
    """
    held = confused.sum(1)
    mix = np.where(held > 0, np.array(counts), 0)
    shares = (mix / max(1, mix.sum())) @ (confused / np.maximum(held, 1)[:, None])
    return shares.tolist(), mix.tolist()


def assignment_json(restored: Restored, data: TrainingSet, tallies: Mapping[str, Mapping[str, Tally]]) -> Json | None:
    """What scripts get to know about the assignment; None for a method that is asked for its classes.

    `tallies`: of each class that was asked for, by sampler.
    """
    if restored.method.conditional:
        return None
    confused = confusion(restored, data)
    recall = {
        name: float(row[label] / row.sum()) if row.sum() else None
        for label, (name, row) in enumerate(zip(data.class_names, confused, strict=True))
    }
    acceptance = {
        name: {how: {"samples": t.samples, "assigned": t.assigned, "accepted": t.accepted} for how, t in of.items()}
        for name, of in tallies.items()
    }
    return {"held_out_recall": recall, "acceptance": acceptance}


def distribution_json(restored: Restored, data: TrainingSet, sampler: Sampler, progress: Progress = silent) -> Json:
    """Table 4's row for a method: what it generates of each class, and what the evaluator makes of real images."""
    shares = class_shares(sampler, progress=progress)
    return {
        "samples": SAMPLES,
        "classes": list(data.class_names),
        "train_counts": list(data.class_counts),
        "shares": shares,
        "synthetic": over_training(shares, data.class_counts),
        "real": over_training(*real_shares(confusion(restored, data), data.class_counts)),
    }


def assignment_notes(document: Json | None) -> tuple[list[str], list[str]]:
    """Notes and warnings of `assignment_json` for the report."""
    if document is None:
        return [], []
    recall = {name: value for name, value in document["held_out_recall"].items() if value is not None}
    notes = ["The generator knows no classes; a linear evaluator on the discriminator's features assigns them."]
    if recall:
        shown = ", ".join(f"{name} {value:.0%}" for name, value in recall.items())
        notes.append(f"Of the held-out images it recognises: {shown}.")
    notes += [_acceptance(name, of) for name, of in document["acceptance"].items() if of]
    warnings = [
        f"{name}: the evaluator recognises only {value:.0%} of its held-out images; what it assigns to this class may "
        "be of another."
        for name, value in recall.items()
        if value < POOR
    ]
    for name, of in document["acceptance"].items():
        if of and not any(t["assigned"] for t in of.values()):
            seen = sum(t["samples"] for t in of.values())
            warnings.append(f"{name}: none of {seen:,} samples was assigned to this class; the method never makes it.")
    return notes, warnings


_HOW = {"rejection": "", "langevin": " after Langevin steps towards it"}


def _acceptance(name: str, of: Json) -> str:
    """One class's acceptance rates in words."""
    parts = [f"of {t['samples']:,} samples{_HOW[how]} {t['assigned']:,} were of the class" for how, t in of.items()]
    taken = sum(t["accepted"] for t in of.values())
    return f"{name}: {'; '.join(parts)}; {taken:,} were taken."
