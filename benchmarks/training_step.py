"""The speed of a training step: the product's loop, a plain loop, and the machine's floor.

    python benchmarks/training_step.py [DATA] [--methods sgbgan,damage-gan] [--preset tiny] [--device auto]
                                       [--image-size S] [--batch-size N] [--width W] [--rounds 5] [--steps 3]

A step is one update of the generator with its updates of the discriminator, after any pre-training. The product's is
the package's own: batches from the cached store, random numbers seeded anew, gradients in parts if need be, the fused
optimiser, sums for the log, the averaged generator. The plain loop (`plain_loop.py`) has the same networks and losses.
They take turns, so other load on the machine affects both; the output has medians over the rounds and the median of the
rounds' ratios.

The floor is the time of the floating-point operations of the product's step at the rate of one large matrix product in
float32 (TF32 or bf16 on CUDA), measured in the same run; work that is done again to save memory traffic is not counted.

DATA is a folder of images by class, by default images of noise are made. `--workers` is the plain loop's.
"""

import argparse
import contextlib
import copy
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import COUNTS, failure, grid_head, line, report, several, title
from floors import flops, matrix_rate, wait
from PIL import Image
from plain_loop import PlainLoop, loader, write_out

from balancegan.commands.train import data_spec
from balancegan.compute import device as devices
from balancegan.core.config import resolve
from balancegan.core.errors import BalanceGANError
from balancegan.data.batches import Batches
from balancegan.data.training_set import open_training_set
from balancegan.methods import METHODS, load_method
from balancegan.methods.base import PRESETS
from balancegan.training.loop import one_step
from balancegan.training.state import State
from balancegan.training.steps import Steps

NOISE_SIDE = 128


