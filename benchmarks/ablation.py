"""Which changes to the papers' settings give better images of rare classes: one row per option, seed and data set.

    python benchmarks/ablation.py DATA --methods sgbgan --options paper,default --seconds 240 --weights FILE

An option is a base plus changes. `paper` is that preset, narrowed (NARROW). `default` is the preset `tiny`: the default
with equally narrow networks and matching learning rates. `before` is `tiny` as it was before any of these measurements.
`before+share+projection` changes the fields listed in CHANGES, `default+no-attention` removes one of the papers' ideas,
and `default@latents-x-0.8` measures the training of `default` again after applying an entry of EXPORTS to its images.
`--full` narrows nothing and needs a GPU.

All trainings get the same time, on one thread without a GPU. The images are compared with a validation part
(`--holdout`) of the training folder, which no network sees; use it to choose. `--test FOLDER` also measures on a test
split, for the final result.

Finished cells are kept in `--work` and reused, so the command continues where it stopped; several processes can share a
work folder, each taking cells that no other process works on. Rows go to `results/ablation.json`;
`--print` shows the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import numpy as np
import torch
from filelock import FileLock, Timeout

from balancegan.commands.train import TrainRequest, configure, launch
from balancegan.compute.device import describe, resolve_device
from balancegan.core.files import write_json
from balancegan.core.grid import save_grid
from balancegan.data.training_set import open_training_set
from balancegan.evaluation.copies import look_at, near_copies
from balancegan.folder.copy_filter import CopyFilter
from balancegan.folder.quality_filter import QualityFilter, QualityKeep
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.extractors import choose
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.kid import kernel_distance
from balancegan.metrics.memorisation import nearest, pixel_features
from balancegan.metrics.prdc import prdc
from balancegan.runs.checkpoint import step_of
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import accepted_images, first_images
from balancegan.sampling.choice import make_samplers
from balancegan.training.monitor import SilentMonitor

REFERENCE = 250  # real images per class at most
COLUMNS = 12
NARROW = {
    "sgbgan": {"image_size": 32, "width": 64, "batch_size": 64, "pretrain_steps": 150},
    "damage-gan": {
        "image_size": 32,
        "trunk": "sndcgan",
        "width": 32,
        "d_width": 16,
        "head_width": 512,
        "batch_size": 64,
        "warmup_steps": 100,
        "prune_frac": 0.3,
    },
}
NARROW["damage-gan-c"] = NARROW["damage-gan"]
BEFORE = {
    "sgbgan": {
        "n_critic": 1,
        "upsampling": "resize",
        "sampling": "sqrt",
        "lr_g": 8e-4,
        "lr_d": 8e-4,
        "lr_pretrain": 8e-4,
        "beta2": 0.9,
        "ema_halflife": 10.0,
        "shared_fakes": True,
    },
    "damage-gan": {"sampling": "sqrt", "lr_g": 4e-4, "lr_d": 1e-3, "ema_halflife": 10.0, "shared_fakes": True},
}
BEFORE["damage-gan-c"] = BEFORE["damage-gan"]
CHANGES = {
    # Sampling of real classes, averaging, learning rates.
    "natural": {"sampling": "natural"},
    "balanced": {"sampling": "balanced"},
    "no-ema": {"ema_halflife": 0.0},
    "sqrt": {"sampling": "sqrt"},
    "rates4": {"lr_g": 4e-4, "lr_d": 4e-4},
    "rates8": {"lr_g": 8e-4, "lr_d": 8e-4},
    # Cost and kind of the discriminator's regulariser.
    "share": {"penalty_every": 4},
    # Networks.
    "resize": {"upsampling": "resize"},
    "norms": {"conditioning": "norms"},
    "projection": {"head": "projection"},
    "attention8": {"attention": 8},
    # Of the contrastive discriminators.
    "attached": {"detached": False},
    # The papers' ideas, taken out.
    "no-glu": {"gated": False},
    "no-attention": {"attention": 0},
    "no-pretrain": {"pretrain_steps": 0},
    "no-transfer": {"trunk_from_encoder": False},
    "no-kl": {"w_kl": 0.0},
    "no-ce": {"w_ce": 0.0},
    "no-mse": {"w_mse": 0.0},
    "no-wrong": {"w_wrong": 0.0},
    "no-penalty": {"lambda_gp": 0.0},
    "no-pruning": {"prune_frac": 0.0},
}


def flags_of(method, option, *, full=False):
    """Return an option's preset and the fields that override it. Raises `KeyError` for an unknown option."""
    option, *exports = option.split("@")
    base, *words = option.split("+")
    for export in exports:
        EXPORTS[export]
    if full:
        preset, flags = base, {}
    else:
        preset = {"paper": "paper", "before": "paper", "default": "tiny"}[base]
        flags = {**NARROW[method], **(BEFORE[method] if base == "before" else {})}
    for word in words:
        flags |= CHANGES[word]
    return preset, flags


