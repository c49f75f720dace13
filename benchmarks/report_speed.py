"""Time and memory of `evaluate` on two folders, by stage, for growing numbers of real images.

    python benchmarks/report_speed.py --data FOLDER [--images 6000,60000] [--per-class 500] [--seeds 1]

`--data` has train/CLASS/ and test/CLASS/. Of its training images as many are linked into a folder as `--images` says,
alike many of each class; the synthetic images are means of two of a class. Features come from the small classifier
(`--extractor own`). Every number of images is measured in a process of its own; its memory is the largest sum over the
process and its children.
"""

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

EVERY = 0.05  # seconds between two looks at the memory
STAGES = {
    "scan": ("balancegan.commands.evaluate_folders", "scan"),
    "decode": ("balancegan.commands.evaluate_folders", "open_store"),
    "shortcuts": ("balancegan.commands.evaluate_folders", "shortcut_checks"),
    "training of the features' classifier": ("balancegan.metrics.classifier_features", "OwnExtractor.fit"),
    "features": ("balancegan.metrics.features", "Cached.__call__"),
    "FID": ("balancegan.evaluation.measures", "frechet_distance"),
    "KID": ("balancegan.evaluation.measures", "kernel_distance"),
    "precision and recall": ("balancegan.evaluation.measures", "prdc"),
    "SSIM": ("balancegan.evaluation.measures", "_similarities"),
    "copies": ("balancegan.evaluation.measures", "measure_copies"),
    "utility": ("balancegan.evaluation.assembly", "measure_utility"),
    "t-SNE": ("balancegan.evaluation.document", "feature_embedding"),
    "page": ("balancegan.report.write", "render_html"),
    "pictures": ("balancegan.report.write", "draw_pictures"),
    "figures": ("balancegan.report.write", "write_figures"),
}


# Inside a process of its own ------------------------------------------------------------------------------------------


class Clock:
    """Seconds spent in each stage, those of a stage inside another left out of the outer one."""

    def __init__(self):
        self.seconds, self._open = dict.fromkeys(STAGES, 0.0), []

    def watch(self, name, module, attribute):
        *inner, last = attribute.split(".")
        owner = functools.reduce(getattr, inner, __import__(module, fromlist=["_"]))
        original = owner.__dict__[last]
        kind = type(original) if isinstance(original, classmethod | staticmethod) else None
        work = original.__func__ if kind else original

        @functools.wraps(work)
        def timed(*args, **kwargs):
            start, outer = time.perf_counter(), self._open
            self._open = []
            try:
                return work(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[name] += spent - sum(self._open)
                self._open = [*outer, spent]

        setattr(owner, last, kind(timed) if kind else timed)


def memory():
    """Resident bytes of this process and of those that it started."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total


def evaluate_here(real, fake, out, seeds):
    import torch

    from balancegan.commands.evaluate import EvaluateOptions
    from balancegan.commands.evaluate_folders import evaluate_folders
    from balancegan.evaluation.assembly import Judging
    from balancegan.metrics.extractors import choose

    clock, peaks, over = Clock(), {"whole": 0}, threading.Event()
    for name, (module, attribute) in STAGES.items():
        clock.watch(name, module, attribute)

    def look():
        while not over.wait(EVERY):
            peaks["whole"] = max(peaks["whole"], memory())

    before = memory()
    watcher = threading.Thread(target=look)
    watcher.start()
    start = time.perf_counter()
    try:
        judging = Judging(choose("own"), torch.device("cpu"), utility=seeds > 0, seeds=max(1, seeds))
        evaluate_folders(real, fake, EvaluateOptions(out=out), judging)
    finally:
        over.set()
        watcher.join()
    whole = time.perf_counter() - start
    print(json.dumps({"seconds": clock.seconds | {"whole": whole}, "before": before, "peak": peaks["whole"]}))


# Outside --------------------------------------------------------------------------------------------------------------


def make_folders(data, place, count, per_class):
    """Linked real images and made synthetic ones; how many of the real ones are for training, and a picture's bytes."""
    rng = np.random.default_rng(0)
    classes = sorted(p.name for p in (data / "train").iterdir() if p.is_dir())
    made = 0
    for name in classes:
        files = sorted((data / "train" / name).iterdir())
        share = files[: max(2, round(count / len(classes)))]
        for split, some in (("train", share), ("test", sorted((data / "test" / name).iterdir()))):
            folder = place / "real" / split / name
            folder.mkdir(parents=True)
            for file in some:
                (folder / file.name).symlink_to(file.resolve())
        made += len(share)
        folder = place / "fake" / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            pair = [np.asarray(Image.open(files[k]), np.float32) for k in rng.choice(len(files), 2, replace=False)]
            Image.fromarray((sum(pair) / 2).astype(np.uint8)).save(folder / f"{i:05d}.png")
    return made


def measured(data, count, per_class, seeds):
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made = make_folders(data, place, count, per_class)
        words = [sys.executable, __file__, "--inside", str(place), "--seeds", str(seeds)]
        env = {**os.environ, "BALANCEGAN_CACHE_DIR": str(place / "cache")}
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        store = sum(p.stat().st_size for p in (place / "cache").rglob("images.u8"))
    return made, store, json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", default="6000,60000")
    parser.add_argument("--per-class", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each classifier; 0: no utility")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return evaluate_here(args.inside / "real", args.inside / "fake", args.inside / "out", args.seeds)
    if not args.data:
        parser.error("--data is needed")
    columns = [measured(args.data, int(n), args.per_class, args.seeds) for n in args.images.split(",")]
    print("| | " + " | ".join(f"{made:,} training images" for made, _, _ in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in (*STAGES, "whole"):
        print(f"| {name}, s | " + " | ".join(f"{found['seconds'][name]:.1f}" for *_, found in columns) + " |")
    print("| decoded images, MB | " + " | ".join(f"{store / 1e6:.0f}" for _, store, _ in columns) + " |")
    for name, value in (("peak memory, MB", "peak"), ("memory before, MB", "before")):
        print(f"| {name} | " + " | ".join(f"{found[value] / 1e6:,.0f}" for *_, found in columns) + " |")
    (_, few, first), (_, many, last) = columns[0], columns[-1]
    if many > few:
        grown = (last["peak"] - first["peak"]) / (many - few)
        print(f"Memory grew by {grown:.2f} bytes for each byte of decoded images.")
    return None


if __name__ == "__main__":
    main()
