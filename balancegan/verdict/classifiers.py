"""Trains classifiers with and without the synthetic images, and tests them on real images that none was trained on.

The arms differ in one thing at a time: every arm gets the same network with the same initial weights, number of
updates, batch size, augmentation and learning-rate schedule, which ends near zero, so that all converge equally far.
"Generated only" is the Classification Accuracy Score of Ravuri & Vinyals, "Classification Accuracy Score for
Conditional Generative Models" (2019), https://arxiv.org/abs/1905.10887; the class-balanced loss is the balanced
softmax of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition" (2020),
https://arxiv.org/abs/2007.10740, which adds the logarithm of each class's size to its logit during training. Mixup is
that of Zhang et al. (2018), https://arxiv.org/abs/1710.09412, with the deferred re-weighting of Cao et al. (2019),
https://arxiv.org/abs/1906.07413: classes weigh by their effective number of samples in the last fifth of training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from balancegan.compute.device import one_thread
from balancegan.compute.machine import usable_cores
from balancegan.compute.memory import Fitting
from balancegan.core.rows import blocks, rows_by_class
from balancegan.nets.classifier import train_classifier
from balancegan.verdict.arms import Arm
from balancegan.verdict.augmentation import Augmentation
from balancegan.verdict.material import Labels, Pool, SplitPlan
from balancegan.verdict.networks import Network, fast_bfloat16

DEFERRED = 0.8  # part of the training after which Mixup's classes are re-weighted
EFFECTIVE = 0.9999  # beta of the effective number of samples, (1 - beta^n) / (1 - beta)
KNOWN = 200  # training images per class that show whether a classifier has learned them
_BLOCK = 1024  # images moved to the device at a time


@dataclass(frozen=True)
class Shelf:
    """All images that any arm draws from, stored once on the device. Each arm refers to rows of it."""

    images: Tensor  # uint8 (n, C, S, S)
    labels: Tensor  # (n,)
    num_classes: int
    starts: tuple[int, ...]  # row at which each of the pools begins

    @classmethod
    def of(cls, pools: Sequence[Pool], num_classes: int, side: int, device: torch.device) -> Shelf:
        """Put pools on one shelf, shrunk to at most `side` pixels."""
        images, labels = shrunk(pools, side, device)
        starts = np.cumsum([0, *map(len, pools)]).tolist()
        return cls(images, labels, num_classes, tuple(starts))


@dataclass(frozen=True)
class Draw:
    """Rows of the shelf to draw from, and the probability of each (they sum to 1)."""

    rows: NDArray[np.int64]
    often: NDArray[np.float64]
    n_real: NDArray[np.float64]  # (K,) for the losses that correct for class sizes


@dataclass(frozen=True)
class Job:
    """One classifier to train and test."""

    arm: Arm
    seed: int
    plan: SplitPlan
    draw: Draw
    augmentation: Augmentation
    updates: int


@dataclass(frozen=True)
class Result:
    """What one classifier says of its test images, and how well it knows its training images."""

    probabilities: NDArray[np.float32]  # (n, K) for the rows of `plan.test`
    training_accuracy: float  # on real training images as they are; mean over classes

    @property
    def predicted(self) -> Labels:
        """The most likely class of each test image (n,)."""
        return self.probabilities.argmax(1).astype(np.int64)


def train_jobs(
    jobs: Sequence[Job],
    shelf: Shelf,
    network: Network,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Train and test a classifier for every job; on a CPU, one per core at a time. Results in the jobs' order.

    Within a seed, all classifiers start from the same weights.
    """
    stop = threading.Event()
    channels, side = shelf.images.shape[1:3]
    labels = shelf.labels.cpu().numpy()

    def work(job: Job, module: nn.Module) -> Result:
        if device.type == "cpu":
            torch.set_num_threads(1)  # in this worker; there are as many workers as cores
        train(module, shelf, job, network, keep_on=lambda: not stop.is_set())
        known = _some_of_each_class(job.plan.train, labels[job.plan.train])
        accuracy = balanced_accuracy(predict(module, shelf.images, known).argmax(1), labels[known])
        return Result(predict(module, shelf.images, job.plan.test), accuracy)

    # Built before any is trained: initial weights come from the global generator, which TrivialAugment uses too.
    modules = [network.seeded(channels, shelf.num_classes, side, job.seed, device) for job in jobs]
    # The thread count is set per calling thread. This one also uses one, so that it does not compete with the workers.
    with one_thread(), ThreadPoolExecutor(usable_cores() if device.type == "cpu" else 1) as executor:
        futures = {executor.submit(work, *job): index for index, job in enumerate(zip(jobs, modules, strict=True))}
        results: dict[int, Result] = {}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                progress(len(results), len(jobs))
        except BaseException:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return [results[index] for index in range(len(jobs))]


def balanced_accuracy(predicted: NDArray[np.integer], labels: Labels) -> float:
    """Mean recall of the classes that have images, given predicted and true classes (n,)."""
    right = predicted == labels
    of_class = rows_by_class(labels, int(labels.max()) + 1)
    return float(np.mean([right[rows].mean() for rows in of_class if len(rows)]))


