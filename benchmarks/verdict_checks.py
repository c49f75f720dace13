"""Does the report say the right thing where the truth is known? `evaluate` on folders made from real images.

Every case takes disjoint real images for REAL and makes "synthetic" ones of known worth:

    halves    other real images: what a perfect generator would make
    starved   the same, for REAL with a test split and a twentieth of all classes but the first: they must help
    copied    half of them copies of REAL's images
    one       one image repeated
    shuffled  other real images under random labels: they must do harm

Prints one row per case: FID over its floor (a ratio), KID over its deviation, the highest copy rate of a class, the
kind of warnings, and the verdict. Only the training split of DATA is used.

    python benchmarks/verdict_checks.py DATA [--images 200] [--cases halves,shuffled] [--weights FILE]
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from balancegan.commands.evaluate import EvaluateOptions
from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.data.scan import scan
from balancegan.evaluation.assembly import Judging
from balancegan.metrics.extractors import choose

CASES = ("halves", "starved", "copied", "one", "shuffled")
STARVED = 20
WORDS = {"Mode collapse": "collapse", "Low diversity": "low diversity", "Copies": "copies"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=200, help="per class and folder")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--weights", type=Path, help="Inception weights; without them the features are the own ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    pools = members(args.data, args.images)
    judging = Judging(choose("inception" if args.weights else "own", args.weights), torch.device(args.device))
    print(f"{'case':10} {'FID/floor':>10} {'KID/std':>8} {'copies':>7}  verdict         warnings", flush=True)
    for case in args.cases.split(","):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            make(case, pools, folder)
            found = evaluate_folders(
                folder / "real", folder / "fake", EvaluateOptions(out=folder / "report"), judging, progress=show
            )
        print(
            f"{row(case, found)}  ({time.perf_counter() - began:.0f} s)\n{'':10} {found['utility']['headline']}",
            flush=True,
        )


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
        for side, files in sides.items():
            (folder / side / name).mkdir(parents=True)
            for number, path in enumerate(files):
                shutil.copy(path, folder / side / name / f"{number:05d}{path.suffix}")


def row(case: str, found: dict) -> str:
    overall = found["overall"]
    said = [f["text"].split(":")[0] for f in found["findings"] if f["level"] == "warning" and f["class"]]
    warnings = ", ".join(f"{WORDS[word]} ({said.count(word)} classes)" for word in WORDS if word in said)
    copies = max(c["copy_rate"] for c in found["classes"])
    floor = overall["fid"] / overall["fid_floor"]
    kid = overall["kid"] / overall["kid_std"]
    return f"{case:10} {floor:10.2f} {kid:8.2f} {copies:7.1%}  {found['utility']['verdict']:15} {warnings or '-'}"


def show(stage: str, done: int, total: int) -> None:
    if stage in ("classifiers", "report") and sys.stderr.isatty():
        print(f"\r{stage} {done}/{total}", end="" if done < total else "\n", file=sys.stderr)


if __name__ == "__main__":
    main()
