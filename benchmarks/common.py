"""Helpers of the benchmark scripts; not a script itself.

Results that accumulate in JSON files with their provenance, markdown tables, and a method's updates as the training
loop makes them, for timing.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from floors import wait

from balancegan.commands.compare.matrix import RUNNING, Board
from balancegan.compute import device as devices
from balancegan.core.config import resolve
from balancegan.core.files import write_json
from balancegan.data.batches import Batches
from balancegan.methods import load_method
from balancegan.methods.base import DataSpec
from balancegan.training.steps import frozen

HERE = Path(__file__).resolve().parent
EVERY = 20  # seconds between two lines of progress
COUNTS = (5600, 197, 119, 58, 20)  # assumed training images per class for timed networks


# Making cells ---------------------------------------------------------------------------------------------------------


class Watch(Board):
    """Prints progress and, when time runs out, stops the training with a signal to this process."""

    def __init__(self, label, deadline=math.inf):
        self.label, self.deadline = label, deadline
        self.worked = self.cut = False
        self._said = 0.0

    def matrix(self, matrix):
        self.worked |= any(state.status == RUNNING for state in matrix.states.values())

    def __call__(self, stage, done, total):
        self._say(f"{stage} {done:,}" + (f" of {total:,}" if total else ""))

    def step(self, stage, step, total):
        if not self.cut and time.monotonic() >= self.deadline:
            self.cut = True
            signal.raise_signal(signal.SIGTERM)

    def tick(self, row):
        of = f"{row['stage']} step {row['stage_step']:,} of {row['stage_total']:,}"
        self._say(f"{of}, {row['images_per_second']:.0f} images/s")

    def note(self, text):
        print(f"{self.label}: {text}", file=sys.stderr, flush=True)

    def _say(self, text):
        if time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self.note(text)


class Printer:
    """Prints a line every ten seconds."""

    last = 0.0

    def step(self, stage, step, total):
        pass

    def tick(self, row):
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            print(row["step"], row["stage"], f"{row['images_per_second']:.0f} img/s", flush=True)

    def note(self, text):
        print(text, flush=True)


def commit_here(script):
    """Return this checkout's commit and whether the code (not the results) has changed since."""

    def git(*words):
        done = subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True)
        return done.stdout.strip()

    head = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", "../balancegan", Path(__file__).name, script)
    return (head + "+changes" * bool(changed)) or "unknown"


def provenance(described, commit):
    """Return a result's provenance, given `device.describe`'s dict: commit, hardware, versions, date."""
    hardware = {**described, "platform": f"{platform.system()} {platform.machine()}"}  # not the kernel
    versions = {name: hardware.pop(name) for name in ("balancegan", "python", "torch", "cuda") if name in hardware}
    return {"commit": commit, "hardware": hardware, "versions": versions, "date": datetime.now(UTC).date().isoformat()}


def rounded(value):
    return None if value is None else float(f"{value:.6g}")


def condensed(features):
    """Return d + 1 rows with the same mean and covariance as (N, d) features, which is all that FID depends on.

    With Σ = RᵀR and a d x (d+1) matrix H of orthonormal rows that sum to zero, the rows of √d·HᵀR have mean 0 and
    covariance RᵀHHᵀR = Σ. This way, a reference for many sets is decomposed only once.
    """
    n, d = features.shape
    if n <= d + 1:
        return features
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    root = np.linalg.qr((features - mean) / math.sqrt(n - 1), mode="r")
    return mean + math.sqrt(d) * contrasts(d).T @ root


def contrasts(d):
    """Return Helmert contrasts: orthonormal rows (d, d+1), each orthogonal to the constant."""
    k = np.arange(1, d + 1)[:, None]
    columns = np.arange(d + 1)[None]
    return np.where(columns < k, 1.0, np.where(columns == k, -k, 0.0)) / np.sqrt(k * (k + 1))


# Keeping them ---------------------------------------------------------------------------------------------------------


def read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def merge(path, new, key):
    """Add results, replacing entries with the same key; sorted by key, so diffs stay small."""
    merged = {key(item): item for item in [*read(path), *new]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [merged[k] for k in sorted(merged)])


# Showing them ---------------------------------------------------------------------------------------------------------


def averaged(values, form):
    """Format the mean and, for several values, the sample deviation with `form`; "–" for no values."""
    if not values:
        return "–"
    spread = f" ± {form(statistics.stdev(values))}" if len(values) > 1 else ""
    return form(statistics.fmean(values)) + spread


def two_digits(value):
    return f"{value:.2f}"


