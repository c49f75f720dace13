"""How well siblings are found where the truth is known, how many images are joined elsewhere, and how long it takes.

    python benchmarks/siblings.py [FOLDER ...] [--most 5000]

Without folders: a made set (tests/photographs.py). A folder's `groups.csv` (file_name, group), beside its images or
in the folder above, is the truth; only the measure reads it. Neighbours are two images in succession on a short path
through all images of a true group (by distance of pixels), because the order of frames is not recorded.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from balancegan.data.decode import decode_image
from balancegan.data.scan import scan
from balancegan.data.siblings import sibling_groups, sibling_thumbnail

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
HEAD = ("set", "images", "pairs", "neighbours", "groups > 1", "largest", "mixed", "alone", "thumbnails s", "grouping s")


def true_groups(folder, rels):
    """The group of each image by groups.csv, or None."""
    for place, prefix in ((folder, ""), (folder.parent, f"{folder.name}/")):
        if (place / "groups.csv").is_file():
            with (place / "groups.csv").open(newline="") as file:
                found = {row["file_name"]: row["group"] for row in csv.DictReader(file)}
            return np.unique([found[prefix + rel] for rel in rels], return_inverse=True)[1]
    return None


def path_through(points):
    """Order of points (n, d) along a short path: greedy from the best start, then improved by turning parts of it."""
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).mean(axis=-1))
    count, best, least = len(points), [0], np.inf
    for start in range(count):
        path, left = [start], set(range(count)) - {start}
        while left:
            path.append(min(left, key=lambda k: (apart[path[-1], k], k)))
            left.remove(path[-1])
        length = apart[path[:-1], path[1:]].sum()
        if length < least:
            best, least = path, length
    better = True
    while better:
        better = False
        for i in range(count):
            for j in range(i + 1, count):
                before, after = best[i - 1] if i else None, best[j + 1] if j + 1 < count else None
                change = sum(
                    apart[outer, new] - apart[outer, old]
                    for outer, new, old in ((before, best[j], best[i]), (after, best[i], best[j]))
                    if outer is not None
                )
                if change < -1e-9:
                    best[i : j + 1] = best[i : j + 1][::-1]
                    better = True
    return best


def measure(groups, truth, thumbs):
    """Shares of sibling pairs and of neighbours that are together, and how many groups hold two objects."""
    pairs = together = steps = steps_together = 0
    for k in np.unique(truth):
        own = np.flatnonzero(truth == k)
        sizes = np.unique(groups[own], return_counts=True)[1]
        pairs += len(own) * (len(own) - 1) // 2
        together += int((sizes * (sizes - 1) // 2).sum())
        found = groups[own][path_through(thumbs[own].reshape(len(own), -1).astype(np.float32))]
        steps += len(own) - 1
        steps_together += int((found[1:] == found[:-1]).sum())
    seen = {}
    for g, t in zip(groups.tolist(), truth.tolist(), strict=True):
        seen.setdefault(g, set()).add(t)
    return together / max(pairs, 1), steps_together / max(steps, 1), sum(len(s) > 1 for s in seen.values())


def row(folder, most):
    found = scan(folder)
    files = list(found.files)
    if most and len(files) > most:
        files = sorted(random.Random(0).sample(files, most), key=lambda f: f.rel)
    begun = time.perf_counter()
    thumbs = np.stack(
        [np.frombuffer(sibling_thumbnail(decode_image(found.root / f.rel).pixels), np.uint8) for f in files]
    )
    seen = time.perf_counter()
    rels = [f.rel for f in files]
    groups = sibling_groups(thumbs, np.array([f.label for f in files]), rels)
    done = time.perf_counter()
    sizes, truth = np.bincount(groups), true_groups(Path(folder), rels)
    shares = ("", "", "")
    if truth is not None:
        pairs, neighbours, mixed = measure(groups, truth, thumbs)
        shares = (f"{pairs:.1%}", f"{neighbours:.1%}", f"{mixed} ({mixed / max((sizes > 1).sum(), 1):.1%})")
    return (Path(folder).name, f"{len(files):,}", *shares[:2], (sizes > 1).sum(), sizes.max(), shares[2],
            f"{(sizes[groups] == 1).mean():.2%}", f"{seen - begun:.0f}", f"{done - seen:.0f}")  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--most", type=int, default=0, help="take at most so many images of a folder, at random")
    parser.add_argument("--objects", type=int, default=30, help="objects of each texture in the made set")
    args = parser.parse_args(argv)
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    with tempfile.TemporaryDirectory() as made:
        if not args.folders:
            from photographs import photographs, write_photographs

            args.folders = [write_photographs(Path(made) / "made", photographs(args.objects))]
        for folder in args.folders:
            print("| " + " | ".join(str(cell) for cell in row(folder, args.most)) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
