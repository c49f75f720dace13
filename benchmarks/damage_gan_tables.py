"""Tables 2, 4 and 5 of Damage GAN (Anaissi et al. 2023, arXiv 2312.04862): our numbers beside the published.

    python benchmarks/damage_gan_tables.py FOLDER [--sets full,partial,imbalanced] [--seeds 0] [--steps N]
        [--methods sndcgan,contrad,damage-gan] [--max-time 8m] [--weights INCEPTION.pth]
    python benchmarks/damage_gan_tables.py --print

FOLDER holds CIFAR-10 as train/<class> and test/<class>. A cell is one training with the `paper` preset at 32 px on one
of the three sets, and one measurement of 10,000 generated images (`--images`). The smaller sets are made of FOLDER by
the product's own `imbalance`, once, in `--work`, where the trainings and the real images' features are kept too. After
`--max-time` no cell begins, and a training that is running is saved and stopped: the same command goes on with it, and
a cell that was measured is only read. Finished cells accumulate in benchmarks/results (`--results`), also those with
another number of `--steps`, which have tables of their own; `--merge DIR` takes over the results that another machine
wrote with `--results DIR`.

`--quick` runs the same code with narrow networks, 30 steps and few images, to show that it works. Its numbers mean
nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import math
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import paper_tables
import torch
from common import Watch, averaged, grid_head, line, provenance, rounded, several, title, two_digits

from balancegan.commands.compare.records import read_record, write_record
from balancegan.commands.imbalance import make_imbalanced
from balancegan.commands.train import TrainRequest, configure, launch
from balancegan.compute import device as devices
from balancegan.compute.memory import memory_errors
from balancegan.core.errors import StoppedError, UsageError, WeightsMissingError
from balancegan.core.files import disk_errors, sha256, write_atomic
from balancegan.core.text import parse_time
from balancegan.data.training_set import open_training_set
from balancegan.evaluation.class_assignment import class_shares, over_training
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.inception import InceptionExtractor
from balancegan.metrics.inception_score import SPLITS, inception_score
from balancegan.metrics.weights import find_weights
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.samplers import CHUNK, Patience, RejectionSampler

SOURCE = "arXiv 2312.04862"
NAME = "damage-gan-cifar-10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
METHODS = {"sndcgan": "DCGAN", "contrad": "ContraD", "damage-gan": "Damage"}  # ours: the paper's name
COUNTS = {
    "full": dict.fromkeys(CLASSES, 5000),
    "partial": dict.fromkeys(CLASSES, 1116),
    "imbalanced": dict(zip(CLASSES, (348, 969, 125, 208, 1617, 75, 4500, 581, 2697, 45), strict=True)),
}
GROUPS = {"major": ("frog", "ship"), "minor": ("dog", "truck")}
GROUPED = ("contrad", "damage-gan")  # the methods whose groups of classes Table 5 measures
STEPS = 200_000

IMAGES = 10_000
CLASS_IMAGES = 1000  # of each class of a group, at most
SUBSET, DRAWS = 100, 10  # the authors' sample, and how often it is drawn
BATCH = {"cuda": 256}  # images that Inception takes at a time
PATIENCE = Patience(chunks=400, lowest=0.0005, tries=1000)  # the rarest class is 0.4% of the training images
MEASURE = 2  # to be raised when what is measured changes: earlier measurements are then made again

QUICK = {"width": 8, "d_width": 8, "batch_size": 32, "warmup_steps": 0, "steps": 30}
QUICK_SHARE = 0.024  # of the sets' images
QUICK_TEST = 50  # images per class
QUICK_IMAGES, QUICK_CLASS_IMAGES = 320, 60
WARNING = "NOT COMPARABLE with the published numbers (--quick: narrow, 30 steps, few images); shows only that it works."

# Table 2: {set: {method: (FID, Inception Score, its deviation)}}
TABLE_2 = {
    "full": {"sndcgan": (25.47, 7.40, 0.19), "contrad": (10.27, 9.02, 0.28), "damage-gan": (11.04, 8.66, 0.16)},
    "partial": {"sndcgan": (40.57, 6.42, 0.14), "contrad": (16.72, 7.92, 0.21), "damage-gan": (18.56, 8.12, 0.29)},
    "imbalanced": {"sndcgan": (55.15, 5.71, 0.16), "contrad": (29.92, 7.43, 0.16), "damage-gan": (28.45, 7.95, 0.15)},
}

# Table 4: {set: {method: share among the generated images over the share in training, class by class}}
TABLE_4 = {
    "partial": {
        "sndcgan": (0.94, 0.52, 1.55, 0.75, 1.50, 0.69, 1.74, 0.58, 1.18, 0.53),
        "contrad": (0.96, 1.23, 1.10, 0.90, 0.85, 0.74, 1.11, 1.13, 0.93, 1.02),
        "damage-gan": (1.02, 1.22, 1.14, 0.75, 0.87, 0.79, 1.08, 1.14, 0.93, 1.02),
    },
    "imbalanced": {
        "sndcgan": (0.94, 0.19, 4.67, 1.04, 0.96, 0.51, 0.98, 0.49, 0.86, 1.73),
        "contrad": (1.35, 1.05, 3.32, 0.85, 0.75, 0.89, 0.81, 1.11, 0.83, 2.11),
        "damage-gan": (1.16, 0.94, 2.85, 1.05, 0.75, 0.64, 0.85, 1.17, 0.85, 1.42),
    },
}

# Table 5: {method: FID of (all, major, minor) classes of the imbalanced set, the latter two scaled from 100 images}
TABLE_5 = {"contrad": (29.92, 31.87, 32.65), "damage-gan": (28.45, 31.15, 31.15)}
PUBLISHED_SCALE = "about 1/16"

REFERENCES = {"full": "the full training set", "test": "the test images"}


# The sets -------------------------------------------------------------------------------------------------------------


def quick_counts(name):
    return {label: max(2, round(QUICK_SHARE * n)) for label, n in COUNTS[name].items()}


def quick_folder(args, progress):
    """A thinned copy of FOLDER, which stands for the whole."""
    tag = hashlib.blake2b(str(args.folder.resolve()).encode(), digest_size=4).hexdigest()
    root = args.work / "data" / f"quick-{tag}"
    for split, counts in (("train", quick_counts("full")), ("test", dict.fromkeys(CLASSES, QUICK_TEST))):
        if not (root / split).is_dir():
            make_imbalanced(args.folder / split, root / split, counts=counts, seed=0, progress=progress)
    return root


def folder_of(name, args, whole, progress):
    """The folder of a set, made at the first call; `whole` is the opened full set."""
    if name == "full":
        return whole.folder.root
    folder = args.work / "data" / f"{name}-{whole.store.fingerprint[:12]}"
    if not folder.is_dir():
        counts = quick_counts(name) if args.quick else COUNTS[name]
        make_imbalanced(whole.folder.root, folder, counts=counts, seed=0, progress=progress)
    return folder


class Cell(NamedTuple):
    """One training of the tables."""

    set: str
    method: str
    seed: int

    @property
    def label(self):
        return f"{self.set}, {self.method}, seed {self.seed}"

    def request(self, args, folder, seconds=None):
        """The `train` command that it stands for."""
        flags = {**(QUICK if args.quick else {}), "seed": self.seed}
        return TrainRequest(
            folder,
            method=self.method,
            preset="paper",
            flags={**flags, "steps": args.steps} if args.steps else flags,
            device=args.device,
            out=args.work / ("runs-quick" if args.quick else "runs"),
            max_seconds=seconds,
            use_environment=False,
        )


def cells(args):
    return [Cell(name, method, seed) for seed in args.seeds for name in args.sets for method in args.methods]


# Measuring ------------------------------------------------------------------------------------------------------------


def weights_for(args):
    """The file of Inception's weights, or None for `--quick`, which can do without; else `WeightsMissingError`."""
    if args.quick and not args.weights:
        return None
    if found := find_weights("inception", args.weights):
        return found
    raise WeightsMissingError("there are no Inception weights here", "name a file with --weights, or try --quick")


