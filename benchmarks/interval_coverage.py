"""How often do the verdict's intervals hold the true difference, and how wide are they?

    python benchmarks/interval_coverage.py [--repeats 1000] [--seeds 1 2 3 5] [--out FILE.md]
    python benchmarks/interval_coverage.py --answers FILE.npz

Simulates the right and wrong answers of two arms whose true recalls are known. An image of a class is answered right
when the sum of these is above zero: the class's constant; the image's ease (deviation 3); how much it suits the arm
(1); how much it suits this training run (1); how well this run learned the class (0.3); how well it learned at all
(0.05). All are normal. Rows are test sets; each is simulated with the accuracies and true differences of `TRUTHS`. The
score is balanced accuracy, with one class its recall. "Before" are the intervals used until now: a bootstrap over the
images of each class, plus noise between the seeds with a t distribution.

The simulation computes the intervals for arrays of repetitions. In every row, three repetitions are checked against
`balancegan.verdict`, which the last table uses throughout.

`--answers` samples from the answers of trained classifiers instead: `labels` (n,), and `first` and `second` (S, n) with
the classes that ten seeds or more of two arms predict for a large test set.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import norm, t

from balancegan.verdict.intervals import IMAGINARY, LEAST_BETWEEN, interval
from balancegan.verdict.scores import Answers, score

EASE, SUITS_ARM, SUITS_RUN, CLASS_IN_RUN, RUN = 3.0, 1.0, 1.0, 0.3, 0.05
SPREAD = (EASE**2 + SUITS_ARM**2 + SUITS_RUN**2 + CLASS_IN_RUN**2 + RUN**2) ** 0.5

SETS = {f"{n} x {k}": (n,) * k for k in (1, 2, 5, 20) for n in (5, 6, 10, 20, 50, 500)}
SETS |= {", ".join(map(str, counts)): counts for counts in ((500, 10), (10, 8, 7, 6, 5), (1400, 64, 45, 19, 7))}

# recall of the second arm, difference of the first, whether the last class alone differs (by that much)
SAME = [(0.4, 0, False), (0.7, 0, False), (0.85, 0, False), (0.95, 0, False), (0.995, 0, False)]
OTHER = [(0.85, 0.05, False), (0.9, -0.1, False), (0.4, 0.45, False), (0.95, -0.4, True), (0.995, -0.3, True)]
TRUTHS = SAME + OTHER

METHODS = ("now", "before")


# Simulated answers ----------------------------------------------------------------------------------------------------


def right_answers(rng, repeats, counts, seeds, truth):
    """One array (repeats, 2 arms, S, n) per class, and the true difference in balanced accuracy."""
    base, gain, last_only = truth
    gains = np.where(np.arange(len(counts)) < len(counts) - 1, 0 if last_only else gain, gain)
    recalls = np.stack([base + gains, np.full(len(counts), base)])  # (2, K)

    def drawn(deviation, *shape):
        return np.float32(deviation) * rng.standard_normal(shape, dtype=np.float32)

    run = drawn(RUN, repeats, 2, seeds, 1)
    answers = []
    for k, n in enumerate(counts):
        latent = drawn(EASE, repeats, 1, 1, n) + drawn(SUITS_ARM, repeats, 2, 1, n)
        latent = latent + drawn(SUITS_RUN, repeats, 2, seeds, n)
        latent += drawn(CLASS_IN_RUN, repeats, 2, seeds, 1) + run
        answers.append(latent > (-SPREAD * norm.ppf(recalls[:, k])).astype(np.float32)[:, None, None])
    return answers, float(gains.mean())


def summed(answers):
    """What the intervals follow from, per repetition and class; the answers themselves are not needed any more."""

    def between_answers(x):  # what is left of (R, S, n) without the images' and the seeds' means
        rest = x - x.mean(axis=2, keepdims=True)
        return ((rest - rest.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))

    differences = [a[:, 0].astype(np.float32) - a[:, 1] for a in answers]
    return {
        "recall": np.stack([a.mean(axis=3) for a in answers], axis=3),  # (R, 2, S, K)
        "squares": np.stack([squares_of(d.mean(axis=1)) for d in differences], axis=1),  # (R, K)
        "rest": np.stack([between_answers(d) for d in differences], axis=1),  # (R, K), of the difference
        "rest_of_arms": np.stack(
            [sum(between_answers(a[:, arm].astype(np.float32)) for arm in (0, 1)) for a in answers], axis=1
        ),
    }


def squares_of(x):
    return ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)


# Intervals ------------------------------------------------------------------------------------------------------------


def now(found, counts, level=0.95):
    """The formula of `balancegan.verdict.intervals` for balanced accuracy where every seed tests every image."""
    n, k = np.array(counts, float), len(counts)
    recall, seeds = found["recall"], found["recall"].shape[2]
    estimate = (recall[:, 0] - recall[:, 1]).mean(axis=(1, 2))
    imaginary = IMAGINARY * n**-2 / (n**-2).sum()
    by_class = (found["squares"] + imaginary) / ((n + imaginary) * (n + imaginary - 1)) / k**2
    variance, doubt = by_class.sum(axis=1), (by_class**2 / (n + imaginary - 1)).sum(axis=1)
    least = LEAST_BETWEEN / seeds * (by_class * n).sum(axis=1)
    beyond = least
    if seeds > 1:
        between = recall.mean(axis=3).var(axis=2, ddof=1).sum(axis=1)
        by_images = (found["rest_of_arms"] / (n * (n - 1))).sum(axis=1) / (seeds - 1) / k**2
        beyond = np.maximum(between - by_images, least)
        doubt = doubt + (between / seeds) ** 2 / (2 * (seeds - 1))
    variance = variance + beyond / seeds
    margin = t.ppf((1 + level) / 2, np.maximum(1, variance**2 / doubt)) * np.sqrt(variance)
    return np.maximum(-1, estimate - margin), np.minimum(1, estimate + margin)


def before(found, counts):
    """The former intervals, with a normal distribution for the bootstrap's."""
    n, k = np.array(counts, float), len(counts)
    recall, seeds = found["recall"], found["recall"].shape[2]
    by_seed = (recall[:, 0] - recall[:, 1]).mean(axis=2)
    rng = np.random.default_rng(0)
    spread = np.sqrt((found["squares"] / n**2).sum(axis=1))[:, None] / k * rng.standard_normal(2000)
    if seeds > 1:
        by_images = (found["rest"] / n**2).sum(axis=1) / (seeds - 1) / k**2
        beyond = np.maximum(0, by_seed.var(axis=1, ddof=1) - by_images)
        spread = spread + np.sqrt(beyond / seeds)[:, None] * rng.standard_t(seeds - 1, 2000)
    low, high = np.percentile(spread, (2.5, 97.5), axis=1)
    return by_seed.mean(axis=1) + low, by_seed.mean(axis=1) + high


