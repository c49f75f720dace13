"""Where the pixel noise comes from: transposed convolutions against resize-convolutions, equal steps, same data.

    python benchmarks/upsampling.py DATA [--image-size 32] [--steps 300] [--pretrain-steps 250]

Prints, for both generators, the energy of the finest detail (mean squared response of the 3x3 Laplacian) of their
images divided by that of the real training images, at the end of pre-training and of adversarial training. 1 is as
noisy as the data; the last line is the ratio of the two. Everything but `upsampling` is the `tiny` preset.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import convolve

from balancegan.commands.train import TrainRequest, configure, launch
from balancegan.compute.device import resolve_device
from balancegan.core.grid import save_grid
from balancegan.data.training_set import open_training_set
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.samplers import Sampler
from balancegan.training.monitor import SilentMonitor

LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)


def detail(images):
    """Mean squared Laplacian of uint8 (N, C, S, S), borders left out."""
    response = convolve(images.astype(np.float64), LAPLACIAN[None, None], mode="nearest")
    return float(np.square(response[:, :, 1:-1, 1:-1]).mean())


def detail_of(run, real, label_weights):
    restored = restore(RunDir(run), resolve_device("cpu"))
    sampler = Sampler(restored.method, restored.device)
    rows = [sampler.images(label, range(32)) for label in range(len(restored.class_names))]
    value = sum(w * detail(r) for w, r in zip(label_weights, rows, strict=True))
    return value / real, [r[:8] for r in rows], restored.class_names


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pretrain-steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grids", type=Path, help="folder for picture grids")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as out:
        for upsampling in ("transposed", "resize"):
            flags = {"image_size": args.image_size, "seed": args.seed, "pretrain_steps": args.pretrain_steps}
            base = {**flags, "upsampling": upsampling, "save_every": 10_000, "sample_every": 10_000}
            request = {"data": args.data, "preset": "tiny", "device": "cpu", "out": Path(out)}
            cfg = configure(TrainRequest(**request, flags=base)).cfg
            data = open_training_set(args.data, cfg)
            labels = range(len(data.class_names))
            # Classes weigh alike on both sides.
            weights = [1 / len(data.class_names)] * len(data.class_names)
            rows = [data.train_rows[data.labels[data.train_rows] == label][:500] for label in labels]
            real = sum(w * detail(data.store.images[r]) for w, r in zip(weights, rows, strict=True))
            before = launch(TrainRequest(**request, flags={**base, "steps": 0}), SilentMonitor())
            pretrained = detail_of(before["run"], real, weights)[0]
            start = time.monotonic()
            after = launch(TrainRequest(**request, flags={**base, "steps": args.steps}), SilentMonitor())
            seconds = time.monotonic() - start
            trained, grid, names = detail_of(after["run"], real, weights)
            results[upsampling] = trained
            row = {"upsampling": upsampling, "after_pretraining": round(pretrained, 3)}
            row |= {"after_adversarial": round(trained, 3), "ms_per_step": round(1000 * seconds / args.steps)}
            print(json.dumps(row), flush=True)
            if args.grids:
                args.grids.mkdir(parents=True, exist_ok=True)
                save_grid(grid, args.grids / f"upsampling-{upsampling}.png", names)
    print(f"finest detail, transposed / resize: {results['transposed'] / results['resize']:.2f}")


if __name__ == "__main__":
    main()
