"""What replaces a decay of the learning rate at the end of a diffusion model's training: averages of its weights.

    python benchmarks/averaging.py DATA --steps 1500 [--set image_size=16] [--images 256]

A training of `edm` with a constant learning rate makes four fifths of --steps and then goes on in two ways: at the same
rate, and with a rate that falls linearly to 0. Each is measured with its last weights and with averages that look back
different shares of the images seen so far; the loop's own is 0.05. The table shows the training loss on unseen images
(the same noise for all weights, so that small differences count), the mean over classes, and the share of generated
images that a classifier of the training images recognises.
"""

import argparse
import copy
import json
import statistics
import sys
from pathlib import Path

import common
import numpy as np
import torch

from balancegan.commands.train import TrainRequest, configure
from balancegan.compute.pixels import to_float
from balancegan.core.config import parse_set
from balancegan.data.batches import Batches
from balancegan.data.training_set import open_training_set
from balancegan.methods.base import DataSpec
from balancegan.methods.edm import EDM
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers
from balancegan.training.state import State
from balancegan.training.steps import Steps

SHARES = (0.02, 0.05, 0.1, 0.2)  # of the images seen so far, which an average's half-life spans
DRAWS = 8  # of noise, per unseen image
CPU = torch.device("cpu")


class Training:
    """A training with averages of its weights; `fork` copies it as it is."""

    def __init__(self, data, cfg):
        self.data, self.cfg = data, cfg
        self.method = EDM(cfg)
        State(cfg.seed).seed("init")
        channels = data.store.images.shape[1]
        counts = tuple(len(rows) for rows in data.by_class(data.train_rows))
        self.method.setup(DataSpec(len(data.class_names), channels, cfg.image_size, counts))
        self.method.to(memory_format=torch.channels_last)
        self.batches = Batches.of(data, cfg, CPU)
        (self.stage,) = self.method.stages()
        if self.stage.begin:
            self.stage.begin(self.batches)
        self.averages = {share: copy.deepcopy(self.method.G) for share in SHARES}
        self._enter()

    def _enter(self):
        self.steps = Steps(self.method, self.batches, CPU)
        self.steps.enter(self.method.stages()[0])

    def fork(self):
        other = copy.copy(self)
        other.method, other.averages = copy.deepcopy(self.method), copy.deepcopy(self.averages)
        other._enter()
        other.steps.load({name: copy.deepcopy(o.state_dict()) for name, o in self.steps.optimisers.items()})
        return other

    def run(self, start, stop, rate=lambda step: 1.0):
        """Make the steps from `start` to `stop`, with the learning rate times `rate` of each."""
        for step in range(start, stop):
            (update,) = self.steps.stage.updates
            if step >= update.warmup_steps:
                self.steps._set_rate(update, rate(step) * update.lr)
            State(self.cfg.seed).seed("step", step)
            self.steps.step(step)
            for share, network in self.averages.items():
                beta = 0.5 ** (1 / max(share * (step + 1), 1e-9))
                for average, now in zip(network.parameters(), self.method.G.parameters(), strict=True):
                    average.data.lerp_(now.data, 1 - beta)
        return self

    def measures(self, extractor, images):
        """Yield the name of every set of weights, its loss on unseen images, and the share of recognised samples."""
        unseen = self.data.by_class(self.data.unseen_rows)
        for name, network in {"last": self.method.G, **self.averages}.items():
            self.method.G_ema.load_state_dict(network.state_dict())
            samplers = make_samplers(self.method, CPU)
            losses, known = [], []
            for label, rows in enumerate(unseen):
                losses.append(self.loss(self.data.store.images[rows], label))
                fake = first_images(samplers, label, images)[1]
                known.append(float((extractor.logits(fake).argmax(1) == label).mean()))
            yield str(name), {"loss": statistics.fmean(losses), "known": round(statistics.fmean(known), 3)}
        self.method.train()

    @torch.no_grad()
    def loss(self, images, label):
        """Return the mean of the weighted error of `G_ema` over `DRAWS` draws of noise; see the method's `loss`."""
        cfg, generator, total = self.cfg, torch.Generator().manual_seed(label), 0.0
        x = to_float(torch.from_numpy(np.ascontiguousarray(images[:128])))
        c = torch.full((len(x),), label)
        for _ in range(DRAWS):
            sigma = torch.exp(cfg.noise_mean + cfg.noise_std * torch.randn(len(x), 1, 1, 1, generator=generator))
            noisy = x + sigma * torch.randn(x.shape, generator=generator)
            weight = (sigma**2 + cfg.sigma_data**2) / (sigma * cfg.sigma_data) ** 2
            with self.method.sampling_network() as network:
                total += float((weight * (self.method.denoise(network, noisy, sigma, c) - x).square()).mean())
        return total / DRAWS


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args(argv)
    flags = {"steps": args.steps, **parse_set(args.set)}
    cfg = configure(TrainRequest(args.data, "edm", "tiny", flags, device="cpu", use_environment=False)).cfg
    data, most = open_training_set(args.data, cfg), args.steps * 4 // 5
    extractor, rows = OwnExtractor.of(data), {}

    def measured(name, training):
        rows[name] = dict(training.measures(extractor, args.images))
        print(json.dumps({name: rows[name]}), flush=True)

    trunk = Training(data, cfg).run(0, most)
    measured("constant, four fifths", trunk)
    left = args.steps - most
    measured("linear to 0", trunk.fork().run(most, args.steps, lambda step: (args.steps - step) / left))
    measured("constant", trunk.run(most, args.steps))
    print("\n".join(common.grid_head("learning rate", "last weights", *(f"average {share:g}" for share in SHARES))))
    for name, found in rows.items():
        print(common.line(name, *(f"{row['loss']:.4f} ({row['known']:.1%})" for row in found.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