# What can be done with a training's images: each function gets the trained method and the ruler, and returns the method
# to sample from and a function that selects the images of a class to keep.


def scaled(restored, ruler, scale):
    """Scale the latents towards the mean (the truncation trick) or away from it."""
    prior = restored.method.prior
    restored.method.prior = lambda *args: scale * prior(*args)
    return restored, None


def uncopied(restored, ruler):
    """Drop near-copies of training images, as `augment` does."""
    return restored, lambda c: CopyFilter(ruler.train[c], len(ruler.train[c]) + ruler.images)


def recognised(restored, ruler):
    """Also drop images that classifiers do not assign to the requested class, as `--filter quality` does."""
    rows, classes = ruler.data.train_rows, len(ruler.data.class_names)
    judge = QualityFilter.fit(ruler.data.store.images[rows], ruler.data.labels[rows], classes)

    def keep(c):
        copies, alone = (CopyFilter(ruler.train[c], len(ruler.train[c]) + ruler.images) for _ in range(2))
        return QualityKeep(copies, alone, lambda images: judge(images, c), 0)

    return restored, keep


def best_checkpoint(restored, ruler):
    """Use the checkpoint with the lowest few-shot KID on the validation part instead of the last one."""

    def worth(step):
        found = restore(restored.run, restored.device, checkpoint=str(step))
        found.make_ready(ruler.data)
        return ruler.few_shot_kid(make_samplers(found.method, found.device, ruler.sampler_of(found.method)))

    steps = [step_of(path) for path in restored.run.checkpoint_dirs()]
    worths = {step: worth(step) for step in steps if step > restored.method.cfg.pretrain_steps}
    best = min((step for step, kid in worths.items() if kid is not None), key=worths.get, default=max(steps))
    print(json.dumps({"checkpoints": worths, "best": best}), flush=True)
    return restore(restored.run, restored.device, checkpoint=str(best)), None


EXPORTS = {f"latents-x-{scale:g}": partial(scaled, scale=scale) for scale in (0.8, 1.5, 2.0)}
EXPORTS |= {"uncopied": uncopied, "recognised": recognised, "best": best_checkpoint}


