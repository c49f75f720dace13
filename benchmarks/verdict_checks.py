"""Does the report say the right thing where the truth is known? `evaluate` on folders made from real images.

Every case takes disjoint real images for REAL and makes "synthetic" ones of known worth:

    halves    other real images: what a perfect generator would make
    starved   the same, for REAL with a test split and a twentieth of all classes but the first: they must help
    copied    half of them copies of REAL's images
    one       one image repeated
    shuffled  other real images under random labels: they must do harm
    siblings  REAL's test images are its training images, shifted and under another exposure: no honest test is possible
    twice     DATA thinned to an exponential imbalance of 100, and withheld real images, twice as many as it kept of
              each class: what a perfect generator would make; they must help
    fivefold  the same with five times as many
    noise     noise in place of the images of `twice`: it must do harm

Prints one row per case: FID over its floor (a ratio), KID over its deviation, the highest copy rate of a class, the
kind of warnings, and the verdict. Only the training split of DATA is used, except in the last three cases, whose test
images are those of DATA's test split.

    python benchmarks/verdict_checks.py DATA [--images 200] [--cases halves,shuffled] [--weights FILE]
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance

from balancegan.commands.evaluate import EvaluateOptions
from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.commands.imbalance import make_imbalanced
from balancegan.data.scan import scan
from balancegan.evaluation.assembly import Judging
from balancegan.metrics.extractors import choose

CASES = ("halves", "starved", "copied", "one", "shuffled", "siblings", "twice", "fivefold", "noise")
TAILED = {"twice": 2, "fivefold": 5, "noise": 2}  # synthetic images for each one that is left
STARVED = 20
WORDS = {"Mode collapse": "collapse", "Low diversity": "low diversity", "Copies": "copies"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=200, help="per class and folder")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--image-size", type=int, help="side in pixels; by default that of the images")
    parser.add_argument("--weights", type=Path, help="Inception weights; without them the features are the own ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    pools = members(args.data, args.images)
    choice = choose("inception" if args.weights else "own", args.weights)
    judging = Judging(choice, torch.device(args.device), metrics=frozenset({"fid", "kid", "copies", "ssim"}))
    print(f"{'case':10} {'FID/floor':>10} {'KID/std':>8} {'copies':>7}  verdict         warnings", flush=True)
    for case in args.cases.split(","):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            if case in TAILED:
                tail(case, args.data, folder)
            else:
                make(case, pools, folder)
            found = evaluate_folders(
                folder / "real",
                folder / "fake",
                EvaluateOptions(out=folder / "report", image_size=args.image_size),
                judging,
                progress=show,
            )
        said = found["utility"].get("headline") or found["utility"]["note"]
        print(f"{row(case, found)}  ({time.perf_counter() - began:.0f} s)\n{'':10} {said}", flush=True)


def members(data: Path, images: int) -> dict[str, list[list[Path]]]:
    """Class -> three disjoint random lists of its files: for REAL, for FAKE, and half as many for a test split."""
    folder = scan(data)
    rng = random.Random(0)
    pools = {}
    for label, name in enumerate(folder.classes):
        files = [folder.path(f) for f in folder.files if f.label == label and f.split == "train"]
        size = min(len(files) * 2 // 5, images)
        rng.shuffle(files)
        pools[name] = [files[:size], files[size : 2 * size], files[2 * size : 2 * size + size // 2]]
    return pools


def make(case: str, pools: dict[str, list[list[Path]]], folder: Path) -> None:
    """Write REAL and FAKE of a case."""
    rng = random.Random(1)
    every = [path for _, others, _ in pools.values() for path in others]
    rng.shuffle(every)
    for index, (name, (ours, others, test)) in enumerate(pools.items()):
        sides = {"real": ours, "fake": others}
        if case == "starved":
            few = ours[: max(2, len(ours) // STARVED)] if index else ours
            sides = {"real/train": few, "real/test": test, "fake": others}
        elif case == "copied":
            sides["fake"] = others[: len(others) // 2] + ours[: len(ours) - len(others) // 2]
        elif case == "one":
            sides["fake"] = others[:1] * len(others)
        elif case == "shuffled":
            sides["fake"], every = every[: len(others)], every[len(others) :]
        elif case == "siblings":
            sides = {"real/train": ours, "real/test": ours[: len(test)], "fake": others}
        for side, files in sides.items():
            (folder / side / name).mkdir(parents=True)
            for number, path in enumerate(files):
                write = sibling if (case, side) == ("siblings", "real/test") else shutil.copy
                write(path, folder / side / name / f"{number:05d}{path.suffix}")


def tail(case: str, data: Path, folder: Path) -> None:
    """Write REAL, thinned to an exponential imbalance, and FAKE from what was taken away, or from noise."""
    make_imbalanced(data, folder / "real", scheme="exp", ir=100)
    kept = {path.relative_to(folder / "real") for path in (folder / "real/train").rglob("*") if path.is_file()}
    rng, noise = random.Random(2), np.random.default_rng(2)
    for source in sorted(path for path in (data / "train").iterdir() if path.is_dir()):
        away = sorted(path for path in source.iterdir() if path.relative_to(data) not in kept)
        left = sum(path.parent.name == source.name for path in kept)
        target = folder / "fake" / source.name
        for number, path in enumerate(rng.sample(away, min(len(away), TAILED[case] * left))):
            target.mkdir(parents=True, exist_ok=True)
            if case == "noise":
                with Image.open(path) as image:
                    shape = (image.height, image.width, 3)
                Image.fromarray(noise.integers(0, 256, shape, np.uint8)).save(target / f"{number:05d}.png")
            else:
                shutil.copy(path, target / f"{number:05d}{path.suffix}")


def sibling(path: Path, target: Path) -> None:
    """Write the same picture as if taken a moment later: brighter, and shifted by a thirtieth of its side."""
    with Image.open(path) as image:
        changed = ImageEnhance.Brightness(image.convert("RGB")).enhance(1.3)
    by = max(1, changed.width // 30)
    ImageChops.offset(changed, by, by).save(target.with_suffix(".png"))


def row(case: str, found: dict) -> str:
    overall = found["overall"]
    said = [f["text"].split(":")[0] for f in found["findings"] if f["level"] == "warning" and f["class"]]
    warnings = ", ".join(f"{WORDS[word]} ({said.count(word)} classes)" for word in WORDS if word in said)
    leak = any("probably have siblings in" in f["text"] for f in found["findings"])
    warnings += ", leak between the splits" if leak else ""
    copies = max(c["copy_rate"] or 0 for c in found["classes"])
    floor = overall["fid"] / overall["fid_floor"]
    kid = overall["kid"] / overall["kid_std"]
    return f"{case:10} {floor:10.2f} {kid:8.2f} {copies:7.1%}  {found['utility']['verdict']!s:15} {warnings or '-'}"


def show(stage: str, done: int, total: int) -> None:
    if stage in ("classifiers", "report") and sys.stderr.isatty():
        print(f"\r{stage} {done}/{total}", end="" if done < total else "\n", file=sys.stderr)


if __name__ == "__main__":
    main()
