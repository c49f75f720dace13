"""Tables 3 and 4 of SGBGAN (Wan, Guo, Wang 2024, doi 10.1007/s00138-023-01506-y): our numbers beside the published.

    python benchmarks/sgbgan_tables.py fashion-mnist FOLDER [--ir 5,20,50,100] [--methods dcgan,sgbgan] [--seeds 0]
    python benchmarks/sgbgan_tables.py cifar-10 FOLDER
    python benchmarks/sgbgan_tables.py cells FOLDER
    python benchmarks/sgbgan_tables.py --print

FOLDER holds train/<class> and test/<class>, balanced except for cells; `--ir` thins the training part. Every cell of a
table is one training with the `paper` preset at 64 px and one measurement of 1,000 generated images per class against
the class's test images. Any part of a table can be made at a time: finished cells accumulate in benchmarks/results
(`--results`), and --print shows what is there. `--work` keeps the trainings: a cell that --max-minutes or a signal
cuts short has no result yet, and the same command goes on with it. `--merge DIR` takes over the results that another
machine wrote with `--results DIR`.

`--quick` runs the same code with narrow networks, 32 px and few steps, to show that it works. Its numbers mean nothing.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import paper_tables
from common import grid_head, line, provenance, read, rounded, several, title

from balancegan.commands.compare import run as comparison
from balancegan.commands.compare.request import CompareRequest
from balancegan.methods import PAPER_TABLE

DOI = "10.1007/s00138-023-01506-y"
TITLES = {"fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10", "cells": "Cells"}
RATES = (5, 20, 50, 100)
PUBLISHED_CELLS_RATE = 52.83

PAPER = {"image_size": 64}
IMAGES = 1000
QUICK = {"image_size": 32, "width": 16, "batch_size": 32, "pretrain_steps": 60, "steps": 60}
QUICK_IMAGES = 100
WARNING = "NOT COMPARABLE with the published numbers (--quick: 32 px, narrow, few steps); shows only that it works."

# Table 3: {data set: {IR: {method: (FID minority, FID majority, SSIM minority, SSIM majority)}}}
TABLE_3 = {
    "fashion-mnist": {
        5: {
            "dcgan": (343.35, 290.33, 0.271, 0.283),
            "bagan": (298.31, 256.36, 0.274, 0.289),
            "cwgan-gp": (210.36, 196.25, 0.289, 0.291),
            "bagan-gp": (169.46, 120.16, 0.284, 0.292),
            "sgbgan": (163.45, 118.04, 0.293, 0.281),
        },
        20: {
            "dcgan": (384.25, 298.35, 0.269, 0.281),
            "bagan": (303.35, 263.35, 0.263, 0.273),
            "cwgan-gp": (231.35, 193.65, 0.275, 0.277),
            "bagan-gp": (176.93, 126.56, 0.275, 0.253),
            "sgbgan": (169.06, 120.16, 0.288, 0.289),
        },
        50: {
            "dcgan": (392.53, 323.64, 0.251, 0.262),
            "bagan": (326.15, 286.94, 0.256, 0.265),
            "cwgan-gp": (256.32, 213.95, 0.263, 0.266),
            "bagan-gp": (182.45, 127.46, 0.258, 0.286),
            "sgbgan": (178.32, 129.15, 0.261, 0.281),
        },
        100: {
            "dcgan": (402.35, 325.61, 0.248, 0.253),
            "bagan": (365.32, 316.36, 0.251, 0.261),
            "cwgan-gp": (273.21, 243.76, 0.256, 0.257),
            "bagan-gp": (180.94, 128.45, 0.255, 0.258),
            "sgbgan": (177.91, 122.97, 0.263, 0.265),
        },
    },
    "cifar-10": {
        5: {
            "dcgan": (482.37, 385.42, 0.0596, 0.0836),
            "bagan": (413.33, 356.15, 0.0603, 0.0775),
            "cwgan-gp": (356.14, 306.67, 0.0668, 0.0845),
            "bagan-gp": (224.16, 223.36, 0.0635, 0.0858),
            "sgbgan": (210.35, 203.35, 0.0694, 0.0867),
        },
        20: {
            "dcgan": (498.65, 403.99, 0.0588, 0.0765),
            "bagan": (427.58, 361.17, 0.0619, 0.0773),
            "cwgan-gp": (369.16, 336.45, 0.0642, 0.0745),
            "bagan-gp": (239.46, 234.38, 0.0653, 0.0758),
            "sgbgan": (219.23, 212.46, 0.0663, 0.0823),
        },
        50: {
            "dcgan": (506.40, 437.65, 0.0563, 0.0737),
            "bagan": (457.36, 384.86, 0.0577, 0.0744),
            "cwgan-gp": (376.36, 354.11, 0.0579, 0.0768),
            "bagan-gp": (244.63, 239.35, 0.0592, 0.0801),
            "sgbgan": (220.32, 213.65, 0.0613, 0.0814),
        },
        100: {
            "dcgan": (531.60, 466.67, 0.0512, 0.0685),
            "bagan": (488.66, 416.83, 0.0603, 0.0775),
            "cwgan-gp": (387.33, 363.95, 0.0668, 0.0745),
            "bagan-gp": (248.16, 244.62, 0.0635, 0.0754),
            "sgbgan": (233.65, 226.01, 0.0694, 0.0767),
        },
    },
}

# Table 4: {method: (FID of Type0 to Type3, SSIM of Type0 to Type3)}
TABLE_4 = {
    "dcgan": ((226.99, 280.32, 498.33, 266.13), (0.466, 0.375, 0.344, 0.295)),
    "bagan": ((186.36, 203.21, 453.24, 233.97), (0.539, 0.474, 0.443, 0.365)),
    "cwgan-gp": ((104.34, 163.14, 253.14, 143.34), (0.645, 0.554, 0.612, 0.501)),
    "bagan-gp": ((114.72, 159.12, 216.43, 158.16), (0.687, 0.561, 0.647, 0.554)),
    "sgbgan": ((103.80, 122.38, 205.68, 137.96), (0.738, 0.622, 0.696, 0.613)),
}


# Making cells ---------------------------------------------------------------------------------------------------------


def request_for(args):
    """All the cells asked for as one comparison."""
    quick = args.quick
    return CompareRequest(
        data=args.folder,
        methods=tuple(args.methods),
        seeds=tuple(args.seeds),
        irs=() if args.dataset == "cells" else tuple(map(float, args.ir)),
        preset="paper",
        flags=QUICK if quick else PAPER,
        device=args.device,
        out=args.work / (args.dataset + "-quick" * quick),
        images=QUICK_IMAGES if quick else IMAGES,
        extractor="own" if quick and not args.weights else "auto",
        weights=args.weights,
    )


def make(args):
    """Train and measure cell by cell, keep each as soon as it is there, and return the exit status."""
    whole, deadline = request_for(args), time.monotonic() + 60 * args.max_minutes
    commit = args.commit or common.commit_here(Path(__file__).name)

    def bring(cell, watch):
        if time.monotonic() >= deadline:
            return False
        one = replace(whole, methods=(cell.method,), seeds=(cell.seed,), irs=(cell.ir,) if cell.ir else ())
        document = comparison.compare(one, watch)
        record(results_file(args.results, args.dataset, args.quick), entry(document, args, commit), watch.worked)
        return True

    status, finished = paper_tables.make_cells(whole.cells, bring, deadline)
    if finished == len(whole.cells) > 1:  # a page of them all, with their images; everything is there to be read
        print(f"all on one page: {comparison.compare(whole)['page']}", file=sys.stderr)
    return status


def entry(document, args, commit):
    """What is kept of a comparison of one cell. No paths."""
    (method,), (seed,), (block,) = document["methods"], document["seeds"], document["table"]
    (made,), (counts,) = document["runs"], document["train_counts"]
    rows = {row["class"]: row for row in document["cells"]}
    result = {
        "dataset": args.dataset,
        "quick": args.quick,
        "ir": block["ir"],
        "method": method,
        "seed": seed,
        "imbalance_rate": block["imbalance_rate"],
        "train_counts": counts["counts"],
        "majority": next(row["name"] for row in document["classes"] if row["majority"]),
    }
    for measure in ("fid", "kid", "ssim"):
        (row,) = block["measures"][measure]["rows"]
        minority, majority, *_ = (rounded(value["mean"]) for value in row["values"])
        by_class = {name: rounded(row[measure]) for name, row in rows.items()}
        result[measure] = {"minority": minority, "majority": majority, "classes": by_class}
    references = {
        row["name"]: {"kind": row["reference"], "used": row["n_reference"], "unseen": row["n_holdout"]}
        for row in document["classes"]
    }
    return {
        **result,
        "n_fake": document["images_per_class"],
        "references": references,
        "extractor": {name: document["extractor"][name] for name in ("name", "comparable")},
        "seconds": made["seconds"],
        "images_per_second": made["images_per_second"],
        "preset": document["preset"],
        "settings": document["settings"][method],
        **provenance(document["hardware"], commit),
    }


# Keeping them ---------------------------------------------------------------------------------------------------------


def results_file(folder, dataset, quick):
    return paper_tables.results_file(folder, f"sgbgan-{dataset}", quick)


def key(item):
    return item["dataset"], item["quick"], item["ir"] or 0, PAPER_TABLE.index(item["method"]), item["seed"]


def merge(path, new):
    common.merge(path, new, key)


def record(path, new, worked):
    """Keep one result. One that was only read from the work folder belongs to the commit and machine that made it."""
    if not worked:
        if any(key(item) == key(new) and item["fid"] == new["fid"] for item in read(path)):
            return
        new = {**new, "commit": "unknown: made by an earlier call"}
    merge(path, [new])


# Showing them ---------------------------------------------------------------------------------------------------------

NOTES = {
    "*": "features of a small classifier trained on the spot, not Inception's: not comparable with published FIDs",
    "†": "fewer real images than the test part has (Inception on a CPU): FID is larger than with all of them",
    "‡": "compared with training images, because the class has fewer than ten test images",
}


def show(dataset, entries, quick=False):
    """The paper's layout as markdown: every number is ours, and the published one stands in brackets."""
    mine = [item for item in entries if item["dataset"] == dataset and item["quick"] == quick]
    number = 4 if dataset == "cells" else 3
    lines = [f"### {TITLES[dataset]}: ours (published in Table {number}, doi {DOI})", ""]
    lines += table_4(mine) if dataset == "cells" else table_3(dataset, mine)
    used = [f"{mark} {text}." for mark, text in NOTES.items() if any(mark in line for line in lines)]
    if used:
        lines += ["", *used]
    return paper_tables.between(WARNING if quick else None, lines)