def write_noise(folder):
    """JPEG files of as many classes as the other benchmarks have, coarse enough to be decoded like photographs."""
    rng = np.random.default_rng(0)
    for label, count in enumerate(COUNTS):
        (folder / f"class-{label}").mkdir(parents=True)
        for i in range(min(count, 500)):
            coarse = Image.fromarray(rng.integers(0, 256, (NOISE_SIDE // 16,) * 2 + (3,), dtype=np.uint8))
            image = coarse.resize((NOISE_SIDE, NOISE_SIDE), Image.Resampling.BICUBIC)
            image.save(folder / f"class-{label}" / f"{i:04d}.jpg", quality=90)
    return folder


class Pair:
    """The product's loop and the plain one on a method each, with the same weights, and how long their steps took."""

    def __init__(self, name, preset, data, device, flags, workers):
        self.name, self.device, self.seconds = name, device, {"plain": [], "product": []}
        kind = load_method(name)
        stage = {"pretrain_steps": 0} if kind.pretrains() else {}
        fields = kind.Config.__dataclass_fields__
        chosen = {key: value for key, value in flags.items() if key in fields}
        self.cfg = cfg = resolve(kind.Config, kind.presets[preset], flags={**chosen, **stage}, env={})
        found = open_training_set(data, cfg)
        torch.manual_seed(cfg.seed)
        method = kind(cfg)
        method.setup(data_spec(found))
        other = copy.deepcopy(method).to(device)
        batches = Batches.of(found, cfg, device)
        steps = Steps(method.to(device).to(memory_format=torch.channels_last), batches, device)
        for one in (method, other):
            if one.schedule.last.begin:
                one.schedule.last.begin(batches)
        steps.enter(method.schedule.last)
        self.method, self.step = method, partial(one_step, method, batches, State(cfg.seed), steps)
        paths = [found.folder.root / found.store.files[row].rel for row in found.train_rows]
        channels = found.store.images.shape[1]
        images = loader(paths, found.labels[found.train_rows], cfg, channels, workers, pinned=device.type == "cuda")
        self.plain = PlainLoop(name, other, images, device)

    def operations(self):
        """Floating-point operations of a step of the product."""
        with written_out(self.method):
            return flops(self.step)

    def measure(self, steps):
        for kind, step in (("plain", self.plain.step), ("product", self.step)):
            wait(self.device)
            start = time.perf_counter()
            for _ in range(steps):
                step()
            wait(self.device)
            self.seconds[kind].append((time.perf_counter() - start) / steps)

    def row(self):
        plain, product = (self.seconds[kind] for kind in ("plain", "product"))
        ratios = [a / b for a, b in zip(plain, product, strict=True)]
        step = statistics.median(product)
        return {
            "batch_size": self.cfg.batch_size,
            "image_size": self.cfg.image_size,
            "batches": self.method.schedule.last.batches,
            "plain_ms": 1000 * statistics.median(plain),
            "product_ms": 1000 * step,
            "ratio": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
            "images_per_second": self.cfg.batch_size * self.method.schedule.last.batches / step,
            "gflop": self.operations() / 1e9,
        }


@contextlib.contextmanager
def written_out(method):
    """Use conventional layers, which recompute nothing, inside the context."""
    kinds = [(module, module.__class__) for module in method.modules()]
    write_out(method)
    try:
        yield
    finally:
        for module, kind in kinds:
            module.__class__ = kind


def measure(names, preset, data, device, *, rounds=5, steps=3, workers=2, **flags):
    """Measure one row per method."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rates, rows = [], {}
    for name in names:
        pair = Pair(name, preset, data, device, flags, workers)
        pair.measure(2)  # warm up: choose kernels and allocate memory
        pair.seconds = {"plain": [], "product": []}
        for _ in range(rounds):
            pair.measure(steps)
        rows[name] = pair.row()
        rates.append(matrix_rate(device, dtype))  # measured again, since other programs lower it
        del pair  # and the workers with it
    for row in rows.values():
        row["floor_ms"] = 1000 * row["gflop"] * 1e9 / max(rates)
        row["share_of_floor"] = row["floor_ms"] / row["product_ms"]
    return {"methods": rows, "preset": preset, "rounds": rounds, "steps": steps, "gflops_per_second": max(rates) / 1e9}


def show(result):
    """Return a table with one line per method."""
    head = ("method", "px", "batch", "D per G", "plain ms", "product ms", "plain / product", "images/s", "GFLOP")
    lines = grid_head(*head, "floor ms", "share of the floor's rate")
    for name, row in result["methods"].items():
        sizes = (str(row[key]) for key in ("image_size", "batch_size", "batches"))
        low, high = row["range"]
        times = (f"{row['plain_ms']:.4g}", f"{row['product_ms']:.4g}", f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})")
        rest = (f"{row['images_per_second']:.0f}", f"{row['gflop']:.3g}", f"{row['floor_ms']:.3g}")
        lines.append(line(title(name), *sizes, *times, *rest, f"{row['share_of_floor']:.0%}"))
    return "\n".join(lines)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--methods", type=several(str, tuple(METHODS)), default=list(METHODS))
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--device", default="auto")
    for name in ("image-size", "batch-size", "width"):
        parser.add_argument(f"--{name}", type=int, help="for all methods; default each preset's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of each loop in a round")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode for the plain loop")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args(argv)
    if min(args.rounds, args.steps) < 1:
        parser.error("--rounds and --steps are at least 1")
    return args


def main(argv=None):
    args = parse(argv)
    flags = {name: getattr(args, name) for name in ("image_size", "batch_size", "width")}
    budget = {name: getattr(args, name) for name in ("rounds", "steps", "workers")}
    try:
        device = devices.resolve_device(args.device)
        devices.prepare(device)
        with tempfile.TemporaryDirectory() as folder:
            data = args.data or write_noise(Path(folder) / "noise")
            result = measure(args.methods, args.preset, data, device, **budget, **flags)
    except BalanceGANError as error:
        return failure(error)
    report(result, show, args.preset, device, args.json, result["gflops_per_second"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
