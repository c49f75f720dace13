"""Measures how reliably classes are assigned to an unconditional method's images, in numbers and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from balancegan.compute.memory import Fitting
from balancegan.compute.pixels import to_float
from balancegan.core.config import class_weights
from balancegan.core.documents import Json
from balancegan.core.progress import Progress, silent
from balancegan.data.training_set import TrainingSet
from balancegan.runs.restore import Restored
from balancegan.sampling.accepted import Tally
from balancegan.sampling.samplers import CHUNK, RejectionSampler, Sampler

SAMPLES = 5120  # for the class shares: a share of 0.3% is estimated to within about a quarter
POOR = 0.5  # recall or precision below which the report warns
_BATCH = 256


def class_shares(sampler: RejectionSampler, samples: int = SAMPLES, progress: Progress = silent) -> list[float]:
    """For each class, the share of the first samples for which it is the most likely class.

    For methods that assign classes. Every sample counts, even if no class is likely enough for the sample to be
    accepted.
    """
    counts = np.zeros(sampler.method.data.num_classes)
    for start in range(0, samples, CHUNK):
        labels = sampler.likeliest(start // CHUNK)[: samples - start]
        counts += np.bincount(labels, minlength=len(counts))
        progress("assign classes", start + len(labels), samples)
    return (counts / samples).tolist()


def over_training(shares: Sequence[float], counts: Sequence[int]) -> Json:
    """Damage GAN's Table 4: each class's share divided by its training share, their mean, and the mean |ratio - 1|.

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


@dataclass(frozen=True)
class Confusion:
    """Counts (K, K) of held-out images by true class (rows) and by the class that the method assigns (columns)."""

    likeliest: np.ndarray
    taken: np.ndarray  # only the images likely enough to be accepted

    @property
    def held(self) -> np.ndarray:
        """Held-out images per class (K,)."""
        return self.likeliest.sum(1)

    def recall(self) -> list[float | None]:
        """Share of each class's images for which that class is the most likely; None if none are held out."""
        return [float(row[k] / row.sum()) if row.sum() else None for k, row in enumerate(self.likeliest)]

    def precision(self, mix: Sequence[float]) -> list[float | None]:
        """Estimated precision of each class's assignment if classes were generated with frequencies `mix`.

        Held-out images stand in for generated ones. None for classes without any, and where none would be accepted.
        """
        came = self._mixed(mix)[:, None] * self.taken / np.maximum(self.held, 1)[:, None]
        sums = came.sum(0)
        known = (self.held > 0) & (sums > 0)
        return [float(came[k, k] / sums[k]) if known[k] else None for k in range(len(sums))]

    def shares(self, mix: Sequence[float]) -> list[float]:
        """Share of samples for which each class would be the most likely, given class frequencies `mix`."""
        return (self._mixed(mix) @ (self.likeliest / np.maximum(self.held, 1)[:, None])).tolist()

    def _mixed(self, mix: Sequence[float]) -> np.ndarray:
        """Frequencies (K,), normalised over the classes that have held-out images."""
        known = np.where(self.held > 0, np.array(mix, np.float64), 0.0)
        return known / max(known.sum(), 1e-300)


@torch.no_grad()
def confusion(restored: Restored, data: TrainingSet) -> Confusion:
    """Classify the images that the method never saw."""
    rows, classes = data.unseen_rows, len(data.class_names)
    likeliest, taken = np.zeros((classes, classes), np.int64), np.zeros((classes, classes), np.int64)

    def assigned(some: slice) -> torch.Tensor:
        images = torch.from_numpy(np.ascontiguousarray(data.store.images[rows[some]]))
        return torch.stack(restored.method.assign(to_float(images.to(restored.device))), dim=1)  # (B, 2)

    if len(rows):
        found = Fitting(_BATCH, restored.device).rows(assigned, len(rows)).cpu().numpy()
        label, sure = found[:, 0], found[:, 1].astype(bool)
        np.add.at(likeliest, (data.labels[rows], label), 1)
        np.add.at(taken, (data.labels[rows][sure], label[sure]), 1)
    return Confusion(likeliest, taken)


def drawn_mix(restored: Restored, data: TrainingSet) -> list[float]:
    """How often training drew each class, and so how often a perfect generator would make it; not normalised."""
    return class_weights(data.class_counts, restored.method.cfg.sampling)


