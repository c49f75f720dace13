"""The slices `edm` and `edm-cells` of `on_gpu.py`: a diffusion model in minutes, and what its images are worth.

Each trains for --minutes and takes about `REST` seconds at most for everything else. In turn: images/s of a training
step, eager and as a CUDA graph; a real training with the `default` preset; KID and FID of its images by a classifier of
the training images, against test images, beside those of the training images themselves; and wide residual networks
trained with and without them, in fixed shares of each class's draws, seed by seed as far as the time goes. Every
result is printed and recorded as soon as it is there.

With --miniature, networks are narrow and everything takes a few steps: it shows that the slices work, nothing else.
"""

import io
import json
import time
import zipfile
from pathlib import Path
from statistics import fmean

import floors
import numpy as np
import torch
from common import Captured, Printer, Updates, build, rounded, seconds_of

from balancegan.commands.imbalance import make_imbalanced
from balancegan.commands.train import TrainRequest, launch
from balancegan.core.grid import save_grid, to_pil
from balancegan.core.rows import rows_by_class
from balancegan.data.digits import write_digits
from balancegan.data.scan import scan
from balancegan.data.training_set import open_training_set
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.kept_classes import kept_classes
from balancegan.metrics.kid import kernel_distance
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers
from balancegan.verdict.arms import Arm, arm_named
from balancegan.verdict.augmentation import CROPS, FLIPS
from balancegan.verdict.classifiers import Job, Part, Shelf, mixed_draw, train_jobs
from balancegan.verdict.material import Pool, SplitPlan
from balancegan.verdict.networks import SMALL

REST = 140  # seconds at most for everything else
COLUMNS = 12
UPDATES = 1500  # of each classifier
ARMS = (  # and the generated part of every class's draws
    (arm_named("oversampling"), 0.0),
    (arm_named("balanced softmax"), 0.0),
    (Arm("half generated", ""), 0.5),
    (Arm("quarter generated", ""), 0.25),
)
MADE = 1000  # generated images of each class
NARROW = {
    "width": 16,
    "blocks": 1,
    "batch_size": 8,
    "solver_steps": 2,
    "flips": "always",
    "steps": 3,
    "warmup_steps": 2,
}


def edm(args):
    """CIFAR-10 with exponential imbalance 100 (12,406 images) at 32 px."""
    data = args.data_cifar
    if data and len(set(scan(data).counts().values())) == 1:
        data = work_folder(args, "edm") / "imbalanced"
        if not data.is_dir():
            print(make_imbalanced(args.data_cifar, data, scheme="exp", ir=100).counts_after, flush=True)
    return measure(args, "edm", data, 32)


def edm_cells(args):
    """A folder of cells with train and test images at 64 px."""
    return measure(args, "edm-cells", args.data, 64)


def work_folder(args, name):
    return args.work / name if args.work else args.out / f"{name}-work"


def measure(args, name, data, size):
    """Measure everything about one data set, by default the embedded digits; `args.keep` records what there is.

    Files of a run and of data made for it lie in the work folder, since `args.out` may have to be sent home.
    """
    began, work, result = time.monotonic(), work_folder(args, name), {}
    flags = {"image_size": size if data and not args.miniature else 16, **(NARROW if args.miniature else {})}
    data = data or write_digits(work / "digits")

    def note(key, row):
        result[key] = row | {"elapsed": round(time.monotonic() - began, 1)}
        print(key, json.dumps(result[key]), flush=True)
        args.keep(result)

    for key, row in step_rates(args, flags):
        note(key, row)
    where = {"device": str(args.device), "out": work / "runs", "resume": "never", "use_environment": False}
    trained = launch(TrainRequest(data, "edm", "default", flags, max_seconds=60 * args.minutes, **where), Printer())
    note("train", trained)
    real, test, made, names = images_of(args, Path(trained["run"]), data)
    save_grid([images[:COLUMNS] for images in made], args.out / f"{name}.png", names)
    keep_images(args.out / f"{name}.zip", made, names)
    note("generated", {"of_class": dict(zip(names, map(len, made), strict=True))})
    for key, row in distances(args, real, test, made, names):
        note(key, row)
    until = began + 60 * args.minutes + REST
    for outcome in arms(args, real, test, made, until):
        note(f"{outcome['arm']}, seed {outcome['seed']}", outcome)
    return result


def step_rates(args, flags):
    """Yield the measured rate of bf16 products and the speed of a step on one batch, eager and as a CUDA graph."""
    cuda, times = args.device.type == "cuda", 1 if args.miniature else 20
    peak = floors.matrix_rate(args.device, torch.bfloat16)
    yield "matrix", {"flops_per_second": peak}
    updates = Updates(build("default", args.device, "edm", **flags), args.device, amp=cuda, capturable=cuda)
    images, flops = updates.method.cfg.batch_size, floors.flops(updates.step)
    for way in ("eager", "graph"):
        if way == "graph" and not cuda:
            yield "step, graph", {"skipped": "no CUDA here"}
            return
        step = Captured(updates) if way == "graph" else updates.step
        for _ in range(times):
            step()
        seconds = seconds_of(step, times, args.device)
        row = {"images_per_second": round(images / seconds, 1), "gflop": round(flops / 1e9, 1)}
        yield f"step, {way}", row | {"share_of_matrix_rate": round(flops / seconds / peak, 4)}


