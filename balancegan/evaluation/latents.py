"""Maps a run's latent space: where its encoder puts real training images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from balancegan.compute.memory import Fitting, memory_errors
from balancegan.compute.pixels import to_float
from balancegan.core.documents import Json
from balancegan.core.progress import Progress, silent
from balancegan.data.training_set import TrainingSet
from balancegan.methods.base import Method
from balancegan.metrics.embedding import CAVEAT, MIN_POINTS, embedding_json, equal_shares, tsne
from balancegan.runs.restore import Restored
from balancegan.training.autoencoder import PLAIN_STEPS, plain_autoencoder

_CHUNK = 64

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
    """t-SNE plots of encoders' latents of training images, as embeddings for the report (SGBGAN's Fig. 9).

    Args:
        restored: the run.
        data: its training data.
        plain: also train BAGAN-GP's plain autoencoder, for a method with a variational one.
        seed: for the choice of images, t-SNE and the plain autoencoder.
        limit: maximum number of images, shared equally among the classes.
        plain_steps: updates of the plain autoencoder; never more than the run's own pre-training.
        progress: called as `("plain autoencoder", step, steps)`.

    Returns:
        `latents`, then `labelled_latents` if the generator multiplies latents by a label embedding, then
        `plain_latents`. Empty if the method has no encoder, if the encoder was never trained, or if there are fewer
        than `MIN_POINTS` images.
    """
    method = restored.method
    steps = min(restored.checkpoint.step, method.schedule.before_last)
    rows = _chosen_rows(data, limit, seed)
    if not method.encoder_kind or not steps or len(rows) < MIN_POINTS:
        return []
    labels, variational = data.labels[rows].tolist(), method.encoder_kind == "variational"
    with memory_errors(restored.device, "use --device cpu"):
        codes = _encode(method, data, rows, restored.device)
        plots = [("latents", f"Latents of {method.title}'s encoder", _latents_caption(steps, variational), codes)]
        embedding = _label_embedding(restored)
        if embedding is not None:
            labelled = codes * embedding(torch.tensor(labels, device=restored.device)).detach().cpu()
            plots.append(("labelled_latents", "Latents times the label embedding", _labelled_caption(), labelled))
        if plain and variational:
            plain_method, count = plain_autoencoder(restored, data, min(steps, plain_steps), seed, progress)
            codes = _encode(plain_method, data, rows, restored.device)
            plots.append(("plain_latents", "Latents of a plain encoder", _plain_caption(count, steps), codes))
    about = f"t-SNE of {len(rows):,} real training images, coloured by class."
    return [
        embedding_json(id, title, f"{about} {text} {CAVEAT}", tsne(z.numpy(), seed), labels, [False] * len(labels))
        for id, title, text, z in plots
    ]


def _chosen_rows(data: TrainingSet, limit: int, seed: int) -> np.ndarray:
    """Rows of the store: training images, with the limit shared equally among the classes where they have enough."""
    rng = np.random.default_rng(seed)
    members = data.by_class(data.train_rows)
    shares = equal_shares([len(rows) for rows in members], limit)
    chosen = [np.sort(rng.choice(rows, n, replace=False)) for rows, n in zip(members, shares, strict=True) if n]
    return np.concatenate([data.train_rows[:0], *chosen])


@torch.no_grad()
def _encode(method: Method, data: TrainingSet, rows: np.ndarray, device: torch.device) -> Tensor:
    """Latents of the images (n, latent_dim) on the CPU; for a variational encoder, their means."""
    method.eval()

    def encoded(some: slice) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(data.store.images[rows[some]]))
        return method.encode(to_float(images.to(device))).float().cpu()

    return Fitting(_CHUNK, device).rows(encoded, len(rows))


def _label_embedding(restored: Restored) -> nn.Module | None:
    """The label embedding by which the sampling generator multiplies its latents, or None."""
    method = restored.method
    averaged = restored.trained and method.G_ema is not None  # averaging starts with the last stage
    generator = method.G_ema if averaged else method.G
    embedding = getattr(generator, "embedding", None)
    return embedding if isinstance(embedding, nn.Embedding) else None


def _latents_caption(steps: int, variational: bool) -> str:
    kind = "the variational encoder (its mean)" if variational else "the encoder"
    return (
        f"Latents of {kind} after {steps:,} updates of pre-training. Adversarial training does not change the encoder, "
        "only the discriminator, which starts as a copy of its trunk. If classes are separate here, the encoder could "
        "tell them apart before the generator learnt to make them."
    )


def _labelled_caption() -> str:
    return (
        "The same latents, each multiplied by the label embedding of its class, as in the generator. The embedding "
        "sees the label, so classes should be separate here; if two overlap, the generator can hardly tell them apart."
    )


def _plain_caption(count: int, steps: int) -> str:
    rough = (
        f" It was trained for {count:,} updates and the run's own encoder for {steps:,}, so the comparison is rough "
        "and puts the plain one at a disadvantage."
        if count < steps
        else f" It was trained for {count:,} updates, as many as the run's own encoder."
    )
    return (
        "Latents of a plain autoencoder of the same width and latent size (BAGAN-GP's: no gates, no attention, not "
        "variational), trained for this plot on the same images." + rough
    )