def table_3(dataset, entries):
    lines = grid_head("IR", "method", *(f"{m} {part}" for m in ("FID", "SSIM") for part in ("minority", "majority")))
    for ir, methods in TABLE_3[dataset].items():
        for method, published in methods.items():
            found = [item for item in entries if (item["ir"], item["method"]) == (ir, method)]
            ours = [summary(found, m, part) for m in ("fid", "ssim") for part in ("minority", "majority")]
            values = [
                f"{mine} ({number(theirs, m)})"
                for mine, theirs, m in zip(ours, published, ("fid", "fid", "ssim", "ssim"), strict=True)
            ]
            lines.append(line(f"{ir}", title(method), *values))
    return lines


def table_4(entries):
    """Two blocks: the published classes are another set's, so no class of ours stands beside one of theirs."""
    counts = {name: n for item in entries for name, n in item["train_counts"].items()}
    classes = sorted(counts, key=lambda name: (-counts[name], name))
    if classes:
        small = {n for item in entries for n, reference in item["references"].items() if reference["kind"] == "train"}
        names = [f"{name}{' ‡' if name in small else ''} ({counts[name]:,})" for name in classes]
        rate = entries[0]["imbalance_rate"]
        lines = [f"Ours, imbalance rate {rate:.4g}; behind each class the number of its training images:", ""]
        lines += grid_head("method", *(f"{m} {name}" for m in ("FID", "SSIM") for name in names))
        for method in TABLE_4:
            found = [item for item in entries if item["method"] == method]
            lines.append(line(title(method), *(summary(found, m, name) for m in ("fid", "ssim") for name in classes)))
    else:
        lines = ["Ours: no cell is there yet."]
    lines += ["", f"Published, another set of imbalance rate {PUBLISHED_CELLS_RATE}:", ""]
    lines += grid_head("method", *(f"{m} Type{k}" for m in ("FID", "SSIM") for k in range(4)))
    for method, (fids, ssims) in TABLE_4.items():
        lines.append(line(title(method), *(number(v, "fid") for v in fids), *(number(v, "ssim") for v in ssims)))
    return lines


