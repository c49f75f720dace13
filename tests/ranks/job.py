"""What the tests of several processes let `torchrun` start: `job.py SCENARIO FOLDER`. Rank 0 writes results there."""

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import Quiet, train_tiny

from balancegan.compute import ranks
from balancegan.compute.microbatch import rows
from balancegan.core.errors import DiskError
from balancegan.core.options import SamplingOptions
from balancegan.data import build
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.sources import SourceImages
from balancegan.data.store import open_store
from balancegan.data.training_set import reopen_training_set
from balancegan.methods import METHODS, load_method
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.extractors import spread as spread_extractor
from balancegan.nets import losses
from balancegan.nets.classifier import build_classifier
from balancegan.nets.layers import BatchNorm2d
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import first_images
from balancegan.sampling.choice import make_samplers
from balancegan.training.accumulation import Accumulator
from balancegan.training.steps import Steps

FOLDER = Path(sys.argv[2])
DATA = FOLDER / "discs"


def settings(name):
    """Five steps and, where there is pre-training, three before."""
    return {"method": name, "pretrain_steps": 3 if load_method(name).pretrains() else 0, "steps": 5}


# Pieces, at every rank -----------------------------------------------------------------------------------------------


def share(x):
    each = len(x) // ranks.here().size
    return x[ranks.here().rank * each : (ranks.here().rank + 1) * each]


def pieces():
    """Networks' and losses' values and gradients, each rank on its rows; for `test_ranks.whole_pieces` to compare."""
    torch.manual_seed(0)
    whole = {name: torch.randn(8, 6) for name in ("one", "two", "fake")}
    images, weights = torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    with ranks.here().together(8):
        return measure_pieces(*(share(x) for x in (*whole.values(), images, weights)), ranks.here().size)


