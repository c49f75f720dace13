"""Trains classifiers with and without the synthetic images, and tests them on real images that none was trained on.

The arms differ in one thing at a time. Every arm gets the same network with the same initial weights, number of
updates, batch size and learning-rate schedule. The learning rate ends near zero, so that all arms converge equally
far. "Synthetic only" is the Classification Accuracy Score of Ravuri & Vinyals, "Classification Accuracy Score for
Conditional Generative Models" (2019), https://arxiv.org/abs/1905.10887; the class-balanced loss is the balanced
softmax of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition" (2020),
https://arxiv.org/abs/2007.10740, which adds the logarithm of each class's size to its logit during training.
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
from balancegan.core.progress import Progress
from balancegan.core.rows import blocks, rows_by_class
from balancegan.metrics.memorisation import copy_threshold, nearest, pixel_features
from balancegan.nets.augmentation import flipped_and_cropped
from balancegan.nets.classifier import Optimise, adamw, seeded_classifier, train_classifier
from balancegan.verdict.arms import Arm
from balancegan.verdict.material import Labels, Material, Pool, SplitPlan

BATCH = 64

MOST_SIDE = 64
_BLOCK = 1024  # images moved to the device at a time


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """All images that any arm draws from, stored once on the device. Each arm refers to rows of it."""

    images: Tensor  # uint8 (n, C, S, S): real, then synthetic, then unfiltered synthetic images
    labels: Tensor  # (n,)
    first_fake: dict[str, int]  # row at which a source's synthetic images begin


@dataclass(frozen=True)
class Draw:
    """Rows of the shelf to draw from, and the probability of each (they sum to 1)."""

    rows: NDArray[np.int64]
    often: NDArray[np.float64]
    log_prior: Tensor | None  # (K,) for balanced softmax


def train_all(
    material: Material,
    pool: Pool,
    plans: Sequence[SplitPlan],
    arms: Sequence[Arm],
    allowed: Sequence[NDArray[np.bool_]],
    *,
    updates: int,
    flips: bool,
    device: torch.device,
    progress: Progress,
) -> dict[str, Labels]:
    """Train every arm once per seed and return, per arm, the predicted classes (S, n) of the pool's images.

    A prediction is -1 where the seed does not test the image.
    `allowed` says for each seed which synthetic images may be used for training.
    """
    shelf = _shelf(material, pool, device)
    predicted = {arm.name: np.full((len(plans), len(pool)), -1, np.int64) for arm in arms}
    stop = threading.Event()

    def work(arm: Arm, seed: int, network: nn.Module) -> tuple[str, int, Labels]:
        if device.type == "cpu":
            torch.set_num_threads(1)  # in this worker; there are as many workers as cores
        draw = _draw(material, pool, plans[seed], arm, shelf, allowed[seed])
        train(
            network,
            shelf,
            draw,
            updates=updates,
            seed=seed,
            augment=arm.augmented,
            flips=flips,
            keep_on=lambda: not stop.is_set(),
        )
        return arm.name, seed, predict(network, shelf.images, plans[seed].test)

    channels, side = shelf.images.shape[1:3]
    classes = len(material.names)
    jobs = [  # within a seed, every arm starts from the same weights
        (arm, seed, seeded_classifier(channels, classes, side, seed, device))
        for seed in range(len(plans))
        for arm in arms
    ]
    # The thread count is set per calling thread. This one also uses one, so that it does not compete with the workers.
    with one_thread(), ThreadPoolExecutor(usable_cores() if device.type == "cpu" else 1) as executor:
        futures = [executor.submit(work, *job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures)):
                name, seed, found = future.result()
                predicted[name][seed, plans[seed].test] = found
                progress("classifiers", done + 1, len(futures))
        except BaseException:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return predicted


def _shelf(material: Material, pool: Pool, device: torch.device) -> Shelf:
    sources = {"real": pool, "fake": material.fake}
    if material.unfiltered is not None:
        sources["unfiltered"] = material.unfiltered
    starts = np.cumsum([0, *(len(source) for source in sources.values())]).tolist()
    first = dict(zip(sources, starts, strict=False))
    first["both"] = first["fake"]
    images, labels = shrunk(list(sources.values()), device)
    return Shelf(images, labels, first)


def allowed_updates(material: Material, pool: Pool, plan: SplitPlan) -> NDArray[np.bool_]:
    """Mask (n,) of the synthetic images that may be used for training under this test plan.

    Where the generator may have seen the test images, near-copies of them are excluded.
    """
    allowed = np.ones(len(material.fake), bool)
    if not material.may_have_seen:
        return allowed
    classes = len(material.names)
    real_rows, test_rows = rows_by_class(pool.labels, classes), rows_by_class(pool.labels[plan.test], classes)
    for label, mine in enumerate(rows_by_class(material.fake.labels, classes)):
        if not len(mine):
            continue
        real, tested = real_rows[label], plan.test[test_rows[label]]
        threshold = copy_threshold(pixel_features(pool.images[real]))
        away, _ = nearest(pixel_features(material.fake.images[mine]), pixel_features(pool.images[tested]))
        allowed[mine] = away >= threshold
    return allowed


def shrunk(pools: Sequence[Pool], device: torch.device) -> tuple[Tensor, Tensor]:
    """Concatenate the pools on the device, shrunk to at most `MOST_SIDE` pixels: uint8 images and their classes."""
    channels, *sides = pools[0].images.shape[1:]
    side = min(MOST_SIDE, max(sides))
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


def _draw(material: Material, pool: Pool, plan: SplitPlan, arm: Arm, shelf: Shelf, allowed: NDArray[np.bool_]) -> Draw:
    """The rows an arm draws from, with their probabilities.

    Where real and synthetic images are mixed, a class's proportion of real draws equals the proportion of real images
    in the delivered folder, no matter how many synthetic images are available here.
    """
    classes = len(material.names)
    mine = pool.labels[plan.train]
    share, chosen = np.zeros(classes), np.empty(0, np.intp)
    fakes = material.unfiltered if arm.source == "unfiltered" and material.unfiltered else material.fake
    if arm.source != "real":
        chosen = np.arange(len(fakes)) if arm.source == "unfiltered" else np.flatnonzero(allowed)
        promised = (material.delivered_unfiltered if arm.source == "unfiltered" else ()) or material.delivered
        n_real, n_fake = (np.bincount(labels, minlength=classes) for labels in (mine, fakes.labels[chosen]))
        delivered = np.where(n_fake > 0, np.array(promised, np.float64), 0.0)
        share = delivered / np.maximum(n_real + delivered, 1) if arm.source != "fake" else np.ones(classes)
    fake = shelf.first_fake.get(arm.source, 0) + chosen, fakes.labels[chosen]
    device = shelf.labels.device if arm.adjusted else None
    return mixed_draw((plan.train, mine), fake, share, balanced=arm.balanced, prior_on=device)


def mixed_draw(
    real: tuple[NDArray[np.intp], Labels],
    fake: tuple[NDArray[np.intp], Labels],
    share: NDArray[np.float64],
    *,
    balanced: bool,
    prior_on: torch.device | None = None,
) -> Draw:
    """Rows with probabilities such that a share of every class's draws is synthetic.

    Args:
        real, fake: rows of the shelf and their classes, (n,) each.
        share: (K,); of a class without synthetic images it counts as 0.
        balanced: whether classes are drawn equally often; otherwise in proportion to their real images.
        prior_on: device of the prior of balanced softmax, the number of real images; None for no such loss.
    """
    n_real, n_fake = (np.bincount(labels, minlength=len(share)).astype(np.float64) for _, labels in (real, fake))
    share = np.where(n_fake > 0, share, 0.0)
    mass = np.maximum((n_real > 0) if balanced else n_real, share > 0)  # per class
    often = [
        (mass * (1 - share) / np.maximum(n_real, 1))[real[1]],
        (mass * share / np.maximum(n_fake, 1))[fake[1]],
    ]
    together = np.concatenate(often)
    prior = None if prior_on is None else torch.from_numpy(np.log(np.maximum(n_real, 1e-6))).float().to(prior_on)
    return Draw(np.concatenate([real[0], fake[0]]), together / together.sum(), prior)


def train(
    network: nn.Module,
    shelf: Shelf,
    draw: Draw,
    *,
    updates: int,
    seed: int,
    augment: bool,
    flips: bool,
    keep_on: Callable[[], bool] = lambda: True,
    batch: int | None = None,
    optimise: Optimise = adamw,
) -> None:
    """Train like the classifier behind the `own` features; stop early when `keep_on()` returns false.

    A `batch` has `BATCH` images by default; `optimise` builds the optimiser.
    """
    batch = batch or BATCH
    rng = np.random.default_rng([seed, 1])
    chosen = draw.rows[rng.choice(len(draw.often), size=(updates, batch), p=draw.often)]
    fitting = Fitting(batch, shelf.images.device, hint="use --device cpu, or skip the verdict with --no-utility")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.from_numpy(chosen):
            if not keep_on():
                return
            rows = rows.to(shelf.images.device)
            x = shelf.images[rows].float() / 127.5 - 1.0  # (B, C, S, S)
            yield flipped_and_cropped(x, rng, flips=flips) if augment else x, shelf.labels[rows]

    log_prior = 0.0 if draw.log_prior is None else draw.log_prior
    train_classifier(network, batches(), updates, fitting, log_prior, optimise)


def predict(network: nn.Module, images: Tensor, rows: NDArray[np.intp]) -> Labels:
    """The most likely class of each of these rows of the images, uint8 (n, C, S, S)."""
    network.eval()
    wanted = torch.from_numpy(rows).to(images.device)
    fitting = Fitting(256, images.device)
    with torch.inference_mode():
        found = fitting.rows(lambda some: network(images[wanted[some]].float() / 127.5 - 1.0).argmax(1), len(wanted))
    return found.cpu().numpy().astype(np.int64)
