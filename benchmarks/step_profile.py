"""Where the time of a training step goes: by phase, by kind of work, and by kernel.

    python benchmarks/step_profile.py [--methods sgbgan,damage-gan] [--preset paper] [--device auto] [--steps 2]
                                      [--image-size S] [--batch-size N] [--out FILE]

A step is one update of the generator with its updates of the discriminator, on one batch of noise, in bf16 on CUDA, as
training makes it. It is timed without the profiler first. The gradient penalty has a graph of its own (a pass over its
own images, of whose weights alone it shares), so here its gradient is taken apart from the other terms', which says
what differentiating twice costs; the time of such a step is printed beside that of the usual one.

On CUDA a kernel counts for the phase in which it was launched and for the operation that launched it; busy is the sum
of all kernels, the rest of a step's time the device waits. On the CPU operations take the kernels' place.
"""

import argparse
import bisect
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
from common import Updates, build, commit_here, grid_head, line, provenance, random_images, seconds_of, several, title
from floors import flops, matrix_rate
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from balancegan.compute import device as devices
from balancegan.core.files import write_json
from balancegan.methods import METHODS
from balancegan.methods.base import PRESETS
from balancegan.nets import losses

KERNELS = 20  # shown, those that take longest
PENALTY, FIRST, SECOND = "penalty forward", "penalty gradient", "penalty double backward"
PHASES = (
    *("d forward", PENALTY, FIRST, "d backward", SECOND, "d optimiser"),
    *("g forward", "g backward", "g optimiser"),
)
DEPTH = 3  # a phase may lie in another, that in a third
KINDS = {  # by words in the names of an operation and of those that called it; the first that fits
    "optimiser": ("adam",),
    "convolution": ("aten::conv", "aten::_conv", "aten::cudnn_conv", "aten::mkldnn_conv"),
    "attention": ("aten::bmm", "aten::baddbmm", "softmax", "attention", "_Attend", "_Gradients"),
    "batch norm": ("batch_norm",),
    "dense": ("aten::mm", "aten::addmm", "aten::mv", "aten::addmv"),
    "cast and copy": ("aten::copy_", "aten::cat", "aten::zero_", "aten::fill_"),
}
OTHER = "element-wise"
PHASE, KIND, KERNEL, MICROSECONDS = range(4)  # of what `trace` finds


class Marked(Updates):
    """Updates whose phases have names."""

    def once(self, update):
        name = update.name
        with record_function(f"{name} forward"), torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            terms = {key: term.float() for key, term in update.loss(*self.x_c).items()}
        self.optimisers[name].zero_grad(set_to_none=True)
        penalty = terms.pop("gp", None)
        with record_function(f"{name} backward"):
            torch.stack(list(terms.values())).sum().backward()
        if penalty is not None:
            with record_function(SECOND):
                penalty.backward()
        with record_function(f"{name} optimiser"):
            self.optimisers[name].step()


def named(name, work):
    """The same function as a phase."""

    def wrapped(*args, **kwargs):
        with record_function(name):
            return work(*args, **kwargs)

    return wrapped


def trace(step, steps, device):
    """(phase, kind, name of the kernel, microseconds) of everything that so many steps did; and all kernels' time."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    marked = mock.patch.object(torch.autograd, "grad", named(FIRST, torch.autograd.grad))
    with marked, profile(activities=activities, acc_events=True) as profiler:
        seconds_of(step, steps, device)
    events = profiler.events()
    started = [e for e in events if e.device_type == DeviceType.CPU and not e.name.startswith("cu")]  # not the driver
    phases = sorted((e.time_range.start, e.time_range.end, e.name) for e in started if e.name in PHASES)
    found = []
    for event in started:
        done = [(event.name, event.self_cpu_time_total)]
        if cuda:
            done = [(k.name, k.duration) for k in event.kernels if k.name != event.name]  # marks have kernels too
        if event.name not in PHASES and done:
            where = phase_of(event.time_range.start, phases)
            found += [(where, kind_of(event), name, us) for name, us in done if us > 0]
    marks = {e.name for e in started}
    whole = sum(e.time_range.elapsed_us() for e in events if e.device_type != DeviceType.CPU and e.name not in marks)
    return found, whole


def phase_of(start, phases):
    """The innermost phase at that time, whichever thread it was: a backward pass has its own."""
    last = bisect.bisect_right(phases, start, key=lambda phase: phase[0])
    around = [name for begin, end, name in phases[max(0, last - DEPTH) : last] if begin <= start < end]
    return around[-1] if around else "between"


def kind_of(event):
    """By the operation's name and those of its callers."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return next((kind for kind, words in KINDS.items() if any(w in n for n in names for w in words)), OTHER)


