"""How many synthetic images of each class help a classifier, after which filter, and starting from what?

    python benchmarks/amounts.py RUN                  # on images held out from the training, to choose by
    python benchmarks/amounts.py RUN --test FOLDER    # on a test split, once, at the end
    python benchmarks/amounts.py RUN --from noise,own:0.5,other:0.7 --filters copies    # edm, from real images too

Trains the report's classifiers on the run's real images with oversampling, and on these with synthetic
ones: filled up to several imbalance rates, or as many per class as it has real images times a factor. Within a class
real and synthetic images are drawn in proportion to their numbers, so that an amount is also a mixing ratio. Prints
the report's verdict on the first of these amounts, then balanced accuracy and the recall of the smallest third of the
classes, each minus that of oversampling, with the deviation over the seeds; and the KID x 1000 of that third to the
images that the classifiers are tested on, by the features of a classifier of the training images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import common
import numpy as np

from balancegan.compute.device import resolve_device
from balancegan.core.options import SamplingOptions
from balancegan.core.progress import silent
from balancegan.data.sources import SourceImages
from balancegan.data.training_set import open_training_set, reopen_training_set
from balancegan.folder.copy_filter import CopyFilter
from balancegan.folder.quality_filter import QualityFilter, QualityKeep
from balancegan.folder.recipe import targets
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.kid import kernel_distance
from balancegan.runs.directory import find_run
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import accepted_images
from balancegan.sampling.choice import make_samplers
from balancegan.verdict import utility
from balancegan.verdict.arms import BASELINE, CANDIDATE, arm_named
from balancegan.verdict.first_pass import first_pass
from balancegan.verdict.material import Material, Pool, split_plans
from balancegan.verdict.networks import SMALL

POOL = 500  # synthetic images per class that are drawn from


def parse_start(text):
    """Return the options for `noise`, `own`, `own:0.5` (a strength) and the like."""
    start, _, strength = text.partition(":")
    return SamplingOptions(start, float(strength) if strength else None)


def pools(restored, data, images, starts, filters):
    """Synthetic images of every class that copies (and doubtful ones) were taken from: (start, filter) -> Pool."""
    sources = SourceImages.of(data)
    train, labels = data.store.images[data.train_rows], data.labels[data.train_rows]
    judge = None
    if "quality" in filters:
        judge = QualityFilter.fit(train, labels, len(data.class_names), device=str(restored.device))
    found = {}
    for start, name in itertools.product(starts, filters):
        samplers = make_samplers(restored.method, restored.device, sources=sources, options=parse_start(start))
        of_class = []
        for c in range(len(data.class_names)):
            real, origins = train[labels == c], samplers[0].origins(c)
            copies = CopyFilter(real, len(real) + images, origins)
            alone = CopyFilter(real, origins=origins)
            keep = copies if name == "copies" else QualityKeep(copies, alone, lambda x, c=c: judge(x, c), 0)
            made = []
            for sampler in samplers:
                made += [x for _, x in accepted_images(sampler, c, images - len(made), keep, sampler.first_seed)]
            of_class.append(np.stack(made) if made else train[:0])
        lengths = [len(x) for x in of_class]
        found[start, name] = Pool(np.concatenate(of_class), np.repeat(np.arange(len(lengths)), lengths))
        made = dict(zip(data.class_names, lengths, strict=True))
        print(json.dumps({"from": start, "filter": name, "made": made}), flush=True)
    return found


def amounts(counts, names):
    """Synthetic images per class (K,) by the name of the amount."""
    found = {}
    for rate in (1, 10):
        need = targets(dict(zip(names, counts, strict=True)), target_ir=rate)
        found[f"to IR {rate}"] = [need[name] for name in names]
    short = [n < max(counts) for n in counts]
    for factor in (0.25, 1, 3):
        found[f"{factor:g} per real"] = [round(factor * n) if s else 0 for n, s in zip(counts, short, strict=True)]
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--images", type=int, default=POOL)
    parser.add_argument("--from", type=common.several(str), default=["noise"], dest="starts")
    parser.add_argument("--filters", type=common.several(str), default=["copies", "quality"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, help="of each classifier; by default the verdict's budget")
    parser.add_argument("--amounts", type=common.several(str), help="only these, e.g. 'to IR 1,1 per real'")
    parser.add_argument("--no-verdict", action="store_true", help="leave out the report's verdict on the first amount")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    run = find_run(args.run, Path("runs"))
    restored = restore(run, resolve_device(args.device))
    data = reopen_training_set(run.read_json("dataset.json"), restored.method.cfg)
    restored.make_ready(data)
    real = Pool(data.store.images[data.train_rows], data.labels[data.train_rows])
    if args.test:
        unseen = open_training_set(args.test, replace(restored.method.cfg, holdout=0.0, train_ir=0.0))
        test = Pool(unseen.store.images[unseen.train_rows], unseen.labels[unseen.train_rows])
    else:
        test = Pool(data.store.images[data.unseen_rows], data.labels[data.unseen_rows])
    fakes = pools(restored, data, args.images, args.starts, args.filters)
    first = next(iter(fakes.values()))
    counts = list(data.class_counts)
    wanted = {k: v for k, v in amounts(counts, data.class_names).items() if not args.amounts or k in args.amounts}
    few = np.argsort(counts, kind="stable")[: -(-len(counts) // 3)]

    without = Material(data.class_names, real, first, test, "test", [0] * len(counts))
    pool, plans = split_plans(without, args.seeds)
    updates = args.updates or SMALL.budget(len(real), restored.device)
    choice = first_pass(
        pool,
        plans,
        data.groups[data.train_rows],
        len(counts),
        network=SMALL,
        updates=max(1, updates // 2),
        look_for_strongest=False,
        device=restored.device,
        progress=lambda done, total: None,
    )
    print(choice.note, flush=True)

    def trained(arm, fake, delivered):
        """Recalls of the classes with so many synthetic images: two means over classes of every seed (seeds,)."""
        material = replace(without, fake=fake, delivered=delivered)
        measurement = utility.Measurement(material, pool, plans, SMALL, restored.device, silent)
        results = measurement.train([arm_named(arm)], [fake] * len(plans), updates, choice.augmentation)[arm]
        answers = np.stack([result.predicted for result in results])
        recall = np.stack([(answers[:, test.labels == c] == c).mean(1) for c in range(len(counts))], 1)  # (seeds, K)
        return {"balanced accuracy": recall.mean(1), "few-shot recall": recall[:, few].mean(1)}

    if not args.no_verdict:
        _, delivered = next(iter(wanted.items()))
        material = replace(without, fake=first, delivered=delivered)
        found = utility.measure_utility(material, device=restored.device, seeds=args.seeds, updates=updates)
        print(
            json.dumps(
                {
                    "amount": next(iter(wanted)),
                    "verdict": found["verdict"],
                    "headline": found.get("headline", found["note"]),
                }
            )
        )
        for arm in found["arms"]:
            print(json.dumps({"arm": arm["name"], "balanced accuracy": arm["balanced_accuracy"]}), flush=True)
    base = trained(BASELINE, first, [0] * len(counts))
    plain = {name: round(float(values.mean()), 3) for name, values in base.items()}
    print(json.dumps({"arm": "oversampling", **plain}), flush=True)
    lines = common.grid_head("from", "filter", "few-shot KID x 1000", "synthetic images", *base)
    extractor = OwnExtractor.of(data)

    def kid(fake):
        """Mean over the few-shot classes."""
        pairs = [[extractor(pool.images[pool.labels == c]) for pool in (test, fake)] for c in few]
        enough = all(min(map(len, pair)) > 1 for pair in pairs)
        values = [1000 * kernel_distance(feats_real=x, feats_fake=y)[0] for x, y in pairs] if enough else []
        return f"{statistics.fmean(values):.0f}" if values else "–"

    for (start, name), fake in fakes.items():
        distance = kid(fake)
        for amount, delivered in wanted.items():
            found = trained(CANDIDATE, fake, delivered)
            gains = {k: (100 * (found[k] - base[k])).tolist() for k in base}
            print(json.dumps({"from": start, "filter": name, "kid": distance, "amount": amount, **gains}), flush=True)
            shown = [f"{statistics.fmean(g):+.1f} ± {statistics.stdev(g):.1f}" for g in gains.values()]
            lines.append(common.line(start, name, distance, amount, *shown))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
