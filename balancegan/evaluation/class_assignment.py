"""How far the classes of an unconditional method's images can be trusted, in numbers and sentences."""

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

SAMPLES = 5120  # for the shares of the classes: one of 0.3% comes out to about a quarter
POOR = 0.5  # recognised, or rightly assigned; a reader is warned below
_BATCH = 256


def class_shares(sampler: RejectionSampler, samples: int = SAMPLES, progress: Progress = silent) -> list[float]:
    """Of the first samples the share for which each class is the likeliest.

    For a method that assigns classes. Every sample counts, also where no class is likely enough for it to be taken.
    """
    counts = np.zeros(sampler.method.data.num_classes)
    for start in range(0, samples, CHUNK):
        labels = sampler.likeliest(start // CHUNK)[: samples - start]
        counts += np.bincount(labels, minlength=len(counts))
        progress("assign classes", start + len(labels), samples)
    return (counts / samples).tolist()


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


@dataclass(frozen=True)
class Confusion:
    """Held-out images by their class (rows) and by the class that the method assigns: counts (K, K)."""

    likeliest: np.ndarray
    taken: np.ndarray  # of them, those likely enough to be taken

    @property
    def held(self) -> np.ndarray:
        """Images per class (K,)."""
        return self.likeliest.sum(1)

    def recall(self) -> list[float | None]:
        """The share of each class's images for which it is the likeliest; None where none are held out."""
        return [float(row[k] / row.sum()) if row.sum() else None for k, row in enumerate(self.likeliest)]

    def precision(self, mix: Sequence[float]) -> list[float | None]:
        """Of what would be taken for a class, the share that is of it, if classes came by `mix`.

        Held-out images stand for generated ones. None for classes without any, and where nothing would be taken.
        """
        came = self._mixed(mix)[:, None] * self.taken / np.maximum(self.held, 1)[:, None]
        sums = came.sum(0)
        known = (self.held > 0) & (sums > 0)
        return [float(came[k, k] / sums[k]) if known[k] else None for k in range(len(sums))]

    def shares(self, mix: Sequence[float]) -> list[float]:
        """The share for which each class would be the likeliest, if classes came by `mix`."""
        return (self._mixed(mix) @ (self.likeliest / np.maximum(self.held, 1)[:, None])).tolist()

    def _mixed(self, mix: Sequence[float]) -> np.ndarray:
        """Frequencies (K,) without the classes of which nothing is known."""
        known = np.where(self.held > 0, np.array(mix, np.float64), 0.0)
        return known / max(known.sum(), 1e-300)


@torch.no_grad()
def confusion(restored: Restored, data: TrainingSet) -> Confusion:
    """What the method makes of the images that it never saw."""
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
    """How often the training drew each class, which is how often a perfect generator makes it; not normalised."""
    return class_weights(data.class_counts, restored.method.cfg.sampling)


def assignment_json(
    restored: Restored, data: TrainingSet, confused: Confusion, tallies: Mapping[str, Mapping[str, Tally]]
) -> Json:
    """What scripts get to know about the assignment, for a method that is not asked for its classes.

    `tallies`: of each class that was asked for, by sampler.
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
    """How classes are assigned: `assignment_json` with `distribution`, or None for a method that is asked for them.

    Without `shares` the distribution is None: it takes thousands of samples.
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
    """Table 4's row for a method, beside what the same evaluator would make of a perfect generator's images.

    That one makes classes as often as the training drew them, each as varied as its held-out images; classes without
    any are left out. Where it is far from the share in training, it is the drawing or the evaluator that is. Samples
    that one of the `samplers` has looked at are not made again.
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
    """Notes and warnings of `assignment_json` for the report."""
    if document is None:
        return [], []
    recall, precision = document["held_out_recall"], document["expected_precision"]
    notes = ["The generator knows no classes; a linear evaluator on the discriminator's features assigns them."]
    if known := {name: value for name, value in recall.items() if value is not None}:
        notes.append(f"Of the held-out images it recognises: {_listed(known)}.")
    if blind := ", ".join(name for name, value in recall.items() if value is None):
        notes.append(f"Whether it recognises {blind} is not known: no image is held out.")
    if expected := {name: value for name, value in precision.items() if value is not None}:
        notes.append(
            f"If the classes came as the training drew them, of what it takes for a class this much would be of it: "
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
                f"{name}: of the images assigned to it perhaps {precision[name]:.0%} show it, judged by how often the "
                "evaluator takes held-out images of other classes for it. Look at them before you use them."
            )
        of = document["acceptance"][name]
        if not any(t["assigned"] for t in of.values()):
            seen = sum(t["samples"] for t in of.values())
            warnings.append(f"{name}: none of {seen:,} samples was assigned to this class; the method never makes it.")
    return notes, warnings


_HOW = {"rejection": "", "langevin": " after Langevin steps towards it"}


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in values.items())


def _acceptance(name: str, of: Json) -> str:
    """One class's acceptance rates in words."""
    parts = [f"of {t['samples']:,} samples{_HOW[how]} {t['assigned']:,} were of the class" for how, t in of.items()]
    taken = sum(t["accepted"] for t in of.values())
    return f"{name}: {'; '.join(parts)}; {taken:,} were taken."
