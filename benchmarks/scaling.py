"""How time grows with the number of images, of classes and of pixels: exponents fitted to measurements.

    python benchmarks/scaling.py [--quick] [--only images,classes,pixels]

Each line is one piece of work at growing sizes: the least seconds of several runs, and the exponent of the line through
their logarithms (least squares). The last column is the exponent between the two largest sizes, where constant costs
weigh least. 1 is time in proportion to the size; a last exponent above 1.25 is marked. Images are noise.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Updates, several
from PIL import Image

from balancegan.commands.evaluate import EvaluateOptions
from balancegan.commands.evaluate_folders import evaluate_folders
from balancegan.core.config import resolve
from balancegan.data.batches import Batches
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.evaluation.assembly import Judging
from balancegan.evaluation.measures import measure_class
from balancegan.folder.quality_filter import _margins
from balancegan.inspection.inspect import inspect_folder
from balancegan.methods import load_method
from balancegan.methods.base import DataSpec
from balancegan.metrics import classifier_features as own
from balancegan.metrics.extractors import choose
from balancegan.sampling.preview import grid_images
from balancegan.verdict import scores as verdict
from balancegan.verdict.material import ClassImages

RUNS = 2
MARKED = 1.25
CPU = torch.device("cpu")
SIDE = 16  # pixels of the images in folders
PER_CLASS = 6
AXES = ("images", "classes", "pixels")


def seconds(work, runs=RUNS):
    """The least of several runs; `work` may prepare something and give what is to be timed."""
    best = np.inf
    for _ in range(runs):
        timed = work()
        start = time.perf_counter()
        timed()
        best = min(best, time.perf_counter() - start)
    return best


def exponents(sizes, times):
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    return slope, np.log(times[-1] / times[-2]) / np.log(sizes[-1] / sizes[-2])


def show(what, sizes, work, runs=RUNS):
    times = [seconds(work(size), runs) for size in sizes]
    fitted, last = exponents(sizes, times)
    cells = ", ".join(f"{size:,}: {t:.3g} s" for size, t in zip(sizes, times, strict=True))
    print(f"| {what} | {cells} | {fitted:.2f} | {last:.2f}{' above 1' if last > MARKED else ''} |", flush=True)


def ready(work):
    """Work that needs no preparation between two runs."""
    return lambda: work


# Folders --------------------------------------------------------------------------------------------------------------


def write_folder(root, classes, per_class, side=SIDE, split="train", seed=0):
    rng = np.random.default_rng(seed)
    for k in range(classes):
        folder = root / split / f"class{k:04d}"
        folder.mkdir(parents=True)
        for i in range(per_class):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{i:05d}.png")
    return root


@contextlib.contextmanager
def caches(place):
    """A cache of its own for what is opened inside; empty at the start."""
    folder = place / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    before = os.environ.get("BALANCEGAN_CACHE_DIR")
    os.environ["BALANCEGAN_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("BALANCEGAN_CACHE_DIR")
        if before is not None:
            os.environ["BALANCEGAN_CACHE_DIR"] = before


def folder_work(folders, place, settings):
    """Name and work for what is done with a whole folder, by size."""

    def building(size):
        def prepare():
            shutil.rmtree(place / "cache", ignore_errors=True)
            found = scan(folders[size])
            return lambda: open_store(found, settings(size))

        return prepare

    def opening(size):
        found = scan(folders[size])
        open_store(found, settings(size))
        return ready(lambda: open_store(scan(folders[size]), settings(size)))

    def inspecting(size):
        return ready(lambda: inspect_folder(scan(folders[size])))

    return {"scan and decode a new folder": building, "scan and open a known one": opening, "inspect": inspecting}


# Images ---------------------------------------------------------------------------------------------------------------


def by_images(quick):
    sizes = (200, 400, 800) if quick else (1000, 2000, 4000, 8000)
    with tempfile.TemporaryDirectory() as name, caches(Path(name)):
        place = Path(name)
        folders = {n: write_folder(place / str(n), 2, n // 2) for n in sizes}
        for what, work in folder_work(folders, place, lambda _: DecodeSettings(SIDE)).items():
            show(f"{what}, 2 classes", sizes, work)
    sizes = (500, 1000, 2000) if quick else (5000, 10_000, 20_000, 40_000)
    show("copies and all measures of one class, 500 synthetic images", sizes, measuring, runs=1)


class Flat:
    """Features of no network, so that the measures alone are timed."""

    name, comparable, note, dim = "own", False, "", 128

    def __call__(self, images):
        return images.reshape(len(images), -1)[:, : self.dim].astype(np.float32)


def measuring(size):
    rng = np.random.default_rng(0)
    real, held, fake = (rng.integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8) for n in (size, size // 5, 500))
    images = ClassImages("a", real, held, fake, real=size, generated=500, requested=500)
    return ready(lambda: measure_class(images, Flat(), seed=0, max_images=2000))


# Classes --------------------------------------------------------------------------------------------------------------


def by_classes(quick):
    sizes = (10, 30, 100) if quick else (10, 100, 300, 1000)
    with tempfile.TemporaryDirectory() as name, caches(Path(name)):
        place = Path(name)
        folders = {k: write_folder(place / str(k), k, PER_CLASS) for k in sizes}
        for what, work in folder_work(folders, place, lambda _: DecodeSettings(SIDE)).items():
            show(f"{what}, {PER_CLASS} images a class", sizes, work)
        sizes = (10, 30, 60) if quick else (10, 30, 100, 300)
        for k in sizes:
            write_folder(place / f"fake{k}", k, PER_CLASS, seed=1)
            folders[k] = folders.get(k) or write_folder(place / str(k), k, PER_CLASS)
            write_folder(folders[k], k, PER_CLASS, split="test", seed=2)
        show("evaluate, its classifier's training left out", sizes, lambda k: evaluating(folders[k], place, k), runs=1)
    sizes = (10, 100, 1000)
    show("verdict on 10 test images a class", sizes, judging)
    show("margins of the quality filter, 100 images", sizes, margins)
    show("batches: set-up, 20 images a class", sizes, lambda k: ready(lambda: batches(k)))
    show("batches: 100 draws of 64", sizes, drawing)
    show("networks: set-up and update, batch 16", sizes, lambda k: updating(k, 32))
    show("sample grid, 8 images a class", (10, 30, 100, 300), sampling)


def evaluating(real, place, k):
    """With a classifier of two updates, since its training takes the same time whatever it is trained on."""
    fit = own.OwnExtractor.fit.__func__

    def work():
        own.OwnExtractor.fit = classmethod(lambda cls, *a, **kw: fit(cls, *a, **{**kw, "steps": 2}))
        try:
            options = EvaluateOptions(out=place / f"out{k}", image_size=SIDE)
            evaluate_folders(real, place / f"fake{k}" / "train", options, Judging(choose("own"), CPU, utility=False))
        finally:
            own.OwnExtractor.fit = classmethod(fit)

    return ready(work)


def judging(k):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(k), 10)
    told = [verdict.Answers(str(arm), rng.integers(0, k, (1, len(labels)))) for arm in range(2)]
    return ready(lambda: verdict.score(told, labels, k))


def margins(k):
    logits = np.random.default_rng(0).standard_normal((100, k))
    return ready(lambda: _margins(logits))


def batches(k):
    images = np.zeros((20 * k, 3, SIDE, SIDE), np.uint8)
    return Batches(images, np.arange(len(images)), np.repeat(np.arange(k), 20), "natural", CPU, 64)


def drawing(k):
    of = batches(k)
    return ready(lambda: [of.draw() for _ in range(100)])


def networks(k, side):
    torch.manual_seed(0)
    kind = load_method("sgbgan")
    method = kind(resolve(kind.Config, kind.presets["tiny"], flags={"image_size": side, "batch_size": 16}, env={}))
    method.setup(DataSpec(k, 3, side, (20,) * k))
    return method.to(memory_format=torch.channels_last)


def updating(k, side):
    def work():
        Updates(networks(k, side), CPU, amp=False).step()

    return ready(work)


def sampling(k):
    method = networks(k, 32).eval()
    return ready(lambda: grid_images(method, CPU))


# Pixels ---------------------------------------------------------------------------------------------------------------


def by_pixels(quick):
    sides = (32, 64, 128) if quick else (32, 64, 128, 256)
    sizes = tuple(side**2 for side in sides)
    side_of = dict(zip(sizes, sides, strict=True))
    n = 100 if quick else 200
    with tempfile.TemporaryDirectory() as name, caches(Path(name)):
        place = Path(name)
        folders = {p: write_folder(place / str(p), 2, n // 2, side_of[p]) for p in sizes}
        works = folder_work(folders, place, lambda p: DecodeSettings(side_of[p]))
        for what in ("scan and decode a new folder", "inspect"):
            show(f"{what} of {n} images", sizes, works[what])
    show("update of the networks, batch 16", sizes, lambda p: stepping(side_of[p]))
    show("64 generated images", sizes, lambda p: generating(side_of[p]))


def stepping(side):
    updates = Updates(networks(10, side), CPU, amp=False)
    updates.step()
    return ready(updates.step)


def generating(side):
    method = networks(10, side).eval()
    z, c = method.latent(64), torch.arange(64) % 10

    def work():
        with torch.inference_mode():
            method.sample(z, c)

    work()
    return ready(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=several(str, AXES), default=list(AXES))
    args = parser.parse_args()
    print("| work | seconds by size | exponent | of the last two |")
    print("|---|---|---|---|")
    for axis in args.only:
        print(f"| **by {axis}** | | | |")
        {"images": by_images, "classes": by_classes, "pixels": by_pixels}[axis](args.quick)


if __name__ == "__main__":
    main()
