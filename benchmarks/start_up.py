"""What a command costs before its work begins, and how close looking at a folder comes to only decoding it.

    python benchmarks/start_up.py DATA [--only help,inspect,train] [--rounds 5] [--before DIR]

DATA is a folder of images, such as CIFAR-10's 60,000. Each part runs what it compares in turn, in one run, and prints
medians and the median of the rounds' ratios:

* help: `balancegan --help` beside `python -c "import typer"`.
* inspect: `balancegan inspect DATA` as a process, beside its floor: as many processes as there are cores that open,
  decode and hash the same files, and nothing else. Cold: the files' pages are dropped from the system's cache first.
* train: from the start of the process `balancegan train DATA --preset tiny` to its first step, and where that goes.

`--before` names another checkout, whose command is timed in turn with this one's.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TRAIN = ("--preset", "tiny", "--image-size", "32", "--device", "cpu", "--set", "log_every=1", "--holdout", "0")
CHUNK = 256
PARTS = ("help", "inspect", "train")


# Processes ------------------------------------------------------------------------------------------------------------


def environment(tree, cache):
    return {**os.environ, "PYTHONPATH": str(tree), "BALANCEGAN_CACHE_DIR": str(cache)}


def seconds_of(*command, **more):
    """Wall time of a process from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    return time.perf_counter() - start


def balancegan(tree, cache, *words):
    return seconds_of(sys.executable, "-m", "balancegan", *words, env=environment(tree, cache), cwd=cache)


# The floor of looking at a folder -------------------------------------------------------------------------------------


def decode_and_hash(paths):
    """Only Pillow and a hash, the same as the product's: BLAKE2b of 16 bytes."""
    import numpy as np
    from PIL import Image

    found = []
    for path in paths:
        with open(path, "rb") as file, Image.open(file) as image:  # noqa: PTH123 - as fast as it can be opened
            found.append(hashlib.blake2b(np.asarray(image).tobytes(), digest_size=16).digest())
    return found


def floor(paths, workers):
    """Seconds of decoding and hashing in processes that are forked, and so cost next to nothing to start."""
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        assert sum(len(part) for part in pool.map(decode_and_hash, chunks)) == len(paths)
    return time.perf_counter() - start


def files_below(folder):
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)  # noqa: PTH118


def drop_pages(paths):
    """Have the system forget the files' contents, where it takes that advice."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


# The first step of a training -----------------------------------------------------------------------------------------


def first_step(tree, cache, data):
    """Seconds from the start of the process until it says that its first step is done."""
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-m", "balancegan", "train", data, *TRAIN, "--out", out]
        start = time.perf_counter()
        process = subprocess.Popen(
            words, env=environment(tree, cache), cwd=cache, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("pretrain 1/"):
                break
        else:
            raise SystemExit("".join(lines))
        seconds = time.perf_counter() - start
        process.kill()
        process.communicate()
        return seconds


class FirstStepError(Exception):
    """The end of what is measured."""


class Phases:
    """Seconds of the parts of a training's beginning, by the functions that do them; in a process of its own."""

    def __init__(self, began):
        self.seconds, self._last = {}, began

    def __call__(self, name):
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    @contextmanager
    def around(self, owner, name, before, phase):
        """While inside, calls of `owner.name` end the phase `before` and are `phase`."""
        original = getattr(owner, name)

        def timed(*args, **more):
            self(before)
            try:
                return original(*args, **more)
            finally:
                self(phase)

        setattr(owner, name, timed)
        yield
        setattr(owner, name, original)

    def step(self, *_):
        self("first step")
        raise FirstStepError

    def tick(self, row):
        pass

    def note(self, text):
        pass


