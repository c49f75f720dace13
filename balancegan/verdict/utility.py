"""Measures whether synthetic images help classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from balancegan.compute.memory import memory_errors
from balancegan.core.documents import Json
from balancegan.core.progress import Progress, silent
from balancegan.core.rows import first_of_each
from balancegan.core.text import plural
from balancegan.verdict import scores as verdict
from balancegan.verdict.arms import ARMS, BASELINE, CANDIDATE, DECIDING, TRANSFORMED, Arm, contents
from balancegan.verdict.augmentation import Augmentation
from balancegan.verdict.classifiers import Job, Part, Result, Shelf, mixed_draw, train_jobs
from balancegan.verdict.copy_guard import CopyGuard
from balancegan.verdict.first_pass import FirstPass, first_pass
from balancegan.verdict.intervals import SETTLED, images_to_settle
from balancegan.verdict.material import (
    Material,
    Pool,
    SplitPlan,
    not_measured,
    split_plans,
    why_not,
)
from balancegan.verdict.networks import SMALL, Network
from balancegan.verdict.probabilities import probability_scores
from balancegan.verdict.rule import RULE, WEAK_TEST, headline, judge, judge_classes

SEEDS = 3
LEARNED = 0.9  # accuracy on the training images, the mean over classes, at which a classifier has learned them
QUICK = 1 / 3  # part of the budget that each run of the first pass gets


def measure_utility(
    material: Material,
    *,
    device: torch.device,
    seeds: int = SEEDS,
    updates: int | None = None,
    arms: str = "auto",
    network: Network = SMALL,
    progress: Progress = silent,
) -> Json:
    """Train every arm once per seed, test it, and form the verdict.

    Args:
        material: the images to train and test on.
        device: where the classifiers are trained; on a CPU each uses one core, and several are trained at once.
        seeds: training runs per arm.
        updates: per training run; by default the network's budget for the real training images.
        arms: "all"; "deciding" for the baseline, balanced softmax, the judged arm and the strongest real-only one of
            a quick first pass; "auto" for these on a CPU and all elsewhere.
        network: the classifier.
        progress: called as `("first pass", runs done, runs)`, then as `("classifiers", runs done, runs)`.

    Returns:
        The `utility` part of the report's document.
    """
    if reason := why_not(material):
        return not_measured(reason)
    pool, plans = split_plans(material, seeds)
    n_test = np.bincount(pool.labels[_tested(plans)], minlength=len(material.names)).tolist()
    if reason := _untellable(material, n_test):
        return not_measured(reason)
    with memory_errors(device, "use --device cpu, or skip the verdict with --no-utility"):
        return Measurement(material, pool, plans, network, device, progress).run(arms, updates)


def _tested(plans: Sequence[SplitPlan]) -> NDArray[np.intp]:
    return np.unique(np.concatenate([plan.test for plan in plans]))


def _untellable(material: Material, n_test: Sequence[int]) -> str | None:
    """Why the test images cannot carry a verdict, or None."""
    enough = [n >= verdict.MIN_TEST for n in n_test]
    few = ", ".join(f"{name} has {n}" for name, n, ok in zip(material.names, n_test, enough, strict=True) if not ok)
    hint = "Set more real images aside with --holdout, or add a test split to the data."
    filled = material.filled
    if not any(filled):
        return "No class needs synthetic images, so there is nothing to judge."
    if sum(enough) < 2:
        return f"No verdict: at least two classes need {verdict.MIN_TEST} or more real test images; {few}. {hint}"
    if not any(n and ok for n, ok in zip(filled, enough, strict=True)):
        return (
            f"No verdict: no class that received synthetic images has {verdict.MIN_TEST} or more real test images; "
            f"{few}. {hint}"
        )
    return None


class Measurement:
    """Trains and tests the arms on one material, and judges it."""

    def __init__(
        self,
        material: Material,
        pool: Pool,
        plans: Sequence[SplitPlan],
        network: Network,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.material, self.pool, self.plans = material, pool, plans
        self.network, self.device, self.progress = network, device, progress
        self.names = list(material.names)
        self.left_out = 0  # synthetic images that copy test images

    def run(self, wanted: str, updates: int | None) -> Json:
        """Choose, train, test and judge."""
        updates = updates or self.network.budget(len(self.plans[0].train), self.device)
        every = self.device.type != "cpu" if wanted == "auto" else wanted == "all"
        choice = first_pass(
            self.pool,
            self.plans,
            self.material.groups,
            len(self.names),
            network=self.network,
            updates=max(1, int(QUICK * updates)),
            look_for_strongest=not every,
            device=self.device,
            progress=partial(self.progress, "first pass"),
        )
        arms = self._arms(every, choice)
        fakes = self._pools(arms, updates, choice)
        results = self.train(arms, fakes, updates, choice.augmentation)
        return self._document(arms, results, choice) | {
            "seeds": len(self.plans),
            "updates": updates,
            "batch_size": self.network.batch,
            "network": self.network.name,
            "image_size": min(self.network.side, max(self.pool.images.shape[2:])),
            "pools": len({id(fake) for fake in fakes}),
        }

    def _arms(self, every: bool, choice: FirstPass) -> list[Arm]:
        names = {arm.name for arm in ARMS} if every else {*DECIDING}
        if choice.strongest is not None:
            names.add(choice.strongest.name)
        material = self.material
        possible = {
            "unfiltered": material.unfiltered is not None and any(material.delivered),
            "transformed": material.transformed is not None and any(material.delivered),  # else it is the candidate
            "generated": len(material.fake) > 0 and (every or any(material.delivered)),
        }
        return [arm for arm in ARMS if arm.name in names and possible.get(arm.source, True)]

    def _pools(self, arms: Sequence[Arm], updates: int, choice: FirstPass) -> list[Pool]:
        """Each seed's synthetic images: new ones where drawing them takes less time than the classifiers do."""
        first, again = self.material.fake, self.material.resampling
        training = choice.seconds * updates * len(arms) * len(self.plans)
        if again is None or again.seconds * (len(self.plans) - 1) > training:
            return [first] * len(self.plans)
        return [first, *(again.pool(seed) for seed in range(1, len(self.plans)))]

    def train(
        self, arms: Sequence[Arm], fakes: Sequence[Pool], updates: int, augmentation: Augmentation
    ) -> dict[str, list[Result]]:
        """Train every arm once per seed, on that seed's synthetic images; each arm's results, seed by seed."""
        unfiltered, varied = self.material.unfiltered or self.material.fake, self.material.variations
        distinct = {id(pool): pool for pool in (self.pool, unfiltered, varied.pool, *fakes)}  # seeds may share images
        shelf = Shelf.of(list(distinct.values()), len(self.names), self.network.side, self.device)
        starts = dict(zip(distinct, shelf.starts, strict=False))
        jobs, guards = [], {id(fake): CopyGuard(self.material, self.pool, fake) for fake in fakes}
        for seed, plan in enumerate(self.plans):
            usable = guards[id(fakes[seed])].allowed(plan)
            self.left_out = max(self.left_out, len(fakes[seed]) - len(usable))
            rows = (
                (self.pool, plan.train),
                (fakes[seed], _bootstrapped(usable, fakes[seed].labels, seed)),
                (varied.pool, varied.of(plan.train)),
                (unfiltered, _bootstrapped(np.arange(len(unfiltered)), unfiltered.labels, seed)),
            )
            n_real = np.bincount(self.pool.labels[plan.train], minlength=len(self.names))
            inside = usable[first_of_each(fakes[seed].labels[usable], self.material.delivered)]
            for arm in arms:
                parts = [
                    Part(starts[id(pool)] + mine, pool.labels[mine], share)
                    for (pool, mine), share in zip(rows, contents(self.material, n_real, arm), strict=True)
                ]
                if arm.source == "folder":  # other generated images may lie beside it
                    mine = _bootstrapped(inside, fakes[seed].labels, seed)
                    parts[1] = Part(starts[id(fakes[seed])] + mine, fakes[seed].labels[mine], parts[1].share)
                draw = mixed_draw(parts, balanced=arm.balanced)
                jobs.append(Job(arm, seed, plan, draw, arm.augmented(augmentation), updates))
        results = train_jobs(jobs, shelf, self.network, self.device, partial(self.progress, "classifiers"))
        found: dict[str, list[Result]] = {arm.name: [] for arm in arms}
        for job, result in zip(jobs, results, strict=True):
            found[job.arm.name].append(result)
        return found

    def _to_settle(self, scores: Mapping[str, verdict.Scores]) -> Json | None:
        """How many more test images of which class would tell a difference of 2 points from none."""
        difference = scores[CANDIDATE].balanced_accuracy - scores[BASELINE].balanced_accuracy
        more = images_to_settle(difference)
        if more is None:
            return None
        return {"points": 100 * SETTLED, "images": {self.names[k]: n for k, n in more.items()}}

    def _document(self, arms: Sequence[Arm], results: dict[str, list[Result]], choice: FirstPass) -> Json:
        """The scores, differences and verdict as the report's `utility`."""
        tested = _tested(self.plans)
        labels = self.pool.labels[tested]
        told = {arm.name: _told(results[arm.name], self.plans, tested, len(self.names)) for arm in arms}
        answers = [verdict.Answers(name, predicted) for name, (predicted, _) in told.items()]
        scores = dict(zip(told, verdict.score(answers, labels, len(self.names)), strict=True))
        n_test = np.bincount(labels, minlength=len(self.names)).tolist()
        counted = verdict.counted_classes(n_test)
        rows = verdict.arms_json([arm.name for arm in arms], list(scores.values()), self.names)
        for row, arm in zip(rows, arms, strict=True):
            row |= {"title": arm.name[0].upper() + arm.name[1:], "description": arm.description}
            n_real = np.bincount(self.pool.labels[self.plans[0].train], minlength=len(self.names))
            counts = contents(self.material, n_real, arm).sum(axis=0).astype(int).tolist()
            row["train_images"] = dict(zip(self.names, counts, strict=True))
            of_class = probability_scores(told[arm.name][1], labels, counted)
            row |= {key: of_class[key] for key in ("log_loss", "calibration_error")}
            row |= {key: dict(zip(self.names, of_class[key], strict=True)) for key in ("auroc", "auprc")}
            row["training_accuracy"] = float(np.mean([result.training_accuracy for result in results[arm.name]]))
        judged = [arm.name for arm in arms if arm.source != "real"]
        real = [arm.name for arm in arms if arm.source == "real"]
        differences = [verdict.difference_json(name, other, scores, self.names) for name in judged for other in real]
        differences += [verdict.difference_json(BASELINE, arm, scores, self.names) for arm in real if arm != BASELINE]
        if TRANSFORMED in told:
            differences.append(verdict.difference_json(CANDIDATE, TRANSFORMED, scores, self.names))
        decided = judge(differences)
        unfiltered = next((arm.name for arm in arms if arm.source == "unfiltered"), None)
        known = {row["name"]: row["training_accuracy"] for row in rows}
        return {
            "measured": True,
            "verdict": decided,
            "headline": headline(decided, differences),
            "rule": RULE,
            "note": self.network.note,
            "warnings": _warnings(self.material, n_test, len(self.plans), self.left_out),
            "baseline": BASELINE,
            "candidate": CANDIDATE,
            "test": {"kind": self.material.kind, "n": dict(zip(self.names, n_test, strict=True)), "total": len(tested)},
            "augmentation": str(choice.augmentation),
            "augmentation_note": choice.note,
            "first_pass": list(choice.trials),
            "learned": known[BASELINE] >= LEARNED,
            "learned_note": _learned_note(known[BASELINE], known[CANDIDATE]),
            "arms": rows,
            "differences": differences,
            "to_settle": self._to_settle(scores),
            "classes": judge_classes(scores, self.names, n_test, self.material.filled),
            "unfiltered_verdict": judge(differences, unfiltered) if unfiltered else None,
        }


