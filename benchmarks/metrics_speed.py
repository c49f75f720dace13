"""Time of the features, FID and KID beside torch-fidelity's, in one run, and how far the values agree.

    python benchmarks/metrics_speed.py --weights FILE --data FOLDER [--images 128] [--rows 10000] [--rounds 3]
                                       [--only features|statistics] [--cli]

`--data` is searched for image files, all of one size. Without weights and data only the statistics are timed, on random
features. `--cli` also compares with the whole of torch-fidelity's own command line, on two folders of `--images` each:
from a new process to the printed distances.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from floors import flops, matrix_rate
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.inception import InceptionExtractor, _inception
from balancegan.metrics.kid import kernel_distance
from balancegan.metrics.weights import read_state

DIM = 2048
BATCH = 64  # torch-fidelity's own
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.inception import InceptionExtractor
from balancegan.metrics.kid import kernel_distance
extractor = InceptionExtractor(Path(sys.argv[1]))
first, second = (
    extractor(np.stack([np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file in files]))
    for files in (sorted(Path(folder).iterdir()) for folder in sys.argv[2:4])
)
print(frechet_distance(feats_real=first, feats_fake=second))
print(kernel_distance(feats_real=first, feats_fake=second, subset_size=int(sys.argv[4]))[0])
"""


def paired(ours, theirs, rounds):
    """Median seconds of either, taken in turn, and the median of theirs over ours."""
    times = []
    for _ in range(rounds):
        pair = []
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    return a, b, statistics.median(pair[1] / pair[0] for pair in times)


def show(what, result, floor=None):
    ours, theirs, ratio = result
    least = f", floor {floor:.2f} s ({ours / floor:.2f} times that)" if floor else ""
    print(f"{what}: {ours:.2f} s, torch-fidelity {theirs:.2f} s: ratio {ratio:.2f}{least}", flush=True)


def agree(what, ours, theirs, tolerance):
    off = abs(ours - theirs)
    verdict = "within" if off <= tolerance else "NOT within"
    print(f"  {what}: {ours:.7g} beside {theirs:.7g}, {verdict} {tolerance:.1g}", flush=True)


# Features -------------------------------------------------------------------------------------------------------------


def chosen_files(folder, count):
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    order = np.random.default_rng(0).permutation(len(files))[:count]
    return [files[i] for i in order]


def pixels(files):
    return np.stack([np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1) for f in files])


def compare_features(weights, files, rounds, rate):
    images = pixels(files)
    extractor = InceptionExtractor(weights)
    state = read_state(weights)
    state.setdefault("fc.weight", torch.zeros(1008, DIM))
    state.setdefault("fc.bias", torch.zeros(1008))
    network = _inception(state, weights)
    found = {}

    def ours():
        found["ours"] = extractor(images)

    def theirs():
        with torch.no_grad():
            parts = [network(torch.from_numpy(images[i : i + BATCH]))[0] for i in range(0, len(images), BATCH)]
        found["theirs"] = torch.cat(parts).numpy()

    extractor(images[:8])
    floor = flops(lambda: network(torch.from_numpy(images[:1]))) * len(images) / rate
    result = paired(ours, theirs, rounds)
    show(f"Inception features of {len(images)} images", result, floor)
    print(f"  {len(images) / result[0]:.1f} images/s, torch-fidelity {len(images) / result[1]:.1f}")
    off = np.linalg.norm(found["ours"] - found["theirs"], axis=1) / np.linalg.norm(found["theirs"], axis=1)
    agree("largest distance of an image's features, over their length", off.max(), 0.0, 1e-5)