class Ruler:
    """Compares samples with the features of a data set's real images."""

    def __init__(self, data, args, test=None):
        self.data, self.images = data, args.images
        self.extractor = choose("auto", args.weights).open(lambda: OwnExtractor.of(data), device=args.device)
        labels = data.labels
        of = [
            {
                name: np.sort(np.random.default_rng(0).permutation(rows[labels[rows] == c])[:REFERENCE])
                for name, rows in (("validation", data.unseen_rows), ("train", data.train_rows))
            }
            for c in range(len(data.class_names))
        ]
        self.real = {"validation": [data.store.images[rows["validation"]] for rows in of]}
        self.train = [data.store.images[np.sort(data.train_rows[labels[data.train_rows] == c])] for c in range(len(of))]
        if test is not None:
            test_of = [test.store.images[test.train_rows[test.labels[test.train_rows] == c]] for c in range(len(of))]
            rng = np.random.default_rng(0)
            self.real["test"] = [x[np.sort(rng.permutation(len(x))[:REFERENCE])] for x in test_of]
        counts = np.array(data.class_counts)
        self.few = sorted(np.argsort(counts, kind="stable")[: -(-len(counts) // 3)].tolist())
        self.seen = [look_at(self.train[c], self.real["validation"][c]) for c in self.few]

    def copies_row(self):
        """Measure the few-shot classes' training images themselves: the score of perfect copies."""
        features = [self.extractor(self.train[c][:REFERENCE]) for c in self.few]
        return {split: self._few_shot(features, split) for split in self.real}

    def _few_shot(self, features, split):
        values = []
        for c, fake in zip(self.few, features, strict=True):
            real = self.real[split][c]
            if len(fake) < 2 or len(real) < 2:
                return None
            values.append(kernel_distance(feats_real=self.extractor(real), feats_fake=fake)[0])
        return statistics.fmean(values)

    def _nearer(self, fakes):
        """How much nearer the few-shot images are to training than to unseen images, as many of each: 1 is not at all.

        The near rate counts every image that is nearer to a training image than these are to each other; of a
        dozen images that differ a lot even their mean is.
        """
        found = []
        for c in self.few:
            unseen, seen = pixel_features(self.real["validation"][c]), pixel_features(self.train[c])
            if not len(fakes[c]) or not len(unseen):
                return None
            fake, rng = pixel_features(fakes[c]), np.random.default_rng(0)
            parts = [seen[rng.permutation(len(seen))[: len(unseen)]] for _ in range(20)]
            to_seen = statistics.fmean(float(np.median(nearest(fake, part)[0])) for part in parts)
            found.append(to_seen / float(np.median(nearest(fake, unseen)[0])))
        return common.rounded(statistics.fmean(found))

    @staticmethod
    def sampler_of(method):
        """Name the sampler to use; never Langevin, which takes longer than the training on a CPU."""
        return "auto" if method.conditional else "rejection"

    def few_shot_kid(self, samplers):
        """Return the few-shot KID on the validation part, with half as many images."""
        return self._few_shot(
            [self.extractor(first_images(samplers, c, self.images // 2)[1]) for c in self.few], "validation"
        )

    def _images(self, samplers, c, keep):
        """Return the first images of a class that `keep` accepts."""
        if keep is None:
            return first_images(samplers, c, self.images)[1]
        keep, made = keep(c), [np.empty((0, *self.train[0].shape[1:]), np.uint8)]
        for sampler in samplers:
            need = self.images - len(made) + 1
            made += [image[None] for _, image in accepted_images(sampler, c, need, keep, sampler.first_seed)]
        return np.concatenate(made)

    def measure(self, samplers, keep=None):
        """Return the measures of a row and a few images of each class."""
        fakes = [self._images(samplers, c, keep) for c in range(len(self.data.class_names))]
        features = [self.extractor(x) if len(x) else np.empty((0, self.extractor.dim), np.float32) for x in fakes]
        few = [features[c] for c in self.few]
        row = {"made": {self.data.class_names[c]: len(fakes[c]) for c in range(len(fakes))}}
        for split, real in self.real.items():
            suffix = "" if split == "validation" else f"_{split}"
            kids, fids = {}, {}
            for name, x, f in zip(self.data.class_names, real, features, strict=True):
                if min(len(x), len(f)) >= 2:
                    kids[name] = common.rounded(kernel_distance(feats_real=self.extractor(x), feats_fake=f)[0])
                if min(len(x), len(f)) >= 10:
                    fids[name] = common.rounded(frechet_distance(feats_real=self.extractor(x), feats_fake=f))
            row |= {f"kid{suffix}_by_class": kids, f"fid{suffix}_by_class": fids}
            row |= {f"few_shot_kid{suffix}": common.rounded(self._few_shot(few, split))}
            row |= {f"fid{suffix}": common.rounded(statistics.fmean(fids.values())) if fids else None}
        copied = [
            near_copies(nearest(pixel_features(fakes[c]), seen.features)[0], seen)
            for c, seen in zip(self.few, self.seen, strict=True)
            if len(fakes[c])
        ]
        row["nearer_to_training"] = self._nearer(fakes)
        for key in ("near_rate", "copy_rate"):
            whole = len(copied) == len(self.few)
            row[key] = common.rounded(statistics.fmean(found[key] for found in copied)) if whole else None
        if all(len(f) > 6 for f in few):
            found = [
                prdc(feats_real=self.extractor(self.train[c]), feats_fake=f) for c, f in zip(self.few, few, strict=True)
            ]
            row["coverage"] = common.rounded(statistics.fmean(p.coverage for p in found))
            row["recall"] = common.rounded(statistics.fmean(p.recall for p in found))
        blank = np.full((COLUMNS, *self.train[0].shape[1:]), 255, np.uint8)
        return row, [np.concatenate([x, blank])[:COLUMNS] for x in fakes]


def train_cell(args, method, option, seed):
    """Train for the given time in a fresh folder; return the run's path, steps and settings."""
    option = option.split("@")[0]
    preset, flags = flags_of(method, option, full=args.full)
    flags = {**flags, "seed": seed, "holdout": args.holdout, "train_ir": args.train_ir, "steps": 1_000_000}
    flags |= {"save_every": args.save_every, "sample_every": 1_000_000, "keep_checkpoints": 100}
    out = args.work / "runs" / cell_name(args, method, option, seed)
    document = out / "trained.json"
    if document.is_file():  # from another option that only treats the images differently
        return json.loads(document.read_text())
    shutil.rmtree(out, ignore_errors=True)
    request = TrainRequest(
        args.data,
        method,
        preset,
        flags,
        device=args.device,
        out=out,
        resume="never",
        max_seconds=args.seconds,
        use_environment=False,
    )
    trained = launch(request, SilentMonitor())
    write_json(document, {"run": trained["run"], "steps": trained["steps"], "settings": {"preset": preset, **flags}})
    return json.loads(document.read_text())


def cell_name(args, method, option, seed):
    return f"{args.name}-{method}-{option}-{seed}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--name", help="of the data set in the table, by default its folder's")
    parser.add_argument("--methods", type=common.several(str), default=["sgbgan", "damage-gan"])
    parser.add_argument("--options", type=common.several(str), default=["paper", "default"])
    parser.add_argument("--seeds", type=common.several(int), default=[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--holdout", type=float, default=0.3)
    parser.add_argument("--train-ir", type=float, default=0.0)
    parser.add_argument("--full", action="store_true", help="use the presets without narrowing")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--work", type=Path, default=Path("ablation-work"))
    parser.add_argument("--results", type=Path, default=common.HERE / "results")
    parser.add_argument("--save-every", type=int, default=150, help="steps; what `@best` chooses from")
    parser.add_argument("--commit", help="commit to record outside a git checkout")
    parser.add_argument("--print", action="store_true", dest="only_print")
    args = parser.parse_args(argv)
    file = args.results / "ablation.json"
    if args.only_print:
        print(table(common.read(file)))
        return 0
    if not args.data or not args.data.is_dir():
        parser.error("give a folder of images")
    args.name = args.name or args.data.resolve().name
    for method in args.methods:
        for option in args.options:
            try:
                flags_of(method, option, full=args.full)
            except KeyError as error:
                parser.error(f"there is no option {error.args[0]!r}")
    args.work.mkdir(parents=True, exist_ok=True)
    rulers = {}  # of each method: their images may differ in size
    commit = args.commit or common.commit_here("ablation.py")
    for seed in args.seeds:
        for method in args.methods:
            for option in args.options:
                name = cell_name(args, method, option, seed)
                done = args.work / f"{name}.json"
                try:
                    with FileLock(args.work / f"{name}.lock", timeout=0):
                        if done.is_file():
                            continue
                        if method not in rulers:
                            rulers[method] = make_ruler(args, method, option)
                        row = cell(args, rulers[method], method, option, seed, commit)
                        write_json(done, row)
                except Timeout:
                    continue
                print(json.dumps({k: row[k] for k in ("option", "seed", "few_shot_kid", "fid", "near_rate", "steps")}))
                sys.stdout.flush()
    with FileLock(args.work / "table.lock"):
        rows = [json.loads(path.read_text()) for path in args.work.glob(f"{args.name}-*.json")]
        common.merge(file, rows, lambda r: (r["data"], r["method"], r["option"], r["seed"]))
    print(table(common.read(file)))
    return 0


def make_ruler(args, method, option):
    preset, flags = flags_of(method, option, full=args.full)
    flags = {**flags, "holdout": args.holdout, "train_ir": args.train_ir}
    request = TrainRequest(args.data, method, preset, flags, device=args.device, use_environment=False)
    cfg = configure(request).cfg
    data = open_training_set(args.data, cfg)
    test = open_training_set(args.test, replace(cfg, holdout=0.0, train_ir=0.0)) if args.test else None
    return Ruler(data, args, test)


def cell(args, ruler, method, option, seed, commit):
    start = time.monotonic()
    made = train_cell(args, method, option, seed)
    restored, keep = restore(RunDir(Path(made["run"])), resolve_device(args.device)), None
    trained = time.monotonic()
    for export in option.split("@")[1:]:
        restored, keep = EXPORTS[export](restored, ruler)
    restored.make_ready(ruler.data)
    samplers = make_samplers(restored.method, restored.device, ruler.sampler_of(restored.method))
    row, shown = ruler.measure(samplers, keep)
    save_grid(shown, args.work / f"{cell_name(args, method, option, seed)}.png", restored.class_names)
    key = {"method": method, "data": args.name, "option": option, "seed": seed}
    work = {"steps": made["steps"], "seconds": args.seconds, "measured_in": round(time.monotonic() - trained)}
    work |= {"trained_in": round(trained - start), "threads": torch.get_num_threads(), "settings": made["settings"]}
    hardware = common.provenance(describe(resolve_device(args.device)), commit)
    return {**key, **row, **work, **hardware}


def table(rows):
    """Return a markdown table with options sorted by few-shot KID; several seeds give mean and deviation."""
    lines = []
    for data, method in dict.fromkeys((r["data"], r["method"]) for r in rows):
        mine = [r for r in rows if (r["data"], r["method"]) == (data, method)]
        lines += ["", f"{data}, {method}", ""]
        lines += common.grid_head("option", "seeds", "few-shot KID x 1000", "FID", "near-copies", "coverage", "steps")
        of = {option: [r for r in mine if r["option"] == option] for option in dict.fromkeys(r["option"] for r in mine)}

        def value(found, key, scale=1.0):
            return [r[key] * scale for r in found if r.get(key) is not None]

        def rank(item):
            kids = value(item[1], "few_shot_kid")
            return statistics.fmean(kids) if kids else float("inf")

        for option, found in sorted(of.items(), key=rank):
            cells = [common.averaged(value(found, "few_shot_kid", 1000), lambda v: f"{v:.0f}")]
            cells += [common.averaged(value(found, "fid"), lambda v: f"{v:.0f}")]
            cells += [common.averaged(value(found, k), common.two_digits) for k in ("near_rate", "coverage")]
            cells += [f"{statistics.fmean(r['steps'] for r in found):,.0f}"]
            lines.append(common.line(option, str(len(found)), *cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