def summed(found, steps, *columns):
    """Milliseconds of a step by the values in these columns, the longest first."""
    total = Counter()
    for row in found:
        total[" | ".join(row[column] for column in columns)] += row[MICROSECONDS] / 1000 / steps
    return {key: round(ms, 3) for key, ms in total.most_common()}


def measure(name, preset, device, *, steps=2, times=10, **flags):
    """One method's times and shares."""
    rows = {}
    for way, kind in (("step_ms", Updates), ("marked_step_ms", Marked)):
        method = build(preset, device, name, **flags)
        if method.schedule.last.begin:
            method.schedule.last.begin(random_images(method, device))
        updates = kind(method, device, amp=device.type == "cuda")
        seconds_of(updates.step, 3, device)
        rows[way] = round(1000 * seconds_of(updates.step, times, device), 3)
    cfg = method.cfg
    operations = flops(updates.step)
    with mock.patch.object(losses, "gradient_penalty", named(PENALTY, losses.gradient_penalty)):
        found, whole = trace(updates.step, steps, device)
    calls = Counter(row[KERNEL] for row in found)
    longest = list(summed(found, steps, KERNEL).items())[:KERNELS]
    return {
        **{key: getattr(cfg, key) for key in ("batch_size", "image_size")},
        "batches": method.schedule.last.batches,
        **rows,
        "images_per_second": round(1000 * cfg.batch_size * method.schedule.last.batches / rows["step_ms"], 1),
        "gflop": round(operations / 1e9, 1),
        "busy_ms": round(sum(row[MICROSECONDS] for row in found) / 1000 / steps, 3),
        "device_ms": round(whole / 1000 / steps, 3),  # the same, whoever started the kernels
        "kernels_per_step": len(found) // steps,
        "phases_ms": summed(found, steps, PHASE),
        "kinds_ms": summed(found, steps, KIND),
        "phases_and_kinds_ms": summed(found, steps, PHASE, KIND),
        "kernels": [{"name": name[:160], "ms": ms, "calls": calls[name] // steps} for name, ms in longest],
    }


def show(result):
    """Tables of what a step's time is spent on."""
    lines = []
    for name, row in result["methods"].items():
        step, busy = row["step_ms"], row["busy_ms"]
        lines += ["", f"{title(name)}, {row['image_size']} px, batch {row['batch_size']}: {step:.4g} ms a step"]
        lines[-1] += f" ({row['marked_step_ms']:.4g} marked), busy {busy:.4g} ms, {row['kernels_per_step']} kernels,"
        lines[-1] += f" {row['images_per_second']:.0f} images/s, {row['gflop']:.4g} GFLOP"
        for part in ("phases", "kinds"):
            lines += ["", *grid_head(part, "ms", "share of busy")]
            lines += [line(key, f"{ms:.3g}", f"{ms / busy:.0%}") for key, ms in row[f"{part}_ms"].items()]
        lines += ["", *grid_head("kernel", "calls", "ms", "share of busy")]
        for kernel in row["kernels"]:
            cells = (f"`{kernel['name'][:80]}`", str(kernel["calls"]), f"{kernel['ms']:.3g}")
            lines.append(line(*cells, f"{kernel['ms'] / busy:.0%}"))
    return "\n".join(lines)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=several(str, tuple(METHODS)), default=["sgbgan", "damage-gan"])
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=2, help="that are profiled")
    parser.add_argument("--times", type=int, default=10, help="steps that are timed")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--commit", help="what to record where this is no git checkout")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers, written after each method")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse(argv)
    device = devices.resolve_device(args.device)
    devices.prepare(device)
    rates = {str(dtype): matrix_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    result = {"preset": args.preset, "steps": args.steps, "times": args.times, "matrix_flops_per_second": rates}
    result |= {**provenance(devices.describe(device), args.commit or commit_here("step_profile.py")), "methods": {}}
    flags = {"image_size": args.image_size, "batch_size": args.batch_size}
    for name in args.methods:
        result["methods"][name] = measure(name, args.preset, device, steps=args.steps, times=args.times, **flags)
        if args.out:
            write_json(args.out, result)
    print(show(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
