"""How well do the verdict's classifiers learn real images, and how long do they take?

Trains one arm on the training split of DATA and tests it on its test split, once per number of updates. `budget` is the
number that the verdict would use. Prints one row each: balanced accuracy, mean recall of the rarest third of the
classes, accuracy on the training images, seconds on one core (or the GPU).

    python benchmarks/classifiers.py DATA [--updates budget,15000] [--augmentation "flips and crops"] [--seeds 1]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from balancegan.core.rows import rows_by_class
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.verdict.arms import BASELINE, arm_named
from balancegan.verdict.augmentation import CROPS, FLIPS, NONE, Augmentation
from balancegan.verdict.classifiers import Job, Part, Shelf, mixed_draw, train_jobs
from balancegan.verdict.material import Pool, SplitPlan
from balancegan.verdict.networks import SMALL

AUGMENTATIONS = {
    str(a): a for a in (NONE, CROPS, FLIPS, Augmentation(True, False, True), Augmentation(True, True, True))
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--updates", default="budget")
    parser.add_argument("--arm", default=BASELINE)
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, default=str(FLIPS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device, arm = torch.device(args.device), arm_named(args.arm)
    store = open_store(scan(args.data), DecodeSettings(image_size=args.image_size))
    classes = len(store.classes)
    train, test = (np.flatnonzero(store.splits == split) for split in ("train", "test"))
    shelf = Shelf.of([Pool(store.images, store.labels)], classes, SMALL.side, device)
    draw = mixed_draw([Part.all_of(train, store.labels[train], classes)], balanced=arm.balanced)
    counts = np.bincount(store.labels[train], minlength=classes)
    rare = np.argsort(counts, kind="stable")[: max(1, classes // 3)]
    print(f"{arm.name}, {args.augmentation}: {len(train):,} images of {classes} classes", flush=True)
    for word in args.updates.split(","):
        updates = SMALL.budget(len(train), device) if word == "budget" else int(word)
        for seed in range(args.seeds):
            job = Job(arm, seed, SplitPlan(train, test), draw, AUGMENTATIONS[args.augmentation], updates)
            began = time.perf_counter()
            (result,) = train_jobs([job], shelf, SMALL, device)
            seconds = time.perf_counter() - began
            right = result.predicted == store.labels[test]
            recall = np.array([right[rows].mean() for rows in rows_by_class(store.labels[test], classes)])
            print(
                f"updates {updates:6,}  seed {seed}  balanced accuracy {recall.mean():6.1%}  "
                f"rarest {recall[rare].mean():6.1%}  training images {result.training_accuracy:6.1%}  {seconds:6.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
