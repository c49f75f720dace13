"""Generating and writing images: what it takes in all, and what each of its stages takes alone.

    python benchmarks/sampling.py [--images 5000] [--image-size 32] [--width 8] [--rounds 3] [--before DIR] [--work DIR]

Makes a folder of noise, trains one step on it, and lets `augment` add N images, through the product's own path. The
seconds are those of filling the classes, from the first sample to the last file. Beside them, of the same images in the
same run: generation alone, encoding alone and writing alone, the latter two with as many threads as the product takes.

No order of the stages can be faster than the slowest of them, nor than the CPU time of all of them over the number of
cores, where generation is on the CPU: the larger of the two is the floor. `--before` names another checkout, which is
timed in turn with this one. Two numbers of images show that the time is linear in it.

    python benchmarks/sampling.py --levels DATA

prints time and bytes of PNG's compression levels for images of a folder, at several sizes.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent.parent
REAL = 20  # images per class, of which there are two


def make_folder(root, size):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(REAL):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


def make_run(work, args):
    """A run of one step, whose generator costs what `width` says."""
    words = [
        sys.executable,
        "-m",
        "balancegan",
        "train",
        str(work / "data"),
        "--preset",
        "tiny",
        "--method",
        "cwgan-gp",
    ]
    words += ["--image-size", str(args.image_size), "--steps", "1", "--batch-size", "4", "--device", args.device]
    words += ["--set", f"width={args.width}", "--out", str(work / "runs"), "-q"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class Clock:
    """Wall time and CPU time of this process, all threads together."""

    def __enter__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu

    def row(self):
        return [self.wall, self.cpu]


def child(work, n, device, with_stages):
    """In a process of its own: fill the classes and print the seconds; and those of each stage alone."""
    from balancegan.commands.augment import AugmentOptions, augment
    from balancegan.compute.device import prepare, resolve_device
    from balancegan.folder.fill import Filling
    from balancegan.runs.directory import find_run

    device = resolve_device(device)
    prepare(device)
    found, original = {}, Filling.fill

    def timed(filling, *args, **more):
        filling.samplers[0].chunk(0, 0)  # what is only done once
        with Clock() as clock:
            result = original(filling, *args, **more)
            filling.folder.flush()
        found["all"] = clock.row()
        if with_stages:
            found.update(stages(filling, n))
        return result

    Filling.fill = timed
    counts = dict.fromkeys(("a", "b"), REAL + n // 2)
    # Nothing is removed before the end: ext4 makes files ten times as slowly for some seconds after many were removed.
    out = Path(tempfile.mkdtemp(dir=work)) / "out"
    options = AugmentOptions(out=out, counts=counts, real="none", filter="none", report=False)
    augment(find_run(None, work / "runs"), options, device=device)
    written = list(out.rglob("syn_*"))
    found["bytes"] = sum(path.stat().st_size for path in written) / len(written)
    print(json.dumps(found))


def stages(filling, n):
    """Seconds of generating, encoding and writing n images, each without the others."""
    from balancegan.core.files import write_atomic
    from balancegan.core.grid import to_pil
    from balancegan.folder.export import SAVE_OPTIONS
    from balancegan.sampling.samplers import CHUNK

    with Clock() as generate:
        chunks = [filling.samplers[0].chunk(label, k) for label in (0, 1) for k in range(-(-n // 2 // CHUNK))]
    images = np.concatenate(chunks)[:n]

    def encoded(image):
        return png(to_pil(image), **SAVE_OPTIONS["PNG"])

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        with Clock() as encode:
            contents = list(pool.map(encoded, images))
        place = tempfile.mkdtemp(dir=filling.folder.out.parent)
        with Clock() as write:
            list(pool.map(write_atomic, [Path(place) / f"{i}.png" for i in range(len(contents))], contents))
    return {"generate": generate.row(), "encode": encode.row(), "write": write.row()}


def run_child(tree, work, n, device, with_stages):
    words = [sys.executable, __file__, "--child", str(n), "--work", str(work), "--device", device]
    words += ["--stages"] * with_stages
    environment = {**os.environ, "PYTHONPATH": str(tree), "BALANCEGAN_CACHE_DIR": str(work / "cache")}
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(args, work):
    rows, before = [], []
    for _ in range(args.rounds):
        rows.append(run_child(HERE, work, args.images, args.device, with_stages=True))
        if args.before:
            before.append(run_child(args.before.absolute(), work, args.images, args.device, with_stages=False))
    half = [run_child(HERE, work, args.images // 2, args.device, with_stages=False) for _ in range(args.rounds)]
    cores = os.cpu_count() or 1
    n = args.images
    print(f"{n:,} images of {args.image_size} px, {statistics.median(r['bytes'] for r in rows):,.0f} bytes each:")
    for name in ("generate", "encode", "write", "all"):
        wall, cpu = (statistics.median(row[name][k] for row in rows) for k in (0, 1))
        print(f"  {name}: {wall:.2f} s ({n / wall:,.0f} images/s), {cpu:.2f} s of CPU")
    on_cpu = args.device == "cpu"
    names = ("generate", "encode", "write") if on_cpu else ("encode", "write")
    floors = [
        max(max(r[k][0] for k in ("generate", "encode", "write")), sum(r[k][1] for k in names) / cores) for r in rows
    ]
    ratios = sorted(row["all"][0] / least for row, least in zip(rows, floors, strict=True))
    sums = [sum(row[k][0] for k in ("generate", "encode", "write")) for row in rows]
    one_by_one = statistics.median(row["all"][0] / total for row, total in zip(rows, sums, strict=True))
    print(f"  floor: {statistics.median(floors):.2f} s; all of it / floor: {statistics.median(ratios):.2f}", end=" ")
    print(f"({ratios[0]:.2f} to {ratios[-1]:.2f}); all of it / stages one by one: {one_by_one:.2f}")
    share = statistics.median(2 * h["all"][0] / r["all"][0] for h, r in zip(half, rows, strict=True))
    print(f"  per image, {n // 2:,} / {n:,} images: {share:.2f}")
    if before:
        change = statistics.median(row["all"][0] / b["all"][0] for row, b in zip(rows, before, strict=True))
        cpu = statistics.median(row["all"][1] / b["all"][1] for row, b in zip(rows, before, strict=True))
        size = rows[0]["bytes"] / before[0]["bytes"]
        print(f"  now / before: {change:.2f} of the time, {cpu:.2f} of the CPU time, {size:.2f} of the bytes")


def levels(folder, most=500):
    """CPU time and bytes of an image by level, over those of level 6."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // most)][:most]]
    for side in (32, 64, 128):
        resized = [picture.resize((side, side), Image.Resampling.LANCZOS) for picture in pictures]
        found = {level: [] for level in (6, 1, 2, 3, 4, 9)}
        for _ in range(3):
            for level, rounds in found.items():
                with Clock() as clock:
                    size = sum(len(png(picture, compress_level=level)) for picture in resized)
                rounds.append((clock.cpu, size))
        at_6 = found[6]
        for level, rounds in found.items():
            ratio = statistics.median(a[0] / b[0] for a, b in zip(rounds, at_6, strict=True))
            each = statistics.median(r[0] for r in rounds) / len(resized) * 1e6
            print(
                f"{side} px, level {level}: {each:,.0f} us, {ratio:.2f} of level 6's; "
                f"{rounds[0][1] / len(resized):,.0f} bytes, {rounds[0][1] / at_6[0][1]:.2f}"
            )


def png(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=8, help="of the generator: 8 makes it cheap")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--work", type=Path, help="folder on the disk that is written to [default: a temporary one]")
    parser.add_argument("--levels", type=Path, metavar="DATA")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child is not None:
        child(args.work, args.child, args.device, args.stages)
        return 0
    if args.levels:
        levels(args.levels)
        return 0
    with tempfile.TemporaryDirectory(dir=args.work) as place:
        work = Path(place)
        os.environ["BALANCEGAN_CACHE_DIR"] = str(work / "cache")
        make_folder(work / "data", args.image_size)
        make_run(work, args)
        measure(args, work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