def _some_of_each_class(rows: NDArray[np.intp], labels: Labels) -> NDArray[np.intp]:
    """At most `KNOWN` rows of each class."""
    return np.concatenate([rows[:0], *(rows[mine[:KNOWN]] for mine in rows_by_class(labels, int(labels.max()) + 1))])


def shrunk(pools: Sequence[Pool], side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Concatenate the pools on the device, shrunk to at most `side` pixels: uint8 images and their classes."""
    channels, *sides = pools[0].images.shape[1:]
    side = min(side, max(sides))
    images = torch.empty((sum(map(len, pools)), channels, side, side), dtype=torch.uint8, device=device)
    done = 0
    for pool in pools:
        for some in blocks(len(pool), _BLOCK):
            x = torch.from_numpy(np.ascontiguousarray(pool.images[some])).to(device)
            if x.shape[2:] != (side, side):
                x = functional.interpolate(
                    x.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
                )
                x = x.round().clamp(0, 255).byte()
            images[done : done + len(x)] = x
            done += len(x)
    labels = np.concatenate([pool.labels for pool in pools]).astype(np.int64)
    return images, torch.from_numpy(labels).to(device)


@dataclass(frozen=True)
class Part:
    """Rows of the shelf (n,), their classes (n,), and which part of each class's draws they get (K,)."""

    rows: NDArray[np.intp]
    labels: Labels
    share: NDArray[np.float64]

    @classmethod
    def all_of(cls, rows: NDArray[np.intp], labels: Labels, num_classes: int) -> Part:
        """Rows that get all draws."""
        return cls(rows, labels, np.ones(num_classes))


def mixed_draw(parts: Sequence[Part], *, balanced: bool) -> Draw:
    """Rows with probabilities such that each part gets its share of every class's draws.

    Args:
        parts: the first one holds the real images. What a part without images of a class would get, the others get in
            proportion to their shares; the real images get all if these are 0.
        balanced: whether classes are drawn equally often; otherwise in proportion to their real images.
    """
    sizes = np.array([np.bincount(part.labels, minlength=len(part.share)) for part in parts], np.float64)  # (P, K)
    shares = np.where(sizes > 0, [part.share for part in parts], 0.0)
    shares[0] = np.where((shares.sum(axis=0) == 0) & (sizes[0] > 0), 1.0, shares[0])
    total = shares.sum(axis=0)
    mass = (total > 0).astype(np.float64) if balanced else sizes[0]
    each = mass * shares / np.maximum(total, 1e-12) / np.maximum(sizes, 1)  # of one image
    together = np.concatenate([each[k][part.labels] for k, part in enumerate(parts)])
    return Draw(np.concatenate([part.rows for part in parts]), together / together.sum(), sizes[0])


def train(
    module: nn.Module,
    shelf: Shelf,
    job: Job,
    network: Network,
    keep_on: Callable[[], bool] = lambda: True,
) -> None:
    """Train a classifier; stop early when `keep_on()` returns false."""
    device, draw, arm, batch = shelf.images.device, job.draw, job.arm, network.batch
    rng = np.random.default_rng([job.seed, 1])
    chosen = draw.rows[rng.choice(len(draw.often), size=(job.updates, batch), p=draw.often)]
    fitting = Fitting(batch, device, hint="use --device cpu, or skip the verdict with --no-utility")
    sizes = torch.from_numpy(draw.n_real).float().to(device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for step, rows in enumerate(torch.from_numpy(chosen)):
            if not keep_on():
                return
            rows = rows.to(device)
            x, target = job.augmentation(shelf.images[rows], rng), shelf.labels[rows]
            if arm.mixup:
                weights = _effective_weights(sizes) if step >= DEFERRED * job.updates else torch.ones_like(sizes)
                x, target = _mixed(x, target, weights, rng)
            yield x.contiguous(memory_format=torch.channels_last), target

    log_prior = sizes.clamp(min=1e-6).log() if arm.adjusted else 0.0
    bfloat16 = network.bfloat16 and fast_bfloat16(device)
    train_classifier(module, batches(), job.updates, fitting, log_prior, network.optimise, bfloat16=bfloat16)


def _mixed(x: Tensor, target: Tensor, weights: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image with another one of the batch; targets (B, K) hold both classes' shares times their weights."""
    share = float(rng.beta(1.0, 1.0))
    others = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    wanted = functional.one_hot(target, len(weights)).float() * weights
    return share * x + (1 - share) * x[others], share * wanted + (1 - share) * wanted[others]


def _effective_weights(sizes: Tensor) -> Tensor:
    """Weights (K,) of classes by the inverse of their effective number of samples; they average to 1."""
    weights = (1 - EFFECTIVE) / (1 - EFFECTIVE ** sizes.double()).clamp(min=1 - EFFECTIVE)
    return (weights / weights.mean()).float()


def predict(module: nn.Module, images: Tensor, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """The probabilities (n, K) of the classes of these rows of the images, uint8 (N, C, S, S)."""
    module.eval()
    wanted = torch.from_numpy(rows).to(images.device)
    fitting = Fitting(256, images.device)

    def probabilities(some: slice) -> Tensor:
        x = images[wanted[some]].float() / 127.5 - 1.0
        return module(x.contiguous(memory_format=torch.channels_last)).float().softmax(1)

    with torch.inference_mode():
        return fitting.rows(probabilities, len(wanted)).cpu().numpy()