class Ruler:
    """An extractor, and the real images' features: of the full training part and of the test part, kept in `--work`."""

    def __init__(self, weights, data, work, device, watch):
        """`weights` are Inception's, None for a classifier trained on the spot; `data` is the full set."""
        self.data, self.device, self.watch = data, device, watch
        self.folder = work / "features"
        with disk_errors(f"create {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.extractor, self.digest = self._inception(weights) if weights else self._own()
        self.rows = {data.store.files[row].rel: i for i, row in enumerate(data.train_rows)}
        self._real, self._references = {}, {}

    def _inception(self, weights):
        size = BATCH.get(self.device.type, 32)
        with memory_errors(self.device):
            extractor = InceptionExtractor(weights, device=str(self.device), batch_size=size, progress=self.watch)
        return extractor, sha256(weights)

    def _own(self):
        """The small classifier of the full set."""
        path = self.folder / f"own-{self.data.store.fingerprint[:12]}.safetensors"
        if not path.is_file():
            OwnExtractor.of(self.data, device=str(self.device), progress=self.watch).save(path)
        return OwnExtractor.load(path, device=str(self.device)), sha256(path)

    def features(self, images):
        """uint8 (N, C, S, S) -> (N, d), in full float32."""
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False)
        with memory_errors(self.device), exact:
            return self.extractor(images)

    def real(self, split):
        """Features of the full training part or of the test part, in the order of the store."""
        if split not in self._real:
            name = hashlib.blake2b(f"{self.data.store.fingerprint} {self.digest} {split}".encode(), digest_size=8)
            path = self.folder / f"{split}-{name.hexdigest()}.npy"
            if not path.is_file():
                rows = self.data.train_rows if split == "train" else self.data.unseen_rows
                buffer = io.BytesIO()
                np.save(buffer, self.features(self.data.store.images[rows]), allow_pickle=False)
                with disk_errors("write features"):
                    write_atomic(path, buffer.getbuffer())
            self._real[split] = np.load(path, allow_pickle=False)
        return self._real[split]

    def reference(self, name, data=None):
        """How many real images, and features with their mean and covariance.

        `name`: full, test, a group of classes (their images in the full set), or training (the images of `data`, which
        are files of the full set).
        """
        key = (name, data.store.fingerprint if data else None)
        if key not in self._references:
            found = self._features_of(name, data)
            self._references[key] = len(found), common.condensed(found)
        return self._references[key]

    def _features_of(self, name, data):
        if name in ("full", "test"):
            return self.real("train" if name == "full" else "test")
        if name == "training":
            return self.real("train")[[self.rows[data.store.files[row].rel] for row in data.train_rows]]
        labels = [self.data.class_names.index(label) for label in GROUPS[name]]
        return self.real("train")[np.isin(self.data.labels[self.data.train_rows], labels)]

    def fid(self, features, reference):
        count, real = reference
        return {"fid": rounded(frechet_distance(feats_real=real, feats_fake=features)), "n_real": count}

    def score(self, features):
        """Mean and deviation of the Inception Score, or why there is none."""
        if not getattr(self.extractor, "has_head", False):
            why = "the weights have no classifier layer" if self.extractor.comparable else "not Inception's features"
            return {"mean": None, "std": None, "reason": why}
        mean, std = inception_score(self.extractor.classify(features))
        return {"mean": rounded(mean), "std": rounded(std), "splits": SPLITS, "reason": None}


