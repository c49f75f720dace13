"""Images made on the spot, small methods, a tiny training run, and the command line: shared by the test modules."""

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from balancegan.cli.app import app
from balancegan.commands.train import TrainRequest, launch
from balancegan.core.config import resolve
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.methods import METHODS, load_method
from balancegan.methods.base import DataSpec
from balancegan.methods.gan import GAN
from balancegan.nets.classifier import adamw
from balancegan.verdict.material import Pool
from balancegan.verdict.networks import Network

GANS = [name for name in METHODS if issubclass(load_method(name), GAN)]

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
TINY = {
    "image_size": 16,
    "width": 16,
    "latent_dim": 8,
    "batch_size": 8,
    "pretrain_steps": 4,
    "steps": 6,
    "log_every": 2,
    "save_every": 5,
    "sample_every": 100,
    "group_by": "none",  # the discs of a class are alike
}

NARROW = ("--preset", "tiny", "--image-size", "16", "--device", "cpu", "--set", "width=16", "--set", "latent_dim=8")
SHORT = (*NARROW, "--group-by", "none", "--steps", "4", "--pretrain-steps", "2", "--batch-size", "8")
"""Options of `train` and `compare` for a narrow network and a few steps."""


def write_images(folder: Path, counts: dict[str, int], *, size: int = 16, grey: bool = False, seed: int = 0) -> Path:
    """`folder/<class>/NNN.png` of noisy discs, one colour and one position per class."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            cx, cy = rng.uniform(0.3, 0.7, 2) * size
            disc = ((xx - cx) ** 2 + (yy - cy) ** 2 < (size * (0.2 + 0.08 * k)) ** 2)[..., None]
            pixels = np.where(disc, COLOURS[k % 3], (230, 230, 230)) + rng.normal(0, 6, (size, size, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            (image.convert("L") if grey else image).save(folder / name / f"{i:03d}.png")
    return folder


def tree(folder):
    """Name -> (hash, mode, time of change) of everything below a folder, and of the folder itself."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        info = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (content, info.st_mode, info.st_mtime_ns)
    return found


def hashes(folder: Path) -> dict[str, str]:
    """Relative path -> hash of every file."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def open_in_process(root: str, cache: str, out) -> None:
    """Open the store of a folder and put what it holds into a queue; here, where a process of its own finds it."""
    store = open_store(scan(root), DecodeSettings(image_size=16), cache_dir=Path(cache))
    out.put((store.fingerprint, int(store.images.sum())))


def fall_over(chunk):
    """What a worker does that dies at the 5, and what is right in the process that started it."""
    if multiprocessing.parent_process() is not None and 5 in chunk:
        os._exit(1)
    return [x * 2 for x in chunk]


def call(*args, code=0):
    """Run the command line in this process; its result, with the exit code that is expected."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def call_json(*args, code=0):
    """The one document that a command prints with --json."""
    result = call(*args, "--json", code=code)
    document = json.loads(result.stdout)  # one document and nothing else
    assert document["schema_version"] == 1
    return document


def correlated(thumbs, labels, names, *, progress):
    """Group images that differ only in brightness and contrast; stands in for the search, which needs many images."""
    progress("siblings", len(thumbs), len(thumbs))
    x = thumbs.reshape(len(thumbs), -1).astype(float)
    x -= x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-9
    return (x @ x.T > 0.98).argmax(axis=1)


class Quiet:
    """A monitor that remembers what it was told."""

    def __init__(self):
        self.rows, self.notes, self.steps = [], [], []

    def step(self, stage, step, total):
        self.steps.append((stage, step))

    def tick(self, row):
        self.rows.append(row)

    def note(self, text):
        self.notes.append(text)


def train_tiny(data: Path, out: Path, monitor=None, *, method="sgbgan", resume="auto", max_seconds=None, **flags):
    """Run `launch` on the CPU with a narrow network; methods without pre-training skip it."""
    kind = load_method(method)
    stage = {} if kind.pretrains() else {"pretrain_steps": 0}
    tiny = {k: v for k, v in TINY.items() if k in kind.Config.__dataclass_fields__}
    request = TrainRequest(
        data=data,
        method=method,
        preset="tiny",
        flags={**tiny, **flags, **stage},
        device="cpu",
        out=out,
        resume=resume,
        max_seconds=max_seconds,
    )
    return launch(request, monitor or Quiet())


DATA = DataSpec(num_classes=3, channels=3, image_size=16, class_counts=(20, 6, 4))
NARROW = {"width": 16, "latent_dim": 8}  # of these, the fields that a method has


def make_method(name, **overrides):
    """A small instance of a method, set up."""
    kind = load_method(name)
    fields = kind.Config.__dataclass_fields__
    narrow = {k: v for k, v in NARROW.items() if k in fields}
    cfg = resolve(kind.Config, kind.presets["tiny"], flags={"image_size": 16, **narrow, **overrides}, env={})
    torch.manual_seed(0)
    method = kind(cfg)
    method.setup(DATA)
    return method


def patterns(label, n, seed=0, modes=6):
    """Images of a class: one of several fixed coarse patterns each, alike in the mirror, under noise."""
    kinds = np.random.default_rng(100 + label).integers(0, 2, (modes, 4, 2)) * 160 + 40
    kinds = np.concatenate([kinds, kinds[..., ::-1]], axis=2)
    rng = np.random.default_rng([label, seed])
    images = kinds[np.arange(n) % modes].repeat(4, axis=1).repeat(4, axis=2)[:, None]
    return np.clip(images + rng.normal(0, 15, (n, 1, 16, 16)), 0, 255).astype(np.uint8)


def tiny_network():
    """A classifier for the verdict that learns patterns in a second."""

    def build(channels, classes, side):
        trunk = (nn.Conv2d(channels, 32, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        return nn.Sequential(*trunk, nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, classes))

    return Network("tiny", build, adamw, side=64, batch=16, epochs=20, updates=(80, 80), note="-")


def pool(*parts):
    """Pairs of images and their label."""
    images = [np.empty((0, 1, 16, 16), np.uint8), *(images for images, _ in parts)]
    labels = np.concatenate([np.empty(0, int), *(np.full(len(images), label) for images, label in parts)])
    return Pool(np.concatenate(images), labels.astype(np.int64))