def images_of(args, run, data):
    """Return a run's training and test images as pools, its generated images class by class, and the class names."""
    restored = restore(RunDir(run), args.device)
    found = open_training_set(data, restored.method.cfg)
    restored.make_ready(found)
    samplers, most = make_samplers(restored.method, args.device), 12 if args.miniature else MADE
    made = [first_images(samplers, label, most)[1] for label in range(len(found.class_names))]
    real, test = (Pool(found.store.images[r], found.labels[r]) for r in (found.train_rows, found.unseen_rows))
    return real, test, made, found.class_names


def keep_images(path, made, names):
    """Keep the generated images as an archive of JPEGs, one folder a class, to be judged elsewhere."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, images in zip(names, made, strict=True):
            for i, image in enumerate(images):
                content = io.BytesIO()
                to_pil(image).save(content, "JPEG", quality=95, subsampling=0)
                archive.writestr(f"{name}/{i:04d}.jpg", content.getvalue())


def distances(args, real, test, made, names):
    """Yield KID and FID of each class and their means, of generated and of training images, against test images.

    The features are the package's own; None for fewer than 2 (KID) or 10 (FID) images.
    """
    steps = 5 if args.miniature else 400
    own = OwnExtractor.fit(real.images, real.labels, len(made), device=str(args.device), steps=steps)
    of_test = [own(images) for images in by_class(test, len(made))]
    for kind, of_class in (("generated", made), ("training", by_class(real, len(made)))):
        rows = {"kid": {}, "fid": {}}
        for name, reference, images in zip(names, of_test, of_class, strict=True):
            pair, least = {"feats_real": reference, "feats_fake": own(images)}, min(len(reference), len(images))
            rows["kid"][name] = rounded(kernel_distance(**pair)[0]) if least >= 2 else None
            rows["fid"][name] = rounded(frechet_distance(**pair)) if least >= 10 else None
        for key, row in list(rows.items()):
            there = [value for value in row.values() if value is not None]
            rows[f"mean_{key}"] = rounded(fmean(there)) if there else None
        yield f"{kind} against test images", rows


def by_class(pool, classes):
    return [pool.images[rows] for rows in rows_by_class(pool.labels, classes)]


def arms(args, real, test, made, until):
    """Yield what each classifier achieves, seed by seed, as long as another one is likely to end in time."""
    generated = Pool(np.concatenate(made), np.repeat(np.arange(len(made)), [len(images) for images in made]))
    shelf = Shelf.of([real, generated, test], len(made), SMALL.side, args.device)
    rows = np.split(np.arange(len(shelf.labels)), shelf.starts[1:3])
    plan = SplitPlan(rows[0], rows[2])
    flips = args.miniature or mirror_keeps_classes(args, real, len(made))
    start, done = time.monotonic(), 0
    for seed in (0,) if args.miniature else (0, 1, 2):
        for arm, share in ARMS:
            parts = [
                Part(rows[0], real.labels, np.full(len(made), 1 - share)),
                Part(rows[1], generated.labels, np.full(len(made), share)),
            ]
            draw = mixed_draw(parts, balanced=arm.balanced)
            updates = 2 if args.miniature else UPDATES
            (result,) = train_jobs(
                [Job(arm, seed, plan, draw, FLIPS if flips else CROPS, updates)], shelf, SMALL, args.device
            )
            right = result.predicted == test.labels
            recall = [
                rounded(right[mine].mean()) if len(mine) else None for mine in rows_by_class(test.labels, len(made))
            ]
            few = [recall[k] for k in rarest(np.bincount(real.labels, minlength=len(made))) if recall[k] is not None]
            yield {
                "arm": arm.name,
                "seed": seed,
                "balanced_accuracy": rounded(fmean(value for value in recall if value is not None)),
                "rare_recall": rounded(fmean(few)) if few else None,
                "recall": recall,
                "training_accuracy": rounded(result.training_accuracy),
            }
            done, now = done + 1, time.monotonic()
            if now + (now - start) / done > until:
                print(f"time is over after {done} classifiers", flush=True)
                return


def mirror_keeps_classes(args, real, classes):
    """Whether classifiers may mirror images, by the check that EDM makes."""
    aside = np.arange(len(real)) % 4 == 0
    images, labels = (real.images[~aside], real.images[aside]), (real.labels[~aside], real.labels[aside])
    (finding,) = kept_classes(images, labels, classes, str(args.device))
    print(finding.found, flush=True)
    return finding.kept


def rarest(counts):
    """The third of the classes with the fewest training images, at least one; classes without any are left out."""
    order = np.argsort(counts, kind="stable")
    present = order[counts[order] > 0]
    return np.sort(present[: max(1, len(present) // 3)])
