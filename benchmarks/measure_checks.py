"""Do the measures without pre-trained networks see known faults, and nothing else? On made faults of real images.

    python benchmarks/measure_checks.py DATA [--groups FILE.csv] [--size 32] [--draws 3] [--only detail|leaks]

Detail: of every class, disjoint random sets of real images serve as reference, and as synthetic images as they are,
blurred (Gaussian, sigma in pixels) and under noise (standard deviation in grey levels). Prints in how many sets detail
was called lacking or too much, for several sizes of the sets.

Leaks: the training images are split at random, by image and by group, and DATA's own test split is probed too. Prints
the share of test images nearer to training than 5% of the training images are to other groups, the p-value, and in how
many splits the probe warned. FILE.csv has the columns file_name and group; without it every image is its own group.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.evaluation.detail import measure_detail
from balancegan.metrics.leak_probe import leak_probe, steady_features

SETS = (6, 15, 60)  # synthetic images; twice as many real ones
BLURS, NOISES = (0.5, 0.6, 0.8), (15,)
HELD = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--groups", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--draws", type=int, default=3, help="sets of real images, and five times as many splits")
    parser.add_argument("--only", choices=("detail", "leaks"))
    args = parser.parse_args()
    store = open_store(scan(args.data), DecodeSettings(image_size=args.size))
    if args.only != "leaks":
        detail(store, args.draws)
    if args.only != "detail":
        leaks(store, groups_of(store, args.groups), 5 * args.draws)


def detail(store, draws: int) -> None:
    print("| synthetic images | " + " | ".join(f"sets of {n}: lacking, too much" for n in SETS) + " |")
    counts: dict[str, dict[int, list[int]]] = {}
    for label in range(len(store.classes)):
        for draw in range(draws):
            rows = np.random.default_rng(draw).permutation(store.indices("train", label))
            for n in (n for n in SETS if len(rows) >= 3 * n):
                for name, fake in faults(store.images[rows[2 * n : 3 * n]], draw).items():
                    found = measure_detail(store.images[rows[: 2 * n]], None, fake, {}, seed=draw)["detail"]
                    row = counts.setdefault(name, {}).setdefault(n, [0, 0, 0])
                    row[:] = [row[0] + bool(found["lacking"]), row[1] + bool(found["noisy"]), row[2] + 1]
    for name, row in counts.items():
        cells = [f"{a} and {b} of {total}" for a, b, total in row.values()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def faults(images, seed: int):
    """Name -> the images as they are, and with faults; faults only in the first draw."""
    made = {"real": images}
    if not seed:
        made |= {f"blurred, {s}": clipped(gaussian_filter(images.astype(float), (0, 0, s, s))) for s in BLURS}
        rng = np.random.default_rng(0)
        made |= {f"noise, {s}": clipped(images + rng.normal(0, s, images.shape)) for s in NOISES}
    return made


def clipped(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def groups_of(store, path: Path | None):
    if path is None:
        return np.arange(len(store))
    with path.open(newline="") as file:
        known = {row["file_name"]: row["group"] for row in csv.DictReader(file)}
    return np.unique([known[file.rel] for file in store.files], return_inverse=True)[1]


def leaks(store, groups, splits: int) -> None:
    feats, labels, train = steady_features(store.images), store.labels, store.indices("train")

    def probe(trained, tested):
        return leak_probe(
            feats_test=feats[tested], feats_train=feats[trained], labels_test=labels[tested],
            labels_train=labels[trained], groups=groups[trained], groups_test=groups[tested], names=store.classes,
        )  # fmt: skip

    print("| split | near | p-value | warnings |")
    for test in ("test", "val"):
        if len(tested := store.indices(test)):
            show(f"own {test}", [probe(train, tested)])
    rngs = [np.random.default_rng(seed) for seed in range(splits)]
    masks = [rng.random(len(train)) < HELD for rng in rngs]
    show("random, by image", [probe(train[~mask], train[mask]) for mask in masks])
    if len(np.unique(groups)) < len(groups):
        masks = [by_group(groups[train], labels[train], rng) for rng in rngs]
        show("random, by group", [probe(train[~mask], train[mask]) for mask in masks])


def by_group(groups, labels, rng):
    """A fifth of every class's groups, at least one."""
    held = []
    for label in np.unique(labels):
        of_class = rng.permutation(np.unique(groups[labels == label]))
        held.append(of_class[: max(1, round(HELD * len(of_class)))])
    return np.isin(groups, np.concatenate(held))


def show(name: str, found) -> None:
    shares, values = [f["closer_share"] for f in found], [f["p_value"] for f in found]
    print(
        f"| {name} | {min(shares):.1%} to {max(shares):.1%} | {min(values):.2g} to {max(values):.2g} "
        f"| {sum(f['leak'] for f in found)} of {len(found)} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