def by_product(answers, row, tested=None):
    """The scores of both arms in one repetition, by the product."""
    counts = [a.shape[3] for a in answers]
    labels, classes = np.repeat(np.arange(len(counts)), counts), max(2, len(counts))
    right = np.concatenate([a[row] for a in answers], axis=2)  # (2, S, n)
    told = np.where(right, labels, (labels + 1 + np.arange(len(labels)) % (classes - 1)) % classes)
    told = told if tested is None else np.where(tested, told, -1)
    return score([Answers("first", told[0]), Answers("second", told[1])], labels, classes)


def check(answers, low, high):
    for row in range(3):
        first, second = by_product(answers, row)
        told = interval(first.balanced_accuracy - second.balanced_accuracy)
        np.testing.assert_allclose([low[row], high[row]], [told["low"], told["high"]], atol=1e-4)


# Tables ---------------------------------------------------------------------------------------------------------------


def outcome(low, high, truth):
    low, high = np.asarray(low), np.asarray(high)
    return {
        "held": np.mean((low <= truth) & (truth <= high)),
        "above": np.mean(low > truth),
        "below": np.mean(high < truth),
        "width": np.mean(high - low),
        "better": np.mean(low > 0),
        "worse": np.mean(high < 0),
    }


def measure(counts, seeds, repeats, seed):
    """Outcomes by method, one per truth; large test sets in blocks that fit memory."""
    found = {name: [] for name in METHODS}
    block = int(min(repeats, max(20, 2e7 / (2 * seeds * max(counts)))))
    for number, truth in enumerate(TRUTHS):
        rng, ends = np.random.default_rng([seed, number]), {name: [] for name in METHODS}
        for start in range(0, repeats, block):
            answers, gain = right_answers(rng, min(block, repeats - start), counts, seeds, truth)
            sums = summed(answers)
            ends["now"].append(now(sums, counts))
            ends["before"].append(before(sums, counts))
            if not start:
                check(answers, *ends["now"][0])
        for name in METHODS:
            found[name].append(outcome(*np.concatenate(ends[name], axis=1), gain))
    return found