def compare_command_lines(weights, files, rounds):
    half = len(files) // 2
    subset = half // 2
    with tempfile.TemporaryDirectory() as place:
        for name, some in (("a", files[:half]), ("b", files[half : 2 * half])):
            (Path(place) / name).mkdir()
            for i, file in enumerate(some):
                Image.open(file).convert("RGB").save(Path(place) / name / f"{i:06d}.png")
        said = {}

        def run(name, command):
            said[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout

        fidelity = shutil.which("fidelity", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        theirs = [fidelity, "--input1", f"{place}/a", "--input2", f"{place}/b", "--fid", "--kid", "--cpu", "--json"]
        theirs += ["--silent", "--no-cache", "--kid-subset-size", str(subset)]
        theirs += ["--feature-extractor-weights-path", str(weights)]
        ours = [sys.executable, "-c", SCRIPT, str(weights), f"{place}/a", f"{place}/b", str(subset)]
        show(
            f"From a new process to FID and KID of {half} + {half} files",
            paired(lambda: run("ours", ours), lambda: run("theirs", theirs), rounds),
        )
        fid, kid = map(float, said["ours"].split())
        found = json.load(io.StringIO(said["theirs"]))
        agree("FID", fid, found["frechet_inception_distance"], 1e-3 * fid)
        agree("KID, of other subsets", kid, found["kernel_inception_distance_mean"], 3 * deviation(found, 100))


def deviation(found, subsets):
    return found["kernel_inception_distance_std"] / np.sqrt(subsets)


# Statistics -----------------------------------------------------------------------------------------------------------


def random_features(rows, seed, mean=0.4):
    """(rows, 2048) with the mean and about the spectrum that Inception's features of photographs have."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((DIM, DIM)))[0]
    spread = 4.0 * np.arange(1, DIM + 1) ** -0.7
    return np.maximum((rng.standard_normal((rows, DIM)) * spread) @ basis + mean, 0).astype(np.float32)


def compare_statistics(rows, rounds, rate, rate_double):
    real, fake = random_features(rows, 0), random_features(rows, 1, mean=0.43)
    subset = min(1000, rows // 2)
    found = {}

    def fid():
        found["fid"] = frechet_distance(feats_real=real, feats_fake=fake)

    def their_fid():
        stats = [fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
        found["their fid"] = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]

    # A symmetric product costs half of a product; the covariances are needed in any case.
    show(f"FID of {rows:,} + {rows:,} features", paired(fid, their_fid, rounds), 2 * rows * DIM**2 / rate_double)
    agree("FID", found["fid"], found["their fid"], 1e-4 * found["fid"])

    def kid():
        found["kid"] = kernel_distance(feats_real=real, feats_fake=fake, subset_size=subset)

    def their_kid():
        sets = (torch.from_numpy(x) for x in (real, fake))
        found["their kid"] = kid_features_to_metric(*sets, kid_subset_size=subset, verbose=False)

    work = min(4 * 100 * subset**2, 4 * rows**2) * DIM  # two symmetric products and one that is not
    show(f"KID of {rows:,} + {rows:,} features, 100 subsets of {subset}", paired(kid, their_kid, rounds), work / rate)
    theirs = found["their kid"]
    within = 3 * np.hypot(found["kid"][1] / 10, deviation(theirs, 100))  # other subsets
    agree("KID, of other subsets", found["kid"][0], theirs["kernel_inception_distance_mean"], within)
    alike = kernel_distance(feats_real=real[:subset], feats_fake=fake[:subset])[0]
    sets = (torch.from_numpy(x[:subset]) for x in (real, fake))
    theirs = kid_features_to_metric(*sets, kid_subsets=1, kid_subset_size=subset, verbose=False)
    agree("KID, of the same images", alike, theirs["kernel_inception_distance_mean"], 1e-6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cli", action="store_true")
    parser.add_argument("--only", choices=("features", "statistics"))
    args = parser.parse_args()
    cpu = torch.device("cpu")
    rate, rate_double = matrix_rate(cpu), matrix_rate(cpu, torch.float64)
    print(f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s, {rate_double / 1e9:.0f} in double precision")
    if args.weights and args.data and args.only != "statistics":
        files = chosen_files(args.data, args.images)
        compare_features(args.weights, files, args.rounds, rate)
        if args.cli:
            compare_command_lines(args.weights, files, args.rounds)
    if args.only != "features":
        compare_statistics(args.rows, args.rounds, rate, rate_double)


if __name__ == "__main__":
    main()