def assignment_json(
    restored: Restored, data: TrainingSet, confused: Confusion, tallies: Mapping[str, Mapping[str, Tally]]
) -> Json:
    """Class assignment as JSON for scripts, for a method that assigns classes to its samples.

    `tallies` holds the counts of each requested class, by sampler.
    """
    acceptance = {
        name: {how: {"samples": t.samples, "assigned": t.assigned, "accepted": t.accepted} for how, t in of.items()}
        for name, of in tallies.items()
    }
    return {
        "held_out_recall": dict(zip(data.class_names, confused.recall(), strict=True)),
        "expected_precision": dict(zip(data.class_names, confused.precision(drawn_mix(restored, data)), strict=True)),
        "acceptance": acceptance,
    }


def describe_assignment(
    restored: Restored,
    data: TrainingSet,
    samplers: Sequence[Sampler] = (),
    tallies: Mapping[str, Mapping[str, Tally]] | None = None,
    *,
    shares: bool = True,
    progress: Progress = silent,
) -> Json | None:
    """How classes are assigned: `assignment_json` with `distribution`, or None for a class-conditional method.

    Without `shares` the distribution is None, because it takes thousands of samples.
    """
    if "rejection" not in restored.method.samplers:
        return None
    confused = confusion(restored, data)
    distribution = distribution_json(restored, data, confused, samplers, progress) if shares else None
    return {**assignment_json(restored, data, confused, tallies or {}), "distribution": distribution}


def distribution_json(
    restored: Restored,
    data: TrainingSet,
    confused: Confusion,
    samplers: Sequence[Sampler] = (),
    progress: Progress = silent,
) -> Json:
    """Damage GAN's Table 4 row for a method, and the same for a perfect generator's images.

    A perfect generator makes each class as often as training drew it, with the variety of its held-out images. Classes
    without held-out images are left out. If even a perfect generator's ratio is far from 1, the cause is the sampling
    or the evaluator. Samples that one of the `samplers` has already classified are not generated again.
    """
    known_ones = (s for s in samplers if isinstance(s, RejectionSampler) and s.name == RejectionSampler.name)
    used = next(known_ones, None) or RejectionSampler(restored.method, restored.device)
    shares = class_shares(used, progress=progress)
    known = [n if held else 0 for n, held in zip(data.class_counts, confused.held, strict=True)]
    return {
        "samples": SAMPLES,
        "sampling": restored.method.cfg.sampling,
        "classes": list(data.class_names),
        "train_counts": list(data.class_counts),
        "shares": shares,
        "synthetic": over_training(shares, data.class_counts),
        "perfect": over_training(confused.shares(drawn_mix(restored, data)), known),
    }


def assignment_notes(document: Json | None) -> tuple[list[str], list[str]]:
    """The report's notes and warnings about `assignment_json`."""
    if document is None:
        return [], []
    recall, precision = document["held_out_recall"], document["expected_precision"]
    notes = ["The generator is unconditional; a linear evaluator on the discriminator's features assigns the classes."]
    if known := {name: value for name, value in recall.items() if value is not None}:
        notes.append(f"Held-out images that it recognises: {_listed(known)}.")
    if blind := ", ".join(name for name, value in recall.items() if value is None):
        notes.append(f"It is not known whether it recognises {blind}: no images are held out.")
    if expected := {name: value for name, value in precision.items() if value is not None}:
        notes.append(
            "Estimated precision of class assignment, if the generator makes classes as often as training drew them: "
            f"{_listed(expected)}."
        )
    notes += [_acceptance(name, of) for name, of in document["acceptance"].items() if of]
    asked = [name for name, of in document["acceptance"].items() if of]
    warnings = []
    for name in asked:
        if recall[name] is not None and recall[name] < POOR:
            warnings.append(f"{name}: the evaluator recognises only {recall[name]:.0%} of its held-out images.")
        if precision[name] is not None and precision[name] < POOR:
            warnings.append(
                f"{name}: perhaps only {precision[name]:.0%} of the images assigned to this class show it, judging by "
                "how often the evaluator mistakes held-out images of other classes for it. Check them before use."
            )
        of = document["acceptance"][name]
        if not any(t["assigned"] for t in of.values()):
            seen = sum(t["samples"] for t in of.values())
            warnings.append(
                f"{name}: none of {seen:,} samples were assigned to this class; the generator never makes it."
            )
    return notes, warnings


_HOW = {"rejection": "", "langevin": " after Langevin steps towards it"}


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in values.items())


def _acceptance(name: str, of: Json) -> str:
    """One class's acceptance rates in words."""
    parts = [f"{t['assigned']:,} of {t['samples']:,} samples{_HOW[how]} were assigned to it" for how, t in of.items()]
    taken = sum(t["accepted"] for t in of.values())
    return f"{name}: {'; '.join(parts)}; {taken:,} were accepted."
