"""How many evaluations of the network a diffusion model's images need, with two solvers of second order.

    python benchmarks/solvers.py RUN [--images 256] [--evaluations 6,8,12,18,25,36]

For a run of `edm`, compares DPM-Solver++(2M), which the package uses, with Heun's method (EDM's Algorithm 1, two
evaluations per step). Both start from the same noise. Prints the root mean square difference from the solution in 200
evaluations, in grey levels, and the KID x 1000 to unseen real images, averaged over classes, by the features of a
classifier of the training images.
"""

import argparse
import statistics
import sys
from itertools import pairwise
from pathlib import Path

import common
import numpy as np
import torch

from balancegan.data.training_set import reopen_training_set
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.kid import kernel_distance
from balancegan.nets import ode
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers


def heun(denoise, x, sigmas):
    """Solve with Heun's second-order method (Karras et al. 2022, Algorithm 1): 2·steps - 1 evaluations."""
    for now, after in pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        ahead = x + (after - now) * slope
        if after:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
        x = x + (after - now) * slope
    return x


SOLVERS = {
    "DPM-Solver++(2M)": (ode.dpm_solver, lambda n: n),
    "Heun": (heun, lambda n: (n + 1) // 2),
}  # evaluations -> steps


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--evaluations", type=common.several(int), default=[6, 8, 12, 18, 25, 36])
    args = parser.parse_args(argv)
    restored = restore(RunDir(args.run), torch.device("cpu"))
    method = restored.method
    data = reopen_training_set(restored.run.read_json("dataset.json"), method.cfg)
    extractor = OwnExtractor.of(data)
    real = [extractor(data.store.images[rows]) for rows in data.by_class(data.unseen_rows)]

    def images(solver, steps):
        levels = ode.noise_levels(steps)
        method.solve = lambda denoise, x, sigmas: solver(denoise, levels[0] / sigmas[0] * x, levels)
        return [first_images(make_samplers(method, restored.device), c, args.images)[1] for c in range(len(real))]

    reference = images(ode.dpm_solver, 200)
    print("\n".join(common.grid_head("solver", "evaluations", "difference in grey levels", "KID x 1000")))
    for n in args.evaluations:
        for name, (solver, steps) in SOLVERS.items():
            fakes = images(solver, steps(n))
            off = np.concatenate(fakes).astype(float) - np.concatenate(reference)
            kids = [kernel_distance(feats_real=x, feats_fake=extractor(f))[0] for x, f in zip(real, fakes, strict=True)]
            row = f"{np.sqrt(np.square(off).mean()):.1f}", f"{1000 * statistics.fmean(kids):.0f}"
            spent = 2 * steps(n) - 1 if solver is heun else n
            print(common.line(name, str(spent), *row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