def phases(data, began):
    """Print what `began` (a monotonic time) to the first step is made of."""
    clock = Phases(began)
    clock("start Python")
    import torch  # noqa: F401

    clock("import torch")
    from contextlib import ExitStack

    from balancegan.commands import train as launch
    from balancegan.data import training_set
    from balancegan.data.batches import Batches

    clock("import balancegan")
    rest = "everything else"
    with tempfile.TemporaryDirectory() as out, ExitStack() as stack:
        request = launch.TrainRequest(
            Path(data), preset="tiny", device="cpu", out=Path(out), flags={"image_size": 32, "holdout": 0.0}
        )
        kind = type(launch.configure(request).method)
        clock("choose the device and settings")
        for owner, name, phase in (
            (training_set, "scan", "list the files"),
            (training_set, "open_store", "open the store"),
            (kind, "setup", "set up the networks"),
            (Batches, "of", "load the images into memory"),
        ):
            stack.enter_context(clock.around(owner, name, rest, phase))
        stack.enter_context(clock.around(launch, "train", rest, "first step"))
        with suppress(FirstStepError):
            launch.launch(request, clock)
    print(json.dumps(clock.seconds))


def phases_of(tree, cache, data):
    words = [sys.executable, __file__, data, "--phases-since", str(time.monotonic())]
    done = subprocess.run(words, env=environment(tree, cache), cwd=cache, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


# Comparing ------------------------------------------------------------------------------------------------------------


def in_turn(things, rounds):
    """Seconds of wall time and of CPU time of each named thing in every round, one after another within a round."""
    table = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            before = cpu_seconds()
            seconds = thing()
            table[name].append((seconds, cpu_seconds() - before))
    return table


def cpu_seconds():
    """Of this process and of the children that it has seen the end of: other programs hardly change them."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def report(title, table, base):
    """Medians of wall time and CPU time, and each thing's ratio to `base`: the rounds' median with their range."""
    print(f"{title}:")
    for name, rows in table.items():
        shown = []
        for kind, of, at_base in zip(
            ("", " of CPU"), zip(*rows, strict=True), zip(*table[base], strict=True), strict=True
        ):
            ratios = [a / b for a, b in zip(of, at_base, strict=True)]
            ratio = f" = {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times {base}"
            shown.append(f"{statistics.median(of):.2f} s{kind}" + ratio * (name != base))
        print(f"  {name}: {'; '.join(shown)}", flush=True)


def with_before(trees, thing):
    return {name: partial(thing, tree) for name, tree in trees.items()}


def compare_help(trees, cache, data, rounds):
    things = {"import typer": partial(seconds_of, sys.executable, "-c", "import typer")}
    things |= with_before(trees, lambda tree: balancegan(tree, cache, "--help"))
    report("balancegan --help", in_turn(things, rounds), "import typer")


def compare_inspect(trees, cache, data, rounds):
    paths, workers = files_below(data), len(os.sched_getaffinity(0))
    things = {"floor": partial(floor, paths, workers)}
    things |= with_before(trees, lambda tree: balancegan(tree, cache, "inspect", data, "--json", "-q"))
    report(f"balancegan inspect, {len(paths):,} files, {workers} cores, warm", in_turn(things, rounds), "floor")

    def cold(thing):
        drop_pages(paths)
        return thing()

    if not hasattr(os, "posix_fadvise"):
        return
    table = in_turn({name: partial(cold, thing) for name, thing in things.items()}, max(1, rounds // 2))
    report("the same, cold", table, "floor")


def compare_train(trees, cache, data, rounds):
    things = with_before(trees, lambda tree: first_step(tree, cache, data))
    balancegan(HERE, cache, "train", data, *TRAIN, "--dry-run")  # fills the cache
    report("balancegan train to its first step, warm cache", in_turn(things, rounds), next(reversed(things)))
    for name, tree in trees.items():
        found = [phases_of(tree, cache, data) for _ in range(rounds)]
        print(f"  {name}:")
        for phase in found[0]:
            print(f"    {phase}: {statistics.median(one[phase] for one in found):.2f} s")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of the decoded images [default: a temporary one]")
    parser.add_argument("--phases-since", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.data = str(Path(args.data).absolute())
    if args.phases_since is not None:
        phases(args.data, args.phases_since)
        return 0
    trees = {"now": HERE, **({"before": args.before.absolute()} if args.before else {})}
    cache = args.cache or Path(tempfile.mkdtemp())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for part in args.only.split(","):
            {"help": compare_help, "inspect": compare_inspect, "train": compare_train}[part](
                trees, cache, args.data, args.rounds
            )
    finally:
        if not args.cache:
            shutil.rmtree(cache, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
