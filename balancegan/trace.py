"""What a trained run shows of its latent space: ways between latents, and where the encoder puts real images."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from balancegan.accumulate import Accumulator
from balancegan.batches import Batches
from balancegan.data.training_set import TrainingSet
from balancegan.device import memory_errors
from balancegan.methods import load_method
from balancegan.methods.base import Method
from balancegan.metrics.embedding import CAVEAT, MIN_POINTS, embedding_json, equal_shares, tsne
from balancegan.nets.vae import VariationalEncoder
from balancegan.parts import Fitting
from balancegan.pixels import to_float, to_uint8
from balancegan.progress import Progress, silent
from balancegan.report.extras import Extras
from balancegan.restore import Restored
from balancegan.rundir import RunDir
from balancegan.sample import latents

MAX_ROWS = 12
"""Classes that an interpolation shows."""

PLAIN_STEPS = 200
"""Updates that the plain autoencoder gets for the comparison, at most."""

PLAIN_SECONDS = 60.0
"""And how long they may take: on a CPU one update of the full-size networks takes seconds."""

_PLAIN = "bagan-gp"  # whose autoencoder has the plain encoder, and otherwise SGBGAN's stage
_CHUNK = 64
_FRAME = re.compile(r"step-(\d{6,})\.png")

Json = dict[str, Any]


# Extras --------------------------------------------------------------------------------------------------------------


def run_extras(restored: Restored, *, columns: int = 9, seed: int = 0) -> Extras:
    """Everything of `Extras`; no interpolation where the adversarial training never began or never came to an end."""
    able = restored.trained and restored.method.ready
    strip = interpolation(restored, columns, seed) if able else None
    return Extras(strip, frames(restored.run, last=restored.checkpoint.step))


def frames(run: RunDir, last: int | None = None) -> tuple[tuple[int, Path], ...]:
    """Step and path of the run's sample grids up to step `last`, in the order of steps."""
    files = run.samples.iterdir() if run.samples.is_dir() else ()
    found = [(int(match[1]), path) for path in files if (match := _FRAME.fullmatch(path.name))]
    return tuple(sorted((step, path) for step, path in found if last is None or step <= last))


@torch.no_grad()
def interpolation(restored: Restored, columns: int = 9, seed: int = 0) -> np.ndarray:
    """Images on the way from one latent to another, the same way for every class.

    Args:
        restored: the run.
        columns: images per row, at least 2; the first and the last are those of the seeds themselves.
        seed: the two ends are seeds 2·seed and 2·seed + 1.

    Returns:
        uint8 (K, columns, C, S, S) with K classes, `MAX_ROWS` at most, or one row for an unconditional method.
    """
    method, device = restored.method, restored.device
    first, last = latents(method, (2 * seed, 2 * seed + 1))
    path = between(first, last, columns, method.support).to(device)
    rows = min(method.data.num_classes, MAX_ROWS) if method.conditional else 1
    fitting = Fitting(columns, device)

    def row(k: int) -> Tensor:
        c = torch.full((columns,), k, device=device)
        return fitting.rows(lambda some: method.sample(path[some], c[some]), columns)

    with memory_errors(device, "use --device cpu"):
        images = [to_uint8(row(k)) for k in range(rows)]
    return torch.stack(images).contiguous().cpu().numpy()


def between(first: Tensor, last: Tensor, columns: int, support: tuple[float, float]) -> Tensor:
    """Latents (columns, d) from one (d,) to another along a great circle.

    Spherical interpolation (White 2016, arXiv 1609.04468): halfway on a straight line, normal latents would be shorter
    than any that the generator was trained on. Latents uniform over a finite `support` are made normal for the way
    and uniform again, so that no point leaves the support.
    """
    low, high = support
    bounded = np.isfinite(high - low)
    ends = torch.stack([first, last]).double()
    if bounded:
        ends = torch.special.ndtri(((ends - low) / (high - low)).clamp(1e-6, 1 - 1e-6))
    a, b = ends
    t = torch.linspace(0, 1, columns, dtype=torch.float64)[:, None]
    angle = torch.arccos((a @ b / (a.norm() * b.norm()).clamp_min(1e-12)).clamp(-1, 1))
    if angle.sin() < 1e-4:  # the same direction or the opposite one: no great circle, or any
        way = (1 - t) * a + t * b
    else:
        way = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
    return (torch.special.ndtr(way) * (high - low) + low if bounded else way).float()


# Latents -------------------------------------------------------------------------------------------------------------


