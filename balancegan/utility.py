"""Do the synthetic images help? Classifiers trained with and without them, tested on real images nobody trained on.

The arms differ in one thing at a time. Every arm gets the same network from the same initialisation, the same number
of updates of the same batch size and the same learning-rate schedule, which ends near zero, so that each converges as
far as the others. "Synthetic only" is the Classification Accuracy Score of Ravuri & Vinyals, "Classification Accuracy
Score for Conditional Generative Models" (2019), https://arxiv.org/abs/1905.10887; the class-balanced loss is the
balanced softmax of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition" (2020),
https://arxiv.org/abs/2007.10740: the logarithm of each class's number of images is added to its logit in training.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from balancegan import verdict
from balancegan.device import memory_errors
from balancegan.grouping import rows_by_class
from balancegan.metrics.features import Images
from balancegan.metrics.memorisation import copy_threshold, nearest, pixel_features
from balancegan.metrics.own import OwnExtractor, build_classifier, classifier_loss, one_thread
from balancegan.parts import Fitting, mean_gradients
from balancegan.progress import Progress, silent

Json = dict[str, Any]
Labels = NDArray[np.int64]

SEEDS = 3
BATCH = 64
UPDATES = (300, 1000)  # at least and at most on a CPU; four times the most elsewhere
EPOCHS = 20  # over the largest arm's images, as far as the limits allow
TEST_SHARE = 0.3  # of the real images, where they are split here
MIRRORED = 0.9  # flips are used where mirrored images are recognised this well, in proportion
FLIPS_LOOK = 50  # images per class that are looked at for that

MOST_SIDE = 64
_BLOCK = 1024  # images that are moved to the device at once


@dataclass(frozen=True)
class Arm:
    """One way of training the classifier."""

    name: str
    description: str
    source: str  # real, both, unfiltered or fake
    balanced: bool = True  # classes drawn equally often, or as often as they have images
    augmented: bool = True  # flips and crops
    adjusted: bool = False  # balanced softmax


ARMS = (
    Arm("real only", "Real images as they come: no balancing, no augmentation.", "real", False, False),
    Arm("oversampling", "Real images, classes drawn equally often, with random flips and crops.", "real"),
    Arm(
        "balanced softmax",
        "Real images as they come, with flips and crops, and a loss corrected for the class sizes (balanced softmax).",
        "real",
        balanced=False,
        adjusted=True,
    ),
    Arm(
        "real + synthetic",
        "Real and synthetic images together, classes drawn equally often, with the same flips and crops.",
        "both",
    ),
    Arm(
        "real + synthetic, unfiltered",
        "The same with the images that would have been delivered without the quality filter.",
        "unfiltered",
    ),
    Arm(
        "synthetic only",
        "Synthetic images alone (Classification Accuracy Score); classes that have none keep their real ones.",
        "fake",
    ),
)


@dataclass(frozen=True)
class Pool:
    """Images (n, C, S, S) and their classes (n,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Material:
    """What there is to train and to test on.

    `test` None: `real` is split anew for every seed. `delivered` (K,): how many synthetic images each class really
    got, `delivered_unfiltered` (K,) how many it would have got of `unfiltered`; the pools may hold fewer or more, and
    stand for them when real and synthetic images are mixed.
    `kind`: where the test images come from (test, val, holdout, splits). `may_have_seen`: whether the generator may
    have been trained on them; then synthetic near-copies of test images are kept from the classifiers.
    """

    names: Sequence[str]
    real: Pool
    fake: Pool
    test: Pool | None
    kind: str
    delivered: Sequence[int]
    unfiltered: Pool | None = None
    delivered_unfiltered: Sequence[int] = ()
    may_have_seen: bool = False
    leaks: int = 0  # test images that were left out because they are among the training images


def not_measured(note: str) -> Json:
    """The document where nothing could be or should be measured."""
    return {"measured": False, "verdict": None, "note": note, "arms": [], "warnings": []}


def why_not(material: Material) -> str | None:
    """Why there can be no verdict, or None."""
    counts = np.bincount(material.real.labels, minlength=len(material.names))
    if not len(material.fake):
        return "There are no synthetic images to judge."
    if (counts > 0).sum() < 2:
        return "A classifier needs two classes with real images."
    if material.test is not None and len(np.unique(material.test.labels)) < 2:
        return (
            "Whether the images help was not measured: there are no real images of two classes that the generator has "
            "not seen. Train with --holdout, or give the data a test split."
        )
    if material.test is None and (counts >= 2).sum() < 2:
        return "Whether the images help was not measured: too few real images to set some aside for testing."
    return None


def measure_utility(
    material: Material,
    *,
    device: torch.device,
    seeds: int = SEEDS,
    updates: int | None = None,
    progress: Progress = silent,
) -> Json:
    """Train every arm once per seed, test, and judge.

    Args:
        material: see there.
        device: where the classifiers are trained; on a CPU each uses one core, and several are trained at once.
        seeds: trainings of every arm.
        updates: of each training; by default `EPOCHS` over the images of the largest arm within `UPDATES`.
        progress: called as `("classifiers", trainings done, trainings)`.

    Returns:
        The report's `utility`.
    """
    if reason := why_not(material):
        return not_measured(reason)
    with memory_errors(device, "use --device cpu, or leave the verdict out with --no-utility"):
        return _measure(material, seeds, updates, device, progress)


def _measure(material: Material, seeds: int, updates: int | None, device: torch.device, progress: Progress) -> Json:
    pool, plans = _plans(material, seeds)
    # On images that no seed tests: a choice must not be made on those behind the verdict.
    untested = _Plan(reduce(np.intersect1d, [plan.train for plan in plans]), plans[0].test)
    flips, flips_note = _flips(pool, untested, len(material.names), device)
    most = UPDATES[1] * (1 if device.type == "cpu" else 4)
    largest = len(plans[0].train) + len(material.fake)
    if updates is None:
        updates = int(np.clip(EPOCHS * largest // BATCH, UPDATES[0], most))
    arms = [arm for arm in ARMS if arm.source != "unfiltered" or material.unfiltered is not None]
    allowed = [_allowed(material, pool, plan) for plan in plans]
    answers = _train_all(
        material, pool, plans, arms, allowed, updates=updates, flips=flips, device=device, progress=progress
    )
    document = _document(material, pool, plans, arms, answers)
    if not flips:
        document["rule"] = _without_flips(document["rule"])
        for row in document["arms"]:
            row["description"] = _without_flips(row["description"])
    if left_out := max(int((~rows).sum()) for rows in allowed):
        document["warnings"].append(
            f"{left_out:,} synthetic images are near-copies of test images: the classifiers were trained without them."
        )
    passes = updates * BATCH / largest
    if passes < EPOCHS / 4:
        document["warnings"].append(
            f"The classifiers saw each of {largest:,} images {passes:.1f} times on average: what longer trainings "
            "would say is not known."
        )
    return document | {
        "seeds": seeds,
        "updates": updates,
        "batch_size": BATCH,
        "image_size": min(MOST_SIDE, max(pool.images.shape[2:])),
        "flips": flips,
        "flips_note": flips_note,
    }


def _without_flips(text: str) -> str:
    return text.replace("flips and crops", "crops")


@dataclass(frozen=True)
class _Plan:
    """Rows of the pool of real images that one seed trains on and tests on."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def _plans(material: Material, seeds: int) -> tuple[Pool, list[_Plan]]:
    """All real images in one pool, and what each seed does with them."""
    real, test = material.real, material.test
    if test is None:
        return real, [_Plan(*stratified_split(real.labels, TEST_SHARE, seed)) for seed in range(seeds)]
    pool = Pool(np.concatenate([real.images, test.images]), np.concatenate([real.labels, test.labels]))
    rows = np.arange(len(pool))
    return pool, [_Plan(rows[: len(real)], rows[len(real) :])] * seeds


def stratified_split(labels: Labels, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that stay, and `share` of every class that is set aside: one at least, but for a class of one image."""
    rng = np.random.default_rng(seed)
    aside = np.zeros(len(labels), bool)
    for rows in _groups(labels):
        mine = rng.permutation(rows)
        aside[mine[: max(int(len(mine) > 1), round(share * len(mine)))]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def _flips(pool: Pool, plan: _Plan, classes: int, device: torch.device) -> tuple[bool, str]:
    """Whether a mirrored image is still of its class, as far as a classifier of other training images can tell."""
    labels = pool.labels[plan.train]
    kept, aside = stratified_split(labels, TEST_SHARE, seed=0)
    train, rest = plan.train[kept], plan.train[_at_most(aside, labels, FLIPS_LOOK)]
    if not len(rest):
        return False, "Flips are left out, crops only: too few images to see whether mirrored ones keep their class."
    classifier = OwnExtractor.fit(pool.images[train], pool.labels[train], classes, device=str(device))
    images, truth = pool.images[rest], pool.labels[rest]
    upright = classifier.logits(images).argmax(1) == truth
    mirrored = classifier.logits(np.ascontiguousarray(images[..., ::-1])).argmax(1) == truth
    spoilt = [k for k in np.unique(truth) if _loses(upright[truth == k], mirrored[truth == k])]
    flips = bool(not spoilt and mirrored.mean() >= MIRRORED * upright.mean())
    seen = (
        f"a classifier recognises {mirrored.mean():.0%} of mirrored images, {upright.mean():.0%} of the same ones as "
        "they are"
    )
    if spoilt:
        seen += f", and loses {'a class' if len(spoilt) == 1 else f'{len(spoilt)} classes'} by mirroring"
    return flips, f"Flips are {'used' if flips else 'left out, crops only'}: {seen}."


def _loses(upright: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> bool:
    """Whether a class is surely recognised less when mirrored: three deviations of the answers that changed."""
    lost, won = int((upright & ~mirrored).sum()), int((mirrored & ~upright).sum())
    return bool(lost - won > 3 * np.sqrt(lost + won) and mirrored.sum() < MIRRORED * upright.sum())


def _at_most(rows: NDArray[np.intp], labels: Labels, limit: int) -> NDArray[np.intp]:
    """The first `limit` rows of each class."""
    return np.concatenate([rows[:0], *(rows[mine[:limit]] for mine in _groups(labels[rows]))])


def _groups(labels: Labels) -> list[NDArray[np.intp]]:
    """The rows of each class that is there."""
    return [rows for rows in rows_by_class(labels, int(labels.max(initial=-1)) + 1) if len(rows)]


def _document(
    material: Material, pool: Pool, plans: Sequence[_Plan], arms: Sequence[Arm], predicted: dict[str, Labels]
) -> Json:
    """Scores, differences and the verdict."""
    names = list(material.names)
    tested = np.unique(np.concatenate([plan.test for plan in plans]))
    labels = pool.labels[tested]
    answers = [verdict.Answers(arm.name, predicted[arm.name][:, tested]) for arm in arms]
    scores = dict(zip((arm.name for arm in arms), verdict.score(answers, labels, len(names)), strict=True))
    n_test = np.bincount(labels, minlength=len(names)).tolist()
    rows = verdict.arms_json([arm.name for arm in arms], list(scores.values()), names)
    for row, arm in zip(rows, arms, strict=True):
        row |= {"title": arm.name.capitalize(), "description": arm.description}
        row["train_images"] = dict(zip(names, _train_counts(material, pool, plans[0], arm), strict=True))
    candidates = [arm.name for arm in arms if arm.source in ("both", "unfiltered", "fake")]
    differences = [
        verdict.difference_json(name, against, scores, names) for name in candidates for against in verdict.REAL_ARMS
    ]
    differences.append(verdict.difference_json(verdict.BASELINE, verdict.PLAIN, scores, names))
    tellable = _tellable(material, n_test)
    decided = verdict.judge(differences) if tellable else None
    unfiltered = next((arm.name for arm in arms if arm.source == "unfiltered"), None)
    return {
        "measured": True,
        "verdict": decided,
        "headline": verdict.headline(decided, differences) if decided else _TOO_FEW,
        "rule": verdict.RULE,
        "note": _NOTE,
        "warnings": _warnings(material, n_test, len(plans), verdict.augmentation_harms(differences)),
        "baseline": verdict.BASELINE,
        "candidate": verdict.CANDIDATE,
        "test": {"kind": material.kind, "n": dict(zip(names, n_test, strict=True)), "total": len(tested)},
        "arms": rows,
        "differences": differences,
        "classes": verdict.judge_classes(scores, names, n_test),
        "unfiltered_verdict": verdict.judge(differences, unfiltered) if unfiltered and tellable else None,
    }


def _tellable(material: Material, n_test: Sequence[int]) -> bool:
    """Whether two classes can be judged, one of them with synthetic images."""
    enough = [n >= verdict.MIN_TEST for n in n_test]
    return sum(enough) >= 2 and any(n and ok for n, ok in zip(material.delivered, enough, strict=True))


_TOO_FEW = (
    f"No verdict: no class that got synthetic images has {verdict.MIN_TEST} real test images, or no other class has. "
    "Set more real images aside."
)

_NOTE = (
    "A small classifier says what these images do for a small classifier. A larger or pre-trained one may need them "
    "less or use them better. At most 2,000 synthetic images of a class are drawn from."
)


def _warnings(material: Material, n_test: Sequence[int], seeds: int, harmed: bool) -> list[str]:
    found = []
    if seeds < SEEDS:
        found.append(
            f"{seeds} training{'s' if seeds > 1 else ''} of each arm: the intervals know "
            f"{'little' if seeds > 1 else 'nothing'} of how much trainings differ. Give --seeds {SEEDS} or more."
        )
    if harmed:
        found.append(
            "Flips and crops do harm here: plain training on the real images is better than oversampling with them. "
            "The arms that have them are compared with each other."
        )
    if material.leaks:
        found.append(
            f"{material.leaks:,} images of the test set are equal to training images and were left out of the test."
        )
    if material.may_have_seen:
        found.append(
            "What the generator was trained on is not known here. If it saw the real images of this test, the "
            "synthetic images look more useful than they are."
        )
    weak = [f"{name} ({n})" for name, n in zip(material.names, n_test, strict=True) if n < verdict.WEAK_TEST]
    if weak:
        found.append(
            f"Few test images, so what is said of these classes is weak: {', '.join(weak)}. More real images set "
            "aside would help more than another training."
        )
    return found


def _train_counts(material: Material, pool: Pool, plan: _Plan, arm: Arm) -> list[int]:
    """Training images per class of an arm."""
    size = len(material.names)
    real = np.bincount(pool.labels[plan.train], minlength=size)
    fake = np.bincount(material.fake.labels, minlength=size)
    counts = {
        "real": real,
        "both": real + np.array(material.delivered),
        "unfiltered": real + np.array(material.delivered_unfiltered or material.delivered),
        "fake": np.where(fake > 0, fake, real),
    }
    return [int(n) for n in counts[arm.source]]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shelf:
    """All images that any arm draws from, once, on the device; an arm holds rows of it."""

    images: Tensor  # uint8 (n, C, S, S): real, synthetic, unfiltered synthetic ones
    labels: Tensor  # (n,)
    first_fake: dict[str, int]  # where the synthetic ones of a source begin


@dataclass(frozen=True)
class _Draw:
    """Rows of the shelf to draw from, and how often each is drawn (sums to 1)."""

    rows: NDArray[np.int64]
    often: NDArray[np.float64]
    log_prior: Tensor | None  # (K,) of balanced softmax


def _train_all(
    material: Material,
    pool: Pool,
    plans: Sequence[_Plan],
    arms: Sequence[Arm],
    allowed: Sequence[NDArray[np.bool_]],
    *,
    updates: int,
    flips: bool,
    device: torch.device,
    progress: Progress,
) -> dict[str, Labels]:
    """Predicted classes (S, n) of every arm for every image of the pool; -1 where a seed does not test.

    `allowed`: for each seed, which of the synthetic images may be trained on.
    """
    shelf = _shelf(material, pool, device)
    predicted = {arm.name: np.full((len(plans), len(pool)), -1, np.int64) for arm in arms}
    stop = threading.Event()

    def work(arm: Arm, seed: int, network: nn.Module) -> tuple[str, int, Labels]:
        if device.type == "cpu":
            torch.set_num_threads(1)  # of this worker: as many workers as cores
        draw = _draw(material, pool, plans[seed], arm, shelf, allowed[seed])
        _train(
            network,
            shelf,
            draw,
            updates=updates,
            seed=seed,
            augment=arm.augmented,
            flips=flips,
            keep_on=lambda: not stop.is_set(),
        )
        return arm.name, seed, _predict(network, shelf.images, plans[seed].test)

    channels, side = shelf.images.shape[1:3]
    classes = len(material.names)
    jobs = [(arm, seed, _network(channels, classes, side, seed, device)) for seed in range(len(plans)) for arm in arms]
    # One thread here too: the number is of the calling thread, and what runs on it should not compete with the workers.
    with one_thread(), ThreadPoolExecutor(_workers(device)) as executor:
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


def _workers(device: torch.device) -> int:
    """As many as there are cores for this process; one for a GPU."""
    if device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shelf(material: Material, pool: Pool, device: torch.device) -> _Shelf:
    sources = {"real": pool, "fake": material.fake}
    if material.unfiltered is not None:
        sources["unfiltered"] = material.unfiltered
    starts = np.cumsum([0, *(len(source) for source in sources.values())]).tolist()
    first = dict(zip(sources, starts, strict=False))
    first["both"] = first["fake"]
    images, labels = _shrunk(list(sources.values()), device)
    return _Shelf(images, labels, first)


def _allowed(material: Material, pool: Pool, plan: _Plan) -> NDArray[np.bool_]:
    """Which synthetic images (n,) may be trained on when these images are tested."""
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


def _shrunk(pools: Sequence[Pool], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images of at most `MOST_SIDE` pixels as uint8, and their classes, on the device, pool after pool."""
    channels, *sides = pools[0].images.shape[1:]
    side = min(MOST_SIDE, max(sides))
    images = torch.empty((sum(map(len, pools)), channels, side, side), dtype=torch.uint8, device=device)
    done = 0
    for pool in pools:
        for start in range(0, len(pool), _BLOCK):
            x = torch.from_numpy(np.ascontiguousarray(pool.images[start : start + _BLOCK])).to(device)
            if x.shape[2:] != (side, side):
                x = functional.interpolate(
                    x.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
                )
                x = x.round().clamp(0, 255).byte()
            images[done : done + len(x)] = x
            done += len(x)
    labels = np.concatenate([pool.labels for pool in pools]).astype(np.int64)
    return images, torch.from_numpy(labels).to(device)


def _network(channels: int, classes: int, side: int, seed: int, device: torch.device) -> nn.Module:
    """The classifier of a seed: the same start for every arm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_classifier(channels, classes, side).to(device)


def _draw(material: Material, pool: Pool, plan: _Plan, arm: Arm, shelf: _Shelf, allowed: NDArray[np.bool_]) -> _Draw:
    """What an arm draws from.

    Where real and synthetic images are mixed, a class's share of real draws is the share of real images in the
    delivered folder, however many of the synthetic ones are at hand.
    """
    classes = len(material.names)
    mine = pool.labels[plan.train]
    n_real = np.bincount(mine, minlength=classes).astype(np.float64)
    mass = n_real.copy() if not arm.balanced else (n_real > 0).astype(np.float64)  # of each class
    rows, often = plan.train.astype(np.int64), (mass / np.maximum(n_real, 1))[mine]
    if arm.source != "real":
        fakes = material.unfiltered if arm.source == "unfiltered" and material.unfiltered else material.fake
        chosen = np.arange(len(fakes)) if arm.source == "unfiltered" else np.flatnonzero(allowed)
        theirs = fakes.labels[chosen]
        n_fake = np.bincount(theirs, minlength=classes).astype(np.float64)
        promised = (material.delivered_unfiltered if arm.source == "unfiltered" else ()) or material.delivered
        delivered = np.where(n_fake > 0, np.array(promised, np.float64), 0.0)
        share = delivered / np.maximum(n_real + delivered, 1) if arm.source != "fake" else (n_fake > 0).astype(float)
        mass = np.maximum(mass, (n_fake > 0) * (share > 0))
        rows = np.concatenate([rows, shelf.first_fake[arm.source] + chosen])
        often = np.concatenate(
            [(mass * (1 - share) / np.maximum(n_real, 1))[mine], (mass * share / np.maximum(n_fake, 1))[theirs]]
        )
    prior = torch.from_numpy(np.log(np.maximum(n_real, 1e-6))).float().to(shelf.labels.device) if arm.adjusted else None
    return _Draw(rows, often / often.sum(), prior)


def _train(
    network: nn.Module,
    shelf: _Shelf,
    draw: _Draw,
    *,
    updates: int,
    seed: int,
    augment: bool,
    flips: bool,
    keep_on: Callable[[], bool],
) -> None:
    """AdamW under a one-cycle schedule that ends near zero, as for the classifier behind the `own` features."""
    rng = np.random.default_rng([seed, 1])
    chosen = draw.rows[rng.choice(len(draw.often), size=(updates, BATCH), p=draw.often)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=max(2, updates + 1))
    fitting = Fitting(BATCH, shelf.images.device, hint="use --device cpu, or leave the verdict out with --no-utility")
    network.train()
    for rows in torch.from_numpy(chosen):
        if not keep_on():
            return
        rows = rows.to(shelf.images.device)
        x = shelf.images[rows].float() / 127.5 - 1.0  # (B, C, S, S)
        x = flipped_and_cropped(x, rng, flips=flips) if augment else x
        loss = classifier_loss(network, x, shelf.labels[rows], 0.0 if draw.log_prior is None else draw.log_prior)
        mean_gradients(loss, len(rows), fitting, optimiser.zero_grad)
        optimiser.step()
        schedule.step()


def flipped_and_cropped(x: Tensor, rng: np.random.Generator, *, flips: bool) -> Tensor:
    """Each image mirrored with probability one half (if `flips`) and moved by up to an eighth of its side.

    Args:
        x: (B, C, S, S) float; what moves in from outside repeats the edge.
        rng: of the choices.
        flips: whether to mirror.
    """
    size, side = len(x), x.shape[-1]
    reach = side // 8
    offsets = torch.from_numpy(rng.integers(0, 2 * reach + 1, size=(2, size, 1))).to(x.device)
    mirrored = torch.from_numpy(rng.random((size, 1)) < 0.5).to(x.device) & flips
    along = torch.arange(side, device=x.device)[None]
    rows = offsets[0] + along  # (B, S)
    cols = offsets[1] + torch.where(mirrored, side - 1 - along, along)
    padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    images = torch.arange(size, device=x.device)[:, None, None]
    return padded[images, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)  # BSSC -> BCSS


def _predict(network: nn.Module, images: Tensor, rows: NDArray[np.intp]) -> Labels:
    """The likeliest class of these rows of the images uint8 (n, C, S, S)."""
    network.eval()
    wanted = torch.from_numpy(rows).to(images.device)
    fitting = Fitting(256, images.device)
    with torch.inference_mode():
        found = fitting.rows(lambda some: network(images[wanted[some]].float() / 127.5 - 1.0).argmax(1), len(wanted))
    return found.cpu().numpy().astype(np.int64)
