"""Measures of a trained cell: per class FID, KID and SSIM against real images that no network saw.

The share of copies of training images is measured too, since a method that repeats them can do well on all three. All
measures are computed as for a report.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from balancegan.commands.compare.request import CompareRequest
from balancegan.compute.memory import memory_errors
from balancegan.core.documents import Json
from balancegan.core.errors import CheckpointError
from balancegan.core.files import sha256
from balancegan.core.progress import Progress
from balancegan.data.training_set import TrainingSet
from balancegan.evaluation.copies import Seen, look_at, near_copies
from balancegan.evaluation.findings import MIN_REFERENCE
from balancegan.evaluation.measures import distances, floors, ssim_to_real
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.extractors import EXTRACTORS, choose
from balancegan.metrics.features import Extractor
from balancegan.metrics.memorisation import nearest, pixel_features
from balancegan.sampling import langevin
from balancegan.sampling.accepted import first_images
from balancegan.sampling.samplers import LangevinSampler, Sampler

IMAGES = 1000  # per class, as in the SGBGAN paper
REFERENCE_IMAGES = 2000  # at most, per class
ON_CPU = 250  # limit of both for a large network on a CPU, at a few images per second
SHOWN = 8  # images per class kept for the figure
MEASURES = ("fid", "kid", "ssim", "copy_rate")
FURTHER = ("kid_std", "kid_size", "near_rate", "near_rate_real")  # values of a cell besides the measures


@dataclass(frozen=True)
class Reference:
    """Real images of one class: uint8 (n, C, S, S), held out or, if fewer than ten are, from training."""

    name: str
    kind: str  # "holdout" or "train"
    rows: np.ndarray  # of the store
    images: np.ndarray
    n_holdout: int


def references(data: TrainingSet, limit: int) -> list[Reference]:
    """Return what each class is compared with: at most `limit` images, drawn with a fixed seed."""
    found = []
    of_class = zip(data.class_names, data.by_class(data.unseen_rows), data.by_class(data.train_rows), strict=True)
    for name, unseen, train in of_class:
        kind, rows = ("holdout", unseen) if len(unseen) >= MIN_REFERENCE else ("train", train)
        if len(rows) > limit:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:limit])
        found.append(Reference(name, kind, rows, data.store.images[rows], len(unseen)))
    return found


class Ruler:
    """Measures cells with one extractor against one set of real images, whose features are computed when first needed.

    `key` names everything that determines a measurement: the extractor's weights, the number of sampled images, and the
    real images that they are compared with.
    """

    def __init__(
        self, request: CompareRequest, data: TrainingSet, device: torch.device, folder: Path, progress: Progress
    ) -> None:
        """Train the own extractor if it is needed and not in `folder` yet.

        Raises `WeightsMissingError` if Inception is requested and its weights are not installed.
        """
        self._data, self._device, self._progress = data, device, progress
        self._choice = choose(request.extractor, request.weights)
        slow = self._choice.slow_on_cpu and device.type == "cpu"
        self.kind: type[Extractor] = EXTRACTORS[self._choice.name]
        self.images = request.images or (ON_CPU if slow else IMAGES)
        self.references = references(data, ON_CPU if slow else REFERENCE_IMAGES)
        split = hashlib.blake2b(data.store.fingerprint.encode() + data.train_rows.tobytes(), digest_size=8)
        self._file = folder / f"extractor-{split.hexdigest()}.safetensors"
        # The classifier is trained at once: its file is part of the key. Other networks are opened when needed.
        self._extractor: Extractor | None = None if self._choice.weights else self._open()
        self._seen: dict[bytes, Seen] = {}  # keyed by the training images' rows
        for reference in self.references:
            split.update(reference.rows.tobytes())
        self.key = {
            "extractor": self.kind.name,
            "weights": sha256(self._choice.weights or self._file),
            "images": self.images,
            "measures": [*MEASURES, *FURTHER, "distribution"],
            "langevin": [langevin.STEPS, langevin.STEP_SIZE, langevin.CLASS_WEIGHT],
            "split": split.hexdigest(),
        }

    @property
    def extractor(self) -> Extractor:
        """The network behind FID and KID. Raises `CheckpointError` for a file that holds another network."""
        if self._extractor is None:
            self._extractor = self._open()
        return self._extractor

    def _open(self) -> Extractor:
        with memory_errors(self._device):
            return self._choice.open(self._own, device=str(self._device), progress=self._progress)

    def _own(self) -> OwnExtractor:
        """Load this data set's small classifier, or train it if its file is missing or damaged."""
        with contextlib.suppress(CheckpointError):
            if self._file.is_file():
                return OwnExtractor.load(self._file, device=str(self._device))
        extractor = OwnExtractor.of(self._data, device=str(self._device), progress=self._progress)
        extractor.save(self._file)
        return extractor

    def describe(self) -> list[Json]:
        """Return one row per class: its real images, and the FID between halves of them."""
        rows = []
        for reference in self.references:
            row: Json = {"name": reference.name, "n_holdout": reference.n_holdout, "reference": reference.kind}
            row |= {"n_reference": len(reference.images), **floors(self.extractor(reference.images), {}, seed=0)}
            rows.append(row)
        return rows

    def measure(self, samplers: Sequence[Sampler], train_rows: np.ndarray) -> tuple[list[Json], np.ndarray]:
        """Return one row per class, and a few images of each for the figure: uint8 (K, SHOWN, C, S, S).

        `train_rows` are the rows of the store that the samplers' method was trained on.
        """
        train, unseen = self._data.by_class(train_rows), self._data.by_class(self._data.unseen_rows)
        rows, shown = [], []
        for label, reference in enumerate(self.references):
            seeds, fake = first_images(samplers, label, max(self.images, SHOWN))
            blank = np.full((SHOWN, *samplers[0].shape), 255, np.uint8)  # fills in for a class that was never generated
            shown.append(np.concatenate([fake, blank])[:SHOWN])
            fake = fake[: self.images]
            walked = sum(seed >= LangevinSampler.first_seed for seed in seeds[: self.images])
            row = {"class": reference.name, **self._compare(reference, fake), "n_walked": walked}
            rows.append({**row, **self._copies(train[label], unseen[label], fake)})
            self._progress("measure", label + 1, len(self.references))
        return rows, np.stack(shown)

    def _compare(self, reference: Reference, fake: np.ndarray) -> Json:
        row: Json = dict.fromkeys(("fid", "kid", "kid_std", "kid_size", "ssim"))
        row |= {"n_real": len(reference.images), "n_fake": len(fake), "reference": reference.kind}
        if not len(fake):
            return row | {"reason": "No images of this class were generated."}
        reasons: dict[str, str] = {}
        row["ssim"] = ssim_to_real(reference.images, fake, reasons, seed=0)["ssim"]
        with memory_errors(self._device):
            row |= distances(self.extractor(reference.images), self.extractor(fake), reasons)
        return row | {"reason": reasons.get("ssim", reasons.get("fid"))}

    def _copies(self, train: np.ndarray, unseen: np.ndarray, fake: np.ndarray) -> Json:
        """Return the rates of copies and near-copies of training images; `train` and `unseen` are rows of the store."""
        kept = ("copy_rate", "near_rate", "near_rate_real")
        if not len(train) or not len(fake):
            return dict.fromkeys(kept)
        key = train.tobytes()
        if key not in self._seen:
            self._seen[key] = look_at(self._data.store.images[train], self._data.store.images[unseen])
        seen = self._seen[key]
        found = near_copies(nearest(pixel_features(fake), seen.features)[0], seen)
        return {name: found[name] for name in kept}