def _told(
    results: Sequence[Result], plans: Sequence[SplitPlan], tested: NDArray[np.intp], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Predicted classes (S, n) and probabilities (S, n, K) of the tested images; -1 and NaN where a seed tests none."""
    predicted = np.full((len(plans), len(tested)), -1, np.int64)
    probabilities = np.full((len(plans), len(tested), num_classes), np.nan, np.float32)
    for seed, (plan, result) in enumerate(zip(plans, results, strict=True)):
        at = np.searchsorted(tested, plan.test)
        predicted[seed, at], probabilities[seed, at] = result.predicted, result.probabilities
    return predicted, probabilities


def _bootstrapped(rows: NDArray[np.intp], labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """A bootstrap sample of each class's rows, so that the seeds also differ in which images they are given."""
    rng = np.random.default_rng([seed, 2])
    of_class = [rows[labels[rows] == label] for label in np.unique(labels[rows])]
    return np.concatenate([rows[:0], *(rng.choice(mine, len(mine)) for mine in of_class)])


def _learned_note(oversampled: float, mixed: float) -> str:
    if oversampled < LEARNED:
        return (
            f"The classifiers had not fully learned the real training images when training ended: oversampling "
            f"recognises {oversampled:.0%} of them. Longer training, as on a GPU, might change the order of the arms."
        )
    text = (
        f"The classifiers have learned the real training images: oversampling recognises {oversampled:.0%} of them, so "
        "longer training would hardly change the order of the arms."
    )
    if mixed < LEARNED:
        text += f" With the synthetic images, which take up part of every batch, it is {mixed:.0%}."
    return text


def _warnings(material: Material, n_test: Sequence[int], seeds: int, left_out: int) -> list[str]:
    found = []
    if seeds < SEEDS:
        found.append(
            f"Only {seeds} training run{'s' if seeds > 1 else ''} per arm: the intervals "
            f"{'barely' if seeds > 1 else 'do not'} reflect run-to-run variation. Use --seeds {SEEDS} or more."
        )
    if material.leaks:
        found.append(
            f"{plural(material.leaks, 'test image was', 'test images were')} left out of the test, because training "
            "images are identical to them or show the same object (siblings)."
        )
    if material.may_have_seen:
        found.append(
            "It is not known what the generator was trained on. If it saw the real test images, the synthetic images "
            "look more useful than they are."
        )
    if left_out:
        found.append(
            f"{left_out:,} synthetic images are near-copies of test images, or may be changed versions of them: the "
            "classifiers were trained without them."
        )
    weak = [f"{name} ({n})" for name, n in zip(material.names, n_test, strict=True) if n < WEAK_TEST]
    if weak:
        found.append(
            f"The verdicts on these classes are weak, because they have few test images: {', '.join(weak)}. Setting "
            "aside more real images would help more than training again."
        )
    return found