def title(method):
    return load_method(method).title


def line(*values):
    return "| " + " | ".join(values) + " |"


def grid_head(*names):
    return [line(*names), "|" + "---|" * len(names)]


def report(result, show, preset, device, as_json, rate=None):
    """Print a result and its hardware, as JSON or as the table that `show` returns."""
    described = devices.describe(device)
    hardware = described.get("gpu", {}).get("name") or f"CPU, {described['threads']} threads"
    if as_json:
        print(json.dumps({**result, "hardware": hardware, "torch": torch.__version__}, indent=2))
    else:
        reached = f", {rate:,.0f} GFLOP/s" if rate else ""
        print(f"{preset} preset, {hardware}{reached}, torch {torch.__version__}\n\n{show(result)}")


# Command line ---------------------------------------------------------------------------------------------------------


def several(kind, allowed=None):
    """Return a parser of comma-separated values that drops duplicates."""

    def parse(text):
        values = list(dict.fromkeys(kind(word) for word in text.split(",")))
        if allowed and (unknown := [v for v in values if v not in allowed]):
            raise argparse.ArgumentTypeError(f"{unknown[0]} is not in the table: {', '.join(map(str, allowed))}")
        return values

    return parse


def failure(error):
    """Print an error that stops every cell; return the exit status."""
    print(f"{error.message}: {error.hint}", file=sys.stderr)
    return error.exit_code


# Updates to be timed --------------------------------------------------------------------------------------------------


def build(preset, device, name="sgbgan", **flags):
    torch.manual_seed(0)
    kind = load_method(name)
    method = kind(resolve(kind.Config, kind.presets[preset], flags=flags, env={}))
    method.setup(DataSpec(len(COUNTS), 3, method.cfg.image_size, COUNTS))
    return method.to(device).to(memory_format=torch.channels_last)


def batch(n, size, device):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, size, size, generator=generator) * 2 - 1
    c = torch.randint(len(COUNTS), (n,), generator=generator)
    return x.to(device).contiguous(memory_format=torch.channels_last), c.to(device)


def random_images(method, device):
    """Return a training set of noise, for hooks that read all images between stages."""
    size, labels = method.cfg.image_size, np.repeat(np.arange(len(COUNTS)), 40)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, size, size), dtype=np.uint8)
    return Batches(images, np.arange(len(labels)), labels, "natural", device, method.cfg.batch_size)


class Updates:
    """Makes a method's updates on one batch, as the loop does, and keeps the last loss of each.

    `adam`: further arguments of the optimisers.
    """

    def __init__(self, method, device, amp, **adam):
        self.method, self.device, self.amp, self.losses = method, device, amp, {}
        self.x_c = batch(method.cfg.batch_size, method.cfg.image_size, device)
        self.stages = {stage.name: stage for stage in method.stages()}
        self.optimisers = {
            u.name: torch.optim.Adam(list(u.parameters()), lr=u.lr, betas=u.betas, fused=True, **adam)
            for stage in self.stages.values()
            for u in stage.updates
        }

    def update(self, update):
        """Make all repetitions of one update."""
        for _ in range(update.repeats):
            self.once(update)

    def once(self, update):
        """Make one update."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            total = torch.stack([t.float() for t in update.loss(*self.x_c).values()]).sum()
        self.optimisers[update.name].zero_grad(set_to_none=True)
        total.backward()
        self.optimisers[update.name].step()
        self.losses[update.name] = total.detach()

    def step(self, stage=None):
        """Make a step of a stage, by default the last."""
        stage = self.stages[stage] if stage else self.method.schedule.last
        for i, update in enumerate(stage.updates):
            with frozen(p for before in stage.updates[:i] for p in before.parameters()):
                self.update(update)

    def alone(self, name):
        """Return a function that makes only this update of the last stage."""
        updates = self.method.schedule.last.updates
        (i,) = (i for i, update in enumerate(updates) if update.name == name)

        def call():
            with frozen(p for before in updates[:i] for p in before.parameters()):
                self.update(updates[i])

        return call


def seconds_of(step, times, device):
    """Return the mean seconds of a call, including the work that it queued on the device."""
    wait(device)
    start = time.monotonic()
    for _ in range(times):
        step()
    wait(device)
    return (time.monotonic() - start) / times


class Captured:
    """A step's updates recorded once as a CUDA graph and replayed."""

    def __init__(self, updates, warm_up=3):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # allocations of the first steps must not be recorded
            for _ in range(warm_up):
                updates.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            updates.step()

    def __call__(self):
        self.graph.replay()
