"""How much longer a training step of Damage GAN takes than one of ContraD, both measured in one run.

    python benchmarks/running_time.py [--preset paper] [--device auto] [--image-size 32] [--batch-size N]
                                      [--methods damage-gan,contrad] [--rounds 9] [--steps 5] [--epoch 11165]

A round times every method once: some steps whole, then as many discriminator and generator updates by themselves, and
one renewal of what a method renews after an epoch (Damage GAN's masks). The methods take turns, so other load on the
machine affects all of them; the output has medians over the rounds and the median of the rounds' ratios. A
step is one generator update with its discriminator updates, as the loop makes them, in bf16 on CUDA, without reading
images and without the averaged generator, which cost every method the same. `--epoch` says after how many images masks
are renewed: those of the paper's imbalanced CIFAR-10.

Anaissi et al. (arXiv 2312.04862, section 4.3) report that Damage GAN takes twice as long as ContraD.
"""

import argparse
import statistics
import sys

from common import Updates, build, failure, grid_head, line, random_images, report, seconds_of, several, title

from balancegan.compute import device as devices
from balancegan.core.errors import BalanceGANError
from balancegan.methods import METHODS
from balancegan.methods.base import PRESETS

PAIR = ("damage-gan", "contrad")
OTHERS = ("sndcgan", "damage-gan-c")  # for information
PUBLISHED = 2.0
PARTS = ("step", "d", "g", "epoch")


class Timed:
    """A method's updates and their times, round by round."""

    def __init__(self, name, preset, device, flags):
        self.name, self.device = name, device
        self.method = build(preset, device, name, **flags)
        self.method.schedule.last.begin(random_images(self.method, device))
        updates = Updates(self.method, device, amp=device.type == "cuda")
        self.calls = {"step": updates.step, "d": updates.alone("d"), "g": updates.alone("g")}
        self.seconds = {part: [] for part in PARTS}

    def measure(self, steps):
        for part, call in self.calls.items():
            self.seconds[part].append(seconds_of(call, steps, self.device))
        self.seconds["epoch"].append(seconds_of(self.method.on_epoch, 1, self.device))

    def per_step(self, epoch):
        """Seconds of a step in every round, with its share of what follows an epoch of so many images."""
        images = self.method.cfg.batch_size * self.method.cfg.n_critic
        pairs = zip(self.seconds["step"], self.seconds["epoch"], strict=True)
        return [step + renewal * images / epoch for step, renewal in pairs]

    def row(self, epoch):
        medians = {part: statistics.median(values) for part, values in self.seconds.items()}
        row = {f"{part}_ms": round(1000 * value, 3) for part, value in medians.items()}
        row["with_epoch_ms"] = round(1000 * statistics.median(self.per_step(epoch)), 3)
        row["d_share"] = round(medians["d"] / (medians["d"] + medians["g"]), 3)
        return {"batch_size": self.method.cfg.batch_size, "image_size": self.method.cfg.image_size, **row}


def measure(names, preset, device, *, rounds=9, steps=5, epoch=11165, **flags):
    """Medians by method, and the ratio of the first two with and without what follows an epoch."""
    timed = [Timed(name, preset, device, flags) for name in names]
    for one in timed:
        one.measure(2)  # warm up: choose kernels and allocate memory
        one.seconds = {part: [] for part in PARTS}
    for _ in range(rounds):
        for one in timed:
            one.measure(steps)
    first, second, *_ = timed
    return {
        "methods": {one.name: one.row(epoch) for one in timed},
        "ratio_of": [first.name, second.name],
        "ratio": ratio(first.seconds["step"], second.seconds["step"]),
        "ratio_with_epoch": ratio(first.per_step(epoch), second.per_step(epoch)),
        "preset": preset,
        "rounds": rounds,
        "steps": steps,
        "epoch": epoch,
    }


def ratio(first, second):
    """The median of the rounds' ratios, with the lowest and the highest."""
    values = [a / b for a, b in zip(first, second, strict=True)]
    return {"median": round(statistics.median(values), 3), "range": [round(min(values), 3), round(max(values), 3)]}


def show(result):
    """A table of the medians, and the ratio in the last line."""
    head = ("method", "batch", "px", "ms a step", "ms with renewals", "ms D", "ms G", "D's share of D + G")
    lines = grid_head(*head)
    for name, row in result["methods"].items():
        times = (f"{row[key]:.4g}" for key in ("step_ms", "with_epoch_ms", "d_ms", "g_ms"))
        size = (str(row["batch_size"]), str(row["image_size"]))
        lines.append(line(title(name), *size, *times, f"{row['d_share']:.0%}"))
    first, second = map(title, result["ratio_of"])
    low, high = result["ratio_with_epoch"]["range"]
    lines += ["", f"{first} / {second}: {result['ratio']['median']:.2f} a step, "]
    lines[-1] += f"{result['ratio_with_epoch']['median']:.2f} with renewals every {result['epoch']:,} images"
    lines[-1] += f" ({low:.2f} to {high:.2f} in {result['rounds']} rounds of {result['steps']} steps)"
    if tuple(result["ratio_of"]) == PAIR:
        lines[-1] += f"; published: {PUBLISHED:g}"
    return "\n".join(lines)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=several(str, tuple(METHODS)), default=[*PAIR, *OTHERS])
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, help="for all methods; default each preset's own")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="per round")
    parser.add_argument("--epoch", type=int, default=11165, help="images between two renewals of the masks")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args(argv)
    if len(args.methods) < 2:
        parser.error("a ratio needs two methods")
    if min(args.rounds, args.steps, args.epoch) < 1:
        parser.error("--rounds, --steps and --epoch are at least 1")
    return args


def main(argv=None):
    args = parse(argv)
    flags = {"image_size": args.image_size, "batch_size": args.batch_size}
    try:
        device = devices.resolve_device(args.device)
        devices.prepare(device)
        result = measure(
            args.methods, args.preset, device, rounds=args.rounds, steps=args.steps, epoch=args.epoch, **flags
        )
    except BalanceGANError as error:
        return failure(error)
    report(result, show, args.preset, device, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