def measure_pieces(one, two, fake, images, weights, size):
    """Each as {name: tensor}; a loss is a mean over this rank's rows, and gradients are those of the mean over all."""
    found = {}
    inputs = [x.clone().requires_grad_() for x in (one, two, fake)]
    for name, loss, of in (("nt_xent", losses.nt_xent, inputs[:2]), ("supcon", losses.supcon_fake, inputs)):
        value = loss(*of)
        found[name] = value.detach()
        for i, gradient in enumerate(torch.autograd.grad(value / size, of)):
            found[f"{name} gradient {i}"] = gradient
    torch.manual_seed(1)
    norm = BatchNorm2d(3)
    torch.nn.init.normal_(norm.weight)
    x = images.clone().requires_grad_()
    y = norm(x)
    (first,) = torch.autograd.grad((y.square() * weights).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    found |= {"norm": y.detach(), "norm gradient": first.detach(), "norm second gradient": second}
    found |= {"mean": norm.running_mean, "var": norm.running_var}
    found["drawn"] = rows(lambda n: torch.rand(n, generator=torch.Generator().manual_seed(3)), len(one))
    return found


def uneven():
    """Batch norm over 3 images at rank 0 and none elsewhere."""
    torch.manual_seed(0)
    images = torch.randn(3, 2, 4, 4)
    mine = images if ranks.here().is_main else images[:0]
    with ranks.here().together(ranks.here().size):
        norm = BatchNorm2d(2)
        y = norm(mine)
    return y.detach(), norm.running_var


class Linear:
    """A method of one weight, whose loss is a mean over images."""

    least_part, G_ema = 1, None

    def modules(self):
        return iter(())


def in_parts():
    """The gradient of a mean over images, every rank's rows in parts of 2."""
    weight = torch.zeros(3, requires_grad=True)
    x = torch.arange(24.0).view(8, 3)

    def loss(x, c):
        noise = rows(lambda n: torch.rand(n, generator=torch.Generator().manual_seed(4)), len(x))
        return {"mean": (F.softplus(x @ weight) * noise).mean()}

    here = ranks.here()
    with here.together(8):
        accumulate = Accumulator(Linear(), torch.device("cpu"), 2)
        terms = accumulate("d", loss, share(x), share(torch.zeros(8, dtype=torch.long)), lambda: None)
        return here.summed([weight], terms)["mean"], weight.grad


# Scenarios, at rank 0 ------------------------------------------------------------------------------------------------


def everything():
    """All that ends well, in one job, since starting one takes seconds."""
    here = ranks.here()
    found = {name: here.split(work, [()] * here.size) for name, work in PIECES.items()}
    for name in METHODS:
        train_tiny(DATA, FOLDER / "two", **settings(name))
    train_tiny(DATA, FOLDER / "resumed", **settings("sgbgan") | {"steps": 3})
    train_tiny(DATA, FOLDER / "alone-first", **settings("sgbgan"))
    found["rolled back"] = rolled_back()
    found["images"] = sampled()
    extractor = OwnExtractor(build_classifier(3, 3, 16), side=16)
    images = np.random.default_rng(0).integers(0, 256, (33, 3, 16, 16), dtype=np.uint8)
    found["features"] = (spread_extractor(extractor)(images), extractor(images))
    torch.save(found, FOLDER / "found.pt")


def rolled_back():
    """Notes of a training in which a loss of rank 1 alone is not a number at one step."""
    monitor = Quiet()
    here = ranks.here()
    here.split(spoil, [(True,)] * here.size)
    train_tiny(DATA, FOLDER / "rolled", monitor, method="dcgan", pretrain_steps=0, steps=6)
    here.split(spoil, [(False,)] * here.size)
    return monitor.notes


_update = Steps._update


def spoil(on):
    def spoilt(self, update, x, c, done):
        bad = ranks.here().rank == 1 and done == 4 and self.rate == 1

        def worse(x, c):
            terms = update.loss(x, c)
            return {key: value * torch.nan for key, value in terms.items()} if bad else terms

        _update(self, replace(update, loss=worse), x, c, done)

    Steps._update = spoilt if on else _update


def sampled():
    """First images of a class by all ranks, and by this one, for both kinds of method."""
    found = {}
    options = {"edm": SamplingOptions("other", 0.5, 2.0)}
    for name in ("sgbgan", "damage-gan", "edm"):
        run = RunDir(next((FOLDER / "two").glob(f"*-{name}-discs")))
        method = restore(run, "cpu").method
        sources = SourceImages.of(reopen_training_set(run.read_json("dataset.json"), method.cfg))
        both = make_samplers(method, torch.device("cpu"), sources=sources, options=options.get(name))
        alone = [sampler.own for sampler in both]
        found[name] = [first_images(samplers[:1], 0, 70) for samplers in (both, alone)]
    return found


def decode():
    """The store of a folder that both processes decode."""
    here = ranks.here()
    store = open_store(scan(DATA), DecodeSettings(image_size=16))
    shares = here.split(has_decoded, [()] * here.size)
    found = {"images": np.array(store.images), "fingerprint": store.fingerprint, "shares": shares}
    torch.save(found, FOLDER / "decoded.pt")


_decode_share = build._decode_share
_decoded = []


def counted(job, chunks, workers):
    _decoded.append(len(chunks))
    return _decode_share(job, chunks, workers)


def has_decoded():
    return sum(_decoded) > 0


def long():
    """A training that somebody ends from outside."""
    train_tiny(DATA, FOLDER / "long", method="sgbgan", pretrain_steps=0, steps=int(os.environ["STEPS"]), save_every=5)


def broken(error, rank):
    """A training in which a rank fails at a step."""
    here = ranks.here()
    here.split(fail_at, [(rank, error)] * here.size)
    train_tiny(DATA, FOLDER / "broken", method="sgbgan", pretrain_steps=0, steps=6, save_every=2)


def fail_at(rank, error):
    def failing(self, update, x, c, done):
        def failed(x, c):
            raise error

        fails = ranks.here().rank == rank and done == 3
        _update(self, replace(update, loss=failed) if fails else update, x, c, done)

    def full(*arguments, **options):
        raise error

    if isinstance(error, DiskError):
        RunDir.append_metrics = full
    else:
        Steps._update = failing


PIECES = {"pieces": pieces, "uneven": uneven, "in parts": in_parts}
SCENARIOS = {
    "everything": everything,
    "decode": decode,
    "long": long,
    "disk": partial(broken, DiskError("there is no room", "make some"), 0),
    "memory": partial(broken, RuntimeError("CUDA out of memory"), 1),
}


if __name__ == "__main__":
    import job  # under its own name, by which the ranks send its functions to each other

    if sys.argv[1] == "decode":  # as if each process had a machine of its own
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        build._decode_share = job.counted
    ranks.run(job.SCENARIOS[sys.argv[1]])