def summary(entries, measure, part):
    """Mean and, with several seeds, sample deviation; – without a result. `part` is a class, minority or majority."""
    if measure == "fid" and any(item["extractor"]["comparable"] for item in entries):
        entries = [item for item in entries if item["extractor"]["comparable"]]  # one kind of features in a mean
    found = [value for item in entries if (value := value_of(item, measure, part)) is not None]
    text = common.averaged(found, lambda value: number(value, measure))
    return text + (mark(entries) if found and measure == "fid" else "")


def value_of(item, measure, part):
    values = item[measure]
    return values[part] if part in ("minority", "majority") else values["classes"].get(part)


def mark(entries):
    """Why a FID does not compare with a published one."""
    if not all(item["extractor"]["comparable"] for item in entries):
        return "*"
    fewer = any(r["used"] < r["unseen"] for item in entries for r in item["references"].values())
    return "†" if fewer else ""


def number(value, measure):
    return f"{value:.2f}" if measure == "fid" else f"{value:#.3g}"


# Command line ---------------------------------------------------------------------------------------------------------


def parse(argv=None):
    parser = paper_tables.table_parser(__doc__, PAPER_TABLE, "sgbgan-tables-work")
    parser.add_argument("dataset", nargs="?", choices=TITLES)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--ir", type=several(int, RATES), help="default all four; cells have their own")
    parser.add_argument("--max-minutes", type=float, default=math.inf)
    return paper_tables.parsed(parser, argv, check)


def check(parser, args):
    if args.folder is None:
        parser.error("give a data set and its folder, or --print")
    paper_tables.check_splits(parser, args.folder)
    if args.dataset == "cells" and args.ir:
        parser.error("cells are measured at their own imbalance rate: leave --ir out")
    args.ir = args.ir or list(RATES)


def main(argv=None):
    args = parse(argv)
    tables = {f"sgbgan-{dataset}": partial(show, dataset) for dataset in TITLES}
    return paper_tables.run(args, tables, f"sgbgan-{args.dataset}", key=key, make=make, warning=WARNING)


if __name__ == "__main__":
    sys.exit(main())