def latent_embeddings(
    restored: Restored,
    data: TrainingSet,
    *,
    plain: bool,
    seed: int = 0,
    limit: int = 500,
    plain_steps: int = PLAIN_STEPS,
    progress: Progress = silent,
) -> list[Json]:
    """Where encoders put training images, each as a t-SNE plot in the report's form (SGBGAN's Fig. 9).

    Args:
        restored: the run.
        data: what it was trained on.
        plain: train BAGAN-GP's plain autoencoder too, for a method with a variational one.
        seed: of the choice of images, of t-SNE and of the plain autoencoder.
        limit: images at most, equal shares of it per class.
        plain_steps: updates of the plain autoencoder, at most the run's own number.
        progress: called as `("plain autoencoder", step, steps)`.

    Returns:
        `latents`, then `labelled_latents` where a label embedding is multiplied with them, then `plain_latents`; empty
        for a method without an encoder, with one that was never trained, and with fewer than `MIN_POINTS` images.
    """
    method, cfg = restored.method, restored.method.cfg
    steps = min(restored.checkpoint.step, cfg.pretrain_steps)
    encoder = getattr(method, "E", None)
    rows = _chosen_rows(data, limit, seed)
    if encoder is None or not steps or len(rows) < MIN_POINTS:
        return []
    labels, variational = data.labels[rows].tolist(), isinstance(encoder, VariationalEncoder)
    with memory_errors(restored.device, "use --device cpu"):
        codes = _encode(encoder, data, rows, restored.device)
        plots = [("latents", f"Latents of {method.title}'s encoder", _latents_caption(steps, variational), codes)]
        embedding = _label_embedding(restored)
        if embedding is not None:
            labelled = codes * embedding(torch.tensor(labels, device=restored.device)).detach().cpu()
            plots.append(("labelled_latents", "Latents times the label embedding", _labelled_caption(), labelled))
        if plain and variational:
            encoder, count = _plain_encoder(restored, data, min(steps, plain_steps), seed, progress)
            codes = _encode(encoder, data, rows, restored.device)
            plots.append(("plain_latents", "Latents of a plain encoder", _plain_caption(count, steps), codes))
    about = f"t-SNE of {len(rows):,} real training images, coloured by class."
    return [
        embedding_json(id, title, f"{about} {text} {CAVEAT}", tsne(z.numpy(), seed), labels, [False] * len(labels))
        for id, title, text, z in plots
    ]


def _chosen_rows(data: TrainingSet, limit: int, seed: int) -> np.ndarray:
    """Rows of the store: training images, equal shares of the limit per class as far as there are as many."""
    rng = np.random.default_rng(seed)
    members = [data.train_rows[data.labels[data.train_rows] == k] for k in range(len(data.class_names))]
    shares = equal_shares([len(rows) for rows in members], limit)
    chosen = [np.sort(rng.choice(rows, n, replace=False)) for rows, n in zip(members, shares, strict=True) if n]
    return np.concatenate([data.train_rows[:0], *chosen])


@torch.no_grad()
def _encode(encoder: nn.Module, data: TrainingSet, rows: np.ndarray, device: torch.device) -> Tensor:
    """Latents of the images (n, latent_dim) on the CPU; of a variational encoder the means."""
    encoder.eval()

    def encoded(some: slice) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(data.store.images[rows[some]]))
        out = encoder(to_float(images.to(device)))
        return (out[0] if isinstance(out, tuple) else out).float().cpu()

    return Fitting(_CHUNK, device).rows(encoded, len(rows))


def _label_embedding(restored: Restored) -> nn.Module | None:
    """What the generator that samples multiplies its latents with, where it does so."""
    method = restored.method
    averaged = restored.trained and method.G_ema is not None  # the average begins with the adversarial training
    generator = method.G_ema if averaged else method.G
    embedding = getattr(generator, "embedding", None)
    return embedding if isinstance(embedding, nn.Embedding) else None


def _plain_encoder(
    restored: Restored, data: TrainingSet, steps: int, seed: int, progress: Progress
) -> tuple[nn.Module, int]:
    """The encoder of a plain autoencoder of the same size, trained here as the run's own was, and how many updates."""
    cfg, device = restored.method.cfg, restored.device
    kind = load_method(_PLAIN)
    values = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(kind.Config) if hasattr(cfg, f.name)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        method = kind(kind.Config(**{**values, "ema_halflife": 0.0}))
        method.setup(restored.method.data)
        method = method.to(device).to(memory_format=torch.channels_last).train()
        count = _train_autoencoder(method, Batches.of(data, cfg, device), steps, progress)
    return method.get_submodule("E"), count


def _train_autoencoder(method: Method, batches: Batches, steps: int, progress: Progress) -> int:
    """The pre-training stage of the training loop, without its records: nothing of it is kept or continued.

    Returns the number of updates, fewer than `steps` where the time was over.
    """
    cfg = method.cfg
    adam = torch.optim.Adam(
        list(method.pretrain_parameters()), lr=cfg.lr_pretrain, betas=(cfg.pretrain_beta1, cfg.beta2)
    )
    gradients = Accumulator(method, batches.device, cfg.batch_size)
    began = time.monotonic()
    for step in range(steps):
        if step and time.monotonic() - began > PLAIN_SECONDS:
            return step
        gradients("pretrain", method.pretrain_loss, *batches.draw(), adam.zero_grad)
        adam.step()
        progress("plain autoencoder", step + 1, steps)
    return steps


def _latents_caption(steps: int, variational: bool) -> str:
    kind = "the variational encoder (its mean)" if variational else "the encoder"
    return (
        f"Latents of {kind} as pre-training left it after {steps:,} updates: the adversarial training does not change "
        "the encoder, only the discriminator that began as a copy of its trunk. Classes that lie apart here were told "
        "apart before the generator learnt to make them."
    )


def _labelled_caption() -> str:
    return (
        "The same latents, each multiplied by the label embedding of its class as the generator multiplies it. "
        "The embedding sees the label, so classes should lie apart here; where two do not, the generator can "
        "hardly tell them apart."
    )


def _plain_caption(count: int, steps: int) -> str:
    rough = (
        f" It had {count:,} updates, the run's own encoder {steps:,}: a rough comparison, to the plain one's "
        "disadvantage."
        if count < steps
        else f" It had {count:,} updates, as many as the run's own encoder."
    )
    return (
        "Latents of a plain autoencoder of the same width and latent size (BAGAN-GP's: no gates, no attention, not "
        "variational), trained for this picture on the same images." + rough
    )