def cells(found):
    """One row's cells: lowest and mean coverage, highest one-sided error, false claims without a difference, width."""
    rows = []
    for name in METHODS:
        of = found[name]
        rows.append(
            (
                f"{100 * min(o['held'] for o in of):.1f} ({100 * np.mean([o['held'] for o in of]):.1f})",
                f"{100 * max(max(o['above'], o['below']) for o in of):.1f}",
                f"{100 * np.mean([o['better'] for o in of[: len(SAME)]]):.1f}, "
                f"{100 * np.mean([o['worse'] for o in of[: len(SAME)]]):.1f}",
                f"{100 * np.mean([o['width'] for o in of]):.1f}",
            )
        )
    return [f"{new} / {old}" for new, old in zip(*rows, strict=True)]


HEAD = [
    "coverage, lowest (mean)",
    "one-sided error, highest",
    "falsely better, worse",
    "mean width, points",
]


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def others(repeats):
    """Macro F1, and seeds that test other images, by the product."""
    rows = []
    for title, counts in (("6 x 5", (6,) * 5), ("20 x 5", (20,) * 5), ("500, 40, 10", (500, 40, 10))):
        for design in ("every seed tests all", "folds", "half each"):
            ends = {"balanced_accuracy": [], "macro_f1": []}
            rng = np.random.default_rng(0)
            answers, _ = right_answers(rng, repeats, counts, 3, (0.85, 0, False))
            for row in range(repeats):
                turn = np.concatenate([rng.permutation(n) for n in counts])
                tested = None
                if design == "folds":
                    tested = turn % 3 == np.arange(3)[:, None]
                elif design == "half each":
                    tested = np.stack([np.concatenate([rng.permutation(n) % 2 for n in counts]) == 0 for _ in range(3)])
                first, second = by_product(answers, row, tested)
                for name, of in ends.items():
                    told = interval(getattr(first, name) - getattr(second, name))
                    of.append((told["low"], told["high"]))
            for name, of in ends.items():
                got = outcome(*np.array(of).T, 0.0)
                figures = [100 * got["held"], 100 * max(got["above"], got["below"]), 100 * got["width"]]
                rows.append([title, design, name.replace("_", " "), *(f"{x:.1f}" for x in figures)])
    return table(["test images", "design", "score", "coverage", "one-sided error", "mean width, points"], rows)


def real(path, repeats):
    """Samples of a large test set's images and of many seeds, against the difference on all of them."""
    saved, rng, rows = np.load(path), np.random.default_rng(0), []
    labels, arms = saved["labels"], (saved["first"], saved["second"])
    classes = int(labels.max()) + 1
    members = [np.flatnonzero(labels == k) for k in range(classes)]
    first, second = score([Answers("", told) for told in arms], labels, classes)
    truth = (first.balanced_accuracy - second.balanced_accuracy).value
    for n in (5, 6, 10, 20, 50):
        for seeds in (1, 3):
            ends = []
            for _ in range(repeats):
                mine = np.concatenate([rng.choice(m, n, replace=False) for m in members])
                told = [Answers("", arm[rng.choice(len(arm), seeds, replace=False)][:, mine]) for arm in arms]
                first, second = score(told, labels[mine], classes)
                row = interval(first.balanced_accuracy - second.balanced_accuracy)
                ends.append((row["low"], row["high"]))
            got = outcome(*np.array(ends).T, truth)
            figures = [100 * got["held"], 100 * max(got["above"], got["below"]), 100 * got["width"]]
            rows.append([f"{n} x {classes}", str(seeds), *(f"{x:.1f}" for x in figures)])
    head = ["test images", "seeds", "coverage", "one-sided error", "mean width, points"]
    return f"True difference {100 * truth:+.1f} points.\n\n" + table(head, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 5])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--answers", type=Path, help="a trained pair of arms instead of simulated ones")
    chosen = parser.parse_args()
    if chosen.answers:
        print(real(chosen.answers, chosen.repeats))
        return
    started, parts = time.monotonic(), []
    for seeds in chosen.seeds:
        rows = []
        for title, counts in SETS.items():
            rows.append([title, *cells(measure(counts, seeds, chosen.repeats, seed=seeds))])
            print(seeds, *rows[-1], sep=" | ", file=sys.stderr, flush=True)
        parts.append(f"## {seeds} seed{'s' if seeds > 1 else ''}\n\n" + table(["images x classes", *HEAD], rows))
    parts.append("## Other scores, and seeds that test different images\n\n" + others(max(20, chosen.repeats // 2)))
    text = "\n\n".join(parts) + f"\n\n{time.monotonic() - started:.0f} s.\n"
    print(text)
    if chosen.out:
        chosen.out.write_text(text)


if __name__ == "__main__":
    main()