def images_of(sampler, n):
    """The images of seeds 0 … n - 1: uint8 (n, C, S, S)."""
    return np.concatenate([sampler.chunk(0, index) for index in range(-(-n // CHUNK))])[:n]


def measured(cell, ruler, data, sampler, args):
    """Everything that the tables show of a trained cell; `data` is the set that it was trained on."""
    features = ruler.features(images_of(sampler, args.images))
    references = {"full": ruler.reference("full"), "test": ruler.reference("test")}
    references["training"] = ruler.reference("training", data)
    result = {
        "n_fake": len(features),
        "fid": {name: ruler.fid(features, reference) for name, reference in references.items()},
        "inception_score": ruler.score(features),
        "distribution": distribution(sampler, data, args.images),
    }
    if cell.set == "imbalanced" and cell.method in GROUPED:
        result["classes"] = by_group(ruler, sampler, data, features, references["training"], args.class_images)
    return result


def distribution(sampler, data, samples):
    """Table 4: every class's share of the generated images over its share in training."""
    found = over_training(class_shares(sampler, samples), data.class_counts)
    ratios = dict(zip(data.class_names, map(rounded, found["ratios"]), strict=True))
    return {"ratios": ratios, **{name: rounded(found[name]) for name in ("mean", "mean_deviation")}}


def by_group(ruler, sampler, data, features, training, most):
    """Table 5: FID of the major and of the minor classes, plainly, and scaled from 100 images as the authors did."""
    few = subset_fids(ruler, features, training)
    everything = ruler.fid(features, training)["fid"]
    scale = {"all": everything, "subset": mean_of(few), "subset_size": SUBSET, "draws": len(few)}
    scale["factor"] = rounded(scale_factor(everything, few))
    groups = {name: group(ruler, sampler, data, name, scale["factor"], most) for name in GROUPS}
    return {"scale": scale, **groups}


def group(ruler, sampler, data, name, factor, most):
    """One group: as many images of each of its classes, against all real images of those classes."""
    labels = [data.class_names.index(label) for label in GROUPS[name]]
    found = [first_images([sampler], label, most)[1] for label in labels]
    accepted = {label: len(images) for label, images in zip(GROUPS[name], found, strict=True)}
    each = min(accepted.values())
    reference = ruler.reference(name)
    row = {"accepted": accepted, "n_fake": each * len(found), "n_real": reference[0]}
    if row["n_fake"] < SUBSET:
        short = min(accepted, key=lambda label: accepted[label])
        reason = f"{each} images of {short} were found, and as many are taken of each class: fewer than {SUBSET}"
        return {**row, "fid": None, "subset": None, "scaled": None, "reason": reason}
    features = ruler.features(np.concatenate([images[:each] for images in found]))
    few = subset_fids(ruler, features, reference)
    scaled = rounded(factor * statistics.fmean(few))
    return {**row, **ruler.fid(features, reference), "subset": mean_of(few), "scaled": scaled, "reason": None}


def subset_fids(ruler, features, reference):
    """FIDs of 100 of the images, drawn ten times."""
    rng = np.random.default_rng(0)
    draws = [np.sort(rng.permutation(len(features))[:SUBSET]) for _ in range(DRAWS)]
    return [ruler.fid(features[rows], reference)["fid"] for rows in draws]


def scale_factor(everything, few):
    """What brings the FID of 100 images down to that of all of them."""
    return everything / statistics.fmean(few)


def mean_of(values):
    return {"mean": rounded(statistics.fmean(values)), "std": rounded(statistics.stdev(values))}


# Making cells ---------------------------------------------------------------------------------------------------------


def make(args):
    """Train and measure cell by cell, keep each as soon as it is there, and return the exit status."""
    deadline = time.monotonic() + args.max_time
    worker = Worker(args, deadline)
    status, _ = paper_tables.make_cells(cells(args), worker.bring)
    return status


class Worker:
    """Brings cells to their results, as far as the time goes."""

    def __init__(self, args, deadline):
        self.args, self.deadline = args, deadline
        weights = weights_for(args)  # what is missing should be said before anything is read
        self.device = devices.resolve_device(args.device)
        devices.prepare(self.device)
        self.commit = args.commit or common.commit_here(Path(__file__).name)
        self.watch = Watch("data")
        root = quick_folder(args, self.watch) if args.quick else args.folder
        _, self.full = self._open(cells(args)[0], root)
        if self.full.class_names != CLASSES:
            raise UsageError(f"{args.folder} is not CIFAR-10", f"it needs the classes {', '.join(CLASSES)}")
        self.ruler = Ruler(weights, self.full, args.work, self.device, self.watch)

    def _open(self, cell, folder):
        """A cell's configuration and data."""
        cfg = configure(cell.request(self.args, folder)).cfg
        return cfg, open_training_set(folder, cfg, progress=self.watch)

    def bring(self, cell, watch):
        """Train, measure and keep a cell, or read it; false when the time is over before that."""
        folder = folder_of(cell.set, self.args, self.full, self.watch)
        cfg, data = self._open(cell, folder)
        name = f"{cell.set}-{cell.method}-seed{cell.seed}-{cfg.steps}{'-quick' * self.args.quick}.json"
        path = self.args.work / "cells" / name
        key = self._key(data, cfg)
        entry = read_record(path, key)
        if entry is None:
            trained = self._trained(cell, folder, cfg, watch)
            if trained is None:
                return False
            entry = self._entry(cell, data, cfg, trained)
            write_record(path, key, entry)
        merge(results_file(self.args.results, self.args.quick), [entry])
        return True

    def _key(self, data, cfg):
        """Everything that decides a cell's result."""
        settings = {**cfg.identity(), "steps": cfg.steps}
        sizes = {"images": self.args.images, "class_images": self.args.class_images, "measure": MEASURE}
        data_key = {"data": data.store.fingerprint, "full": self.full.store.fingerprint}
        return {"settings": settings, **data_key, "extractor": self.ruler.digest, **sizes}

    def _trained(self, cell, folder, cfg, watch):
        """The document of the finished training; None when it is not finished."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return None
        seconds = None if math.isinf(left) else left
        trained = launch(cell.request(self.args, folder, seconds), watch, watch)
        if trained["steps"] > cfg.steps:
            raise UsageError(
                f"{cell.label} has made {trained['steps']:,} steps already, not {cfg.steps:,}",
                f"give --steps {trained['steps']} or another --work",
            )
        if trained["signum"]:  # it came in the last step
            raise StoppedError("after the training; it is measured by the next call", signum=trained["signum"])
        if not trained["finished"]:
            watch.note(f"the time is over after {trained['steps']:,} of {cfg.steps:,} steps")
            return None
        return trained

    def _entry(self, cell, data, cfg, trained):
        """What is kept of a cell. No paths."""
        restored = restore(RunDir(trained["run"]), self.device)
        sampler = RejectionSampler(restored.method, self.device)
        sampler.patience = PATIENCE
        values = measured(cell, self.ruler, data, sampler, self.args)
        return {
            "set": cell.set,
            "quick": self.args.quick,
            "method": cell.method,
            "seed": cell.seed,
            "steps": cfg.steps,
            "train_counts": dict(zip(data.class_names, data.class_counts, strict=True)),
            **values,
            "extractor": {name: getattr(self.ruler.extractor, name) for name in ("name", "comparable")},
            "seconds": trained["seconds"],
            "images_per_second": trained["images_per_second"],
            "preset": "paper",
            "settings": {k: v for k, v in dataclasses.asdict(cfg).items() if k != "seed"},
            **provenance(devices.describe(self.device), self.commit),
        }


# Keeping them ---------------------------------------------------------------------------------------------------------


def results_file(folder, quick):
    return paper_tables.results_file(folder, NAME, quick)


def key(item):
    order = (list(COUNTS).index(item["set"]), list(METHODS).index(item["method"]))
    return item["quick"], -item["steps"], *order, item["seed"]


def merge(path, new):
    common.merge(path, new, key)


# Showing them ---------------------------------------------------------------------------------------------------------


def show(entries, quick=False):
    """Every table as markdown, once for each number of steps: ours, and the published number in brackets."""
    mine = [item for item in entries if item["quick"] == quick]
    lines = []
    for steps in sorted({item["steps"] for item in mine}, reverse=True) or [STEPS]:
        lines += ["", *block([item for item in mine if item["steps"] == steps], steps)]
    return paper_tables.between(WARNING if quick else None, lines[1:])


def block(entries, steps):
    """The tables of trainings of one length."""
    published = "" if steps == STEPS else f", theirs after {STEPS:,}"
    lines = [f"### After {steps:,} steps: ours (published in {SOURCE}{published})", ""]
    if entries and not all(item["extractor"]["comparable"] for item in entries):
        lines += ["Features of a small classifier trained on the spot: FIDs do not compare with published ones.", ""]
    for part in (table_2, deterioration, table_4, table_5):
        lines += [*part(entries), ""]
    return lines[:-1]


def of_cell(entries, name, method):
    return [item for item in entries if (item["set"], item["method"]) == (name, method)]


def values_of(entries, *path):
    """The numbers at a place of the entries, without those that are missing."""
    found = []
    for item in entries:
        for step in path:
            item = item.get(step) if item else None
        found.append(item)
    return [value for value in found if value is not None]


def ours(entries, *path):
    return averaged(values_of(entries, *path), two_digits)


def table_2(entries):
    """FID against three sets of real images (which one the paper took it does not say), and the Inception Score."""
    generated = counted(entries, "n_fake") or f"{IMAGES:,}"
    lines = [f"Table 2: FID of {generated} generated images, Inception Score (IS).", ""]
    numbers = {name: counted(entries, "fid", name, "n_real") for name in REFERENCES}
    heads = [f"FID to {what}" + f" ({numbers[name]})" * bool(numbers[name]) for name, what in REFERENCES.items()]
    lines += grid_head("training set", "method", *heads, "FID to those trained on", "IS", "IS deviation")
    for name, methods in TABLE_2.items():
        for method, (fid, *score) in methods.items():
            found = of_cell(entries, name, method)
            fids = [ours(found, "fid", reference, "fid") for reference in ("full", "test", "training")]
            fids[0] += f" ({fid:.2f})"
            scores = zip(("mean", "std"), score, strict=True)
            row = [f"{ours(found, 'inception_score', part)} ({theirs:.2f})" for part, theirs in scores]
            lines.append(line(trained_on(name, found), title(method), *fids, *row))
    reasons = sorted({f"{item['inception_score']['reason']}" for item in entries if item["inception_score"]["reason"]})
    return lines + [text for reason in reasons for text in ("", f"No Inception Score: {reason}.")]


def counted(entries, *path):
    """How many images, as text: one number where the entries agree, none where there is no entry."""
    return " or ".join(f"{n:,}" for n in sorted(set(values_of(entries, *path))))


def trained_on(name, entries):
    counts = entries[0]["train_counts"] if entries else COUNTS[name]
    return f"{name} ({sum(counts.values()):,})"


def deterioration(entries):
    """How much worse the FID gets from the full set to the imbalanced one: (imbalanced / full) - 1."""
    lines = ["Deterioration from the full to the imbalanced set, from Table 2: FIDimbalanced / FIDfull - 1.", ""]
    lines += grid_head("method", "rate", "difference of the FIDs")
    for method in METHODS:
        published = [TABLE_2[name][method][0] for name in ("full", "imbalanced")]
        found = [values_of(of_cell(entries, name, method), "fid", "full", "fid") for name in ("full", "imbalanced")]
        means = [statistics.fmean(values) if values else None for values in found]
        (rate, difference), (their_rate, their_difference) = worsened(*means), worsened(*published)
        lines.append(line(title(method), f"{rate} ({their_rate})", f"{difference} ({their_difference})"))
    return lines


def worsened(full, imbalanced):
    """Rate and difference as text."""
    if full is None or imbalanced is None:
        return "–", "–"
    rate, difference = (round(value, 2) + 0.0 for value in (imbalanced / full - 1, imbalanced - full))  # no -0
    return f"{rate:+.0%}", f"{difference:+.2f}"


def table_4(entries):
    lines = ["Table 4: share of the generated images over the share in training, classes by the linear evaluator.", ""]
    lines += grid_head("training set", "method", *CLASSES, "mean", "mean deviation from 1")
    for name, methods in TABLE_4.items():
        for method, ratios in methods.items():
            found = of_cell(entries, name, method)
            mean, deviation = statistics.fmean(ratios), statistics.fmean(abs(r - 1) for r in ratios)
            row = [
                f"{ours(found, 'distribution', 'ratios', label)} ({theirs:.2f})"
                for label, theirs in zip(CLASSES, ratios, strict=True)
            ]
            row.append(f"{ours(found, 'distribution', 'mean')} ({mean:.2f})")
            row.append(f"{ours(found, 'distribution', 'mean_deviation')} ({deviation:.2f})")
            lines.append(line(trained_on(name, found), title(method), *row))
    return lines


def table_5(entries):
    """Class by class: plainly, and by the authors' scaling, whose numbers alone stand beside published ones."""
    groups = ", ".join(f"{name}: {' and '.join(labels)}" for name, labels in GROUPS.items())
    sentences = (
        f"Table 5, trained on the imbalanced set ({groups}).",
        f"Scaled, the authors' way: FID of {SUBSET} images times FID of all over FID of {SUBSET} (the factor).",
        "Plain: FID of all accepted images of the classes to those of the full training set (generated / real images).",
    )
    heads = [f"{name}, {how}" for how in ("scaled", "plain") for name in GROUPS]
    lines = [" ".join(sentences), "", *grid_head("method", "all classes", *heads, "factor")]
    reasons = []
    for method, (total, *published) in TABLE_5.items():
        found = of_cell(entries, "imbalanced", method)
        row = [f"{ours(found, 'fid', 'full', 'fid')} ({total:.2f})"]
        theirs = zip(GROUPS, published, strict=True)
        row += [f"{ours(found, 'classes', name, 'scaled')} ({value:.2f})" for name, value in theirs]
        row += [plain(found, name) for name in GROUPS]
        factor = averaged(values_of(found, "classes", "scale", "factor"), lambda value: f"{value:.4f}")
        lines.append(line(title(method), *row, f"{factor} ({PUBLISHED_SCALE})"))
        for name in GROUPS:
            reasons += [f"{title(method)}, {name}: {why}." for why in values_of(found, "classes", name, "reason")]
    return lines + [text for reason in reasons for text in ("", reason)]


def plain(entries, name):
    text = ours(entries, "classes", name, "fid")
    if text == "–":
        return text
    return f"{text} ({' / '.join(counted(entries, 'classes', name, count) for count in ('n_fake', 'n_real'))})"


# Command line ---------------------------------------------------------------------------------------------------------


def seconds(text):
    try:
        return parse_time(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def parse(argv=None):
    parser = paper_tables.table_parser(__doc__, METHODS, "damage-gan-tables-work")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--sets", type=several(str, tuple(COUNTS)), default=list(COUNTS))
    parser.add_argument("--steps", type=int, help=f"instead of the preset's {STEPS:,}")
    parser.add_argument("--images", type=int, help=f"generated for a FID; default {IMAGES:,}")
    parser.add_argument("--class-images", type=int, help=f"for each class of Table 5 at most; default {CLASS_IMAGES:,}")
    parser.add_argument("--max-time", type=seconds, default=math.inf, help="e.g. 8m; measurements are not cut short")
    return paper_tables.parsed(parser, argv, check)


def check(parser, args):
    if args.folder is None:
        parser.error("give the folder of CIFAR-10, or --print")
    paper_tables.check_splits(parser, args.folder)
    args.images = args.images or (QUICK_IMAGES if args.quick else IMAGES)
    args.class_images = args.class_images or (QUICK_CLASS_IMAGES if args.quick else CLASS_IMAGES)
    if args.steps is not None and args.steps < 1:
        parser.error("--steps is at least 1")
    if args.images < SUBSET:
        parser.error(f"--images is at least {SUBSET}")


def main(argv=None):
    args = parse(argv)
    return paper_tables.run(args, {NAME: show}, NAME, key=key, make=make, warning=WARNING)


if __name__ == "__main__":
    sys.exit(main())
