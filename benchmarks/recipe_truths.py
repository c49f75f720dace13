"""Does the search for the share choose rightly when it is known what the generated images are worth?

    python benchmarks/recipe_truths.py digits [--truths noise,blur,one,wrong,perfect,copies,varied,half] [--seeds 20]
    python benchmarks/recipe_truths.py FOLDER [--pool FOLDER] [--size 32] [--seeds 3]

`digits` is scikit-learn's set with 170 training images of the first class and 17 of each other one. FOLDER has train
images; perfect images are taken from --pool, whose train images have the same names of files and classes but more of
them.

The truths: noise; blur (real images without any detail); one (one real image a class, with a little grain); wrong
(real images of other classes); perfect (real images that are withheld from training); copies (training images with a
little grain); varied (training images, changed as transformed ones are: what a generator makes that has memorised them
and little else); half (perfect and noise, each a half). Every line has the shares that were chosen, the best row of the
table, and the seconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.data.variations import variations
from balancegan.metrics.kept_classes import safe_changes
from balancegan.verdict.material import Material, Pool, Varied
from balancegan.verdict.share_runs import Question
from balancegan.verdict.share_search import first_look, search_shares

TRUTHS = ("noise", "blur", "one", "wrong", "perfect", "copies", "varied", "half")
DIGITS = {digit: 170 if digit == 0 else 17 for digit in range(10)}
SHOWN = 500  # generated images of each class
LOOKED = 64


def digits(seed, size=16):
    """Training images (N, 1, S, S) of ten digits, labels (N,), and the withheld images class by class."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found, rng = load_digits(), np.random.default_rng(seed)
    images = np.stack(
        [
            np.asarray(Image.fromarray((x * 15.9375).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC))
            for x in found.images
        ]
    )[:, None]
    real, labels, rest = [], [], []
    for k, (digit, n) in enumerate(DIGITS.items()):
        rows = rng.permutation(np.flatnonzero(found.target == digit))
        real.append(images[rows[:n]])
        labels += [k] * n
        rest.append(images[rows[n:]])
    return np.concatenate(real), np.array(labels), rest


def folder(path, pool, size):
    """The same of a folder; withheld are the images of `pool` that the folder lacks."""
    data = scan(path)
    store = open_store(data, DecodeSettings(image_size=size))
    rows = store.indices("train")
    real, labels = store.images[rows], store.labels[rows].astype(np.int64)
    rest = [real[:0]] * len(store.classes)
    if pool:
        have = {Path(store.files[row].rel).name + str(store.labels[row]) for row in rows}
        more = open_store(scan(pool), DecodeSettings(image_size=size))
        chosen = [
            row for row in more.indices("train") if Path(more.files[row].rel).name + str(more.labels[row]) not in have
        ]
        of = more.labels[chosen]
        rest = [more.images[np.array(chosen)[of == k]] for k in range(len(store.classes))]
    return real, labels, rest


def made(truth, real, labels, rest, rng, changes):
    """Generated images of every class (n, C, S, S), and their classes."""
    found = []
    for k in range(labels.max() + 1):
        mine = real[labels == k]
        grain = lambda x: (x + rng.normal(0, 4, x.shape)).clip(0, 255).astype(np.uint8)  # noqa: E731
        if truth == "noise":
            images = rng.integers(0, 256, (SHOWN, *real.shape[1:])).astype(np.uint8)
        elif truth == "blur":
            from scipy.ndimage import gaussian_filter

            some = mine[rng.integers(len(mine), size=SHOWN)].astype(np.float32)
            images = gaussian_filter(some, (0, 0, real.shape[2] / 6, real.shape[3] / 6)).astype(np.uint8)
        elif truth == "one":
            images = grain(np.repeat(mine[rng.integers(len(mine))][None], SHOWN, 0))
        elif truth == "wrong":
            others = real[labels != k]
            images = others[rng.integers(len(others), size=SHOWN)]
        elif truth == "perfect":
            images = rest[k][:SHOWN]
        elif truth == "copies":
            images = grain(mine[rng.integers(len(mine), size=SHOWN)])
        elif truth == "varied":
            images = variations(real, np.flatnonzero(labels == k), SHOWN, changes, seed=1000)[0]
        elif truth == "half":
            some = rest[k][: SHOWN // 2]
            noise = rng.integers(0, 256, (len(some), *real.shape[1:])).astype(np.uint8)
            images = rng.permutation(np.concatenate([some, noise]))
        found.append(images)
    return Pool(np.concatenate(found), np.repeat(np.arange(len(found)), [len(x) for x in found]))


def question(real, labels, fake, changes, seed, groups=None, progress=lambda *a: None):
    """As `augment --target-ir 1` would ask it."""
    counts = np.bincount(labels)
    fill = counts.max() - counts
    parts = [
        variations(real, np.flatnonzero(labels == k), min(int(n), 1000), changes, seed) for k, n in enumerate(fill)
    ]
    varied = Varied(
        Pool(np.concatenate([p[0] for p in parts]), np.repeat(np.arange(len(fill)), [len(p[1]) for p in parts])),
        np.concatenate([p[1] for p in parts]),
    )
    needs = fill[fake.labels] > 0
    material = Material(
        [str(k) for k in range(len(counts))],
        Pool(real, labels),
        Pool(fake.images[needs], fake.labels[needs]),
        None,
        "folds",
        [0] * len(counts),
        may_have_seen=True,
        groups=groups,
        transformed=varied,
    )
    return Question(material, counts.tolist(), fill.tolist(), torch.device("cpu"), flips=changes.flips)


def some_of_each(pool, n):
    rows = np.concatenate([np.flatnonzero(pool.labels == k)[:n] for k in np.unique(pool.labels)])
    return Pool(pool.images[rows], pool.labels[rows])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--truths", default=",".join(TRUTHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--look", action="store_true", help="with the first look, as `augment` does")
    args = parser.parse_args(argv)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        real, labels, rest = digits(seed) if args.data == "digits" else folder(Path(args.data), args.pool, args.size)
        changes = safe_changes([real[labels == k] for k in range(labels.max() + 1)])
        for truth in args.truths.split(","):
            rng = np.random.default_rng(seed)
            fake = made(truth, real, labels, rest, rng, changes)
            began = time.perf_counter()
            row = {"data": Path(args.data).name, "truth": truth, "seed": seed, "changes": str(changes)}
            if args.look:
                outcome = first_look(question(real, labels, some_of_each(fake, LOOKED), changes, seed))
                row["hopeless"] = outcome.hopeless
                row["look_seconds"] = round(time.perf_counter() - began, 1)
            if not row.get("hopeless"):
                outcome = search_shares(question(real, labels, fake, changes, seed))
            row["shares"] = sorted(set(outcome.shares))
            best = max(outcome.rows, key=lambda r: r.compared.value)
            row["best"] = [best.share, *(round(x, 3) for x in (best.compared.value, best.compared.low))]
            row["table"] = [
                [r.share, len(r.group), *(round(x, 3) for x in (r.compared.value, r.compared.low, r.compared.high))]
                for r in outcome.rows
            ]
            row["recognised"] = [round(outcome.recognised, 2), round(outcome.recognised_real, 2)]
            row["seconds"] = round(time.perf_counter() - began, 1)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
