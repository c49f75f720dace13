"""How much faster several processes train than one: `train` under `torchrun` against `train` alone, side by side.

    python benchmarks/ranks.py DATA [--processes 2] [--method sgbgan] [--preset tiny] [--steps 60] [--rounds 3]
                                    [--set width=64,...] [--device auto]

Every round trains from scratch in both ways, with the same batch size and steps. On the CPU both use all cores: one
process with several threads, or several processes with one thread each. The output has the medians of images/s and of
the rounds' ratios: 1 is no gain, and the number of processes is the maximum if each has its own device.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import grid_head, line


def train(launcher, args, out, threads):
    """Return the images per second of one training run."""
    words = [*launcher, "-m", "balancegan", "train", str(args.data), "--method", args.method, "--preset", args.preset]
    words += ["--steps", str(args.steps), "--device", args.device, "--out", str(out), "--json", "--quiet"]
    if args.pretrain_steps is not None:
        words += ["--pretrain-steps", str(args.pretrain_steps)]
    for pair in args.set.split(",") if args.set else ():
        words += ["--set", pair]
    env = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--method", default="sgbgan")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pretrain-steps", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", default="")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    cores = torch.get_num_threads()
    several = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes))
    ways = {
        "one process": ((sys.executable,), None),
        "one process, a core's share": ((sys.executable,), max(1, cores // args.processes)),
        f"{args.processes} processes": (several, max(1, cores // args.processes)),
    }
    found = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            for way, (launcher, threads) in ways.items():
                found[way].append(train(launcher, args, Path(folder) / f"{i}-{threads}-{len(launcher)}", threads))
    first = next(iter(found.values()))
    print("\n".join(grid_head("", "images/s", "over one process", "range")))
    for way, values in found.items():
        ratios = [value / one for value, one in zip(values, first, strict=True)]
        shown = (f"{statistics.median(values):.0f}", f"{statistics.median(ratios):.2f}")
        print(line(way, *shown, f"{min(ratios):.2f} to {max(ratios):.2f}"))


if __name__ == "__main__":
    main()
