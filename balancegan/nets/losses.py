"""Losses as pure functions of tensors. The tests compare each with a slow reference written from its equation."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from balancegan.compute.collectives import first_row, gathered


def bce_as_real(logits: Tensor) -> Tensor:
    """Return the binary cross-entropy against 1: the mean of -log sigmoid(logits), a scalar."""
    return F.softplus(-logits.float()).mean()


def bce_as_fake(logits: Tensor) -> Tensor:
    """Return the binary cross-entropy against 0: the mean of -log(1 - sigmoid(logits)), a scalar."""
    return F.softplus(logits.float()).mean()


def wasserstein_as_real(logits: Tensor) -> Tensor:
    """Return the negative mean of a critic's output: low if the critic rates the images real (Arjovsky et al. 2017)."""
    return -logits.float().mean()


def wasserstein_as_fake(logits: Tensor) -> Tensor:
    """Return the mean of a critic's output: low if the critic rates the images generated."""
    return logits.float().mean()


def least_squares(logits: Tensor, target: float) -> Tensor:
    """Return the mean of (D - target)², the loss of LSGAN (Mao et al. 2017), a scalar."""
    return (logits.float() - target).square().mean()


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log softmax(logits)[label] of every image: (N, K), (N,) -> (N,)."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def gradient_penalty(critic: Callable[[Tensor], Tensor], x_real: Tensor, x_fake: Tensor, alpha: Tensor) -> Tensor:
    """Return the mean of (‖∇D(x̂)‖₂ - 1)² at x̂ = α·x_real + (1-α)·x_fake (SGBGAN Eq. 9, Gulrajani et al. 2017).

    `critic` maps images (N, C, H, W) to logits (N,) and must treat images independently (no batch norm).
    `alpha`: (N,) in [0, 1]. Always computed in float32: bf16 gradients are too coarse for ‖g‖ - 1.
    """
    alpha = alpha.view(-1, 1, 1, 1).float()
    x_hat = torch.lerp(x_fake.detach().float(), x_real.float(), alpha).requires_grad_(True)
    with torch.autocast(x_hat.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
    # The small constant keeps the square root differentiable at a zero gradient.
    norm = gradient.flatten(1).square().sum(1).add(1e-12).sqrt()
    return (norm - 1).square().mean()


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, 1)), summed over latents (N, L) and averaged over the batch."""
    mu, logvar = mu.float(), logvar.float()
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()


def image_cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Return the cross-entropy of images on [0, 1], summed over pixels and averaged over the batch.

    `logits` is a decoder's pre-activation a with reconstruction tanh(a), `x` the target in [-1, 1], both
    (N, C, H, W): the reconstruction on [0, 1] is (tanh(a) + 1)/2 = sigmoid(2a).
    """
    return F.binary_cross_entropy_with_logits(2 * logits.float(), (x.float() + 1) / 2, reduction="sum") / x.shape[0]


def image_squared_error(logits: Tensor, x: Tensor) -> Tensor:
    """Return the squared error on [0, 1], summed over pixels and averaged over the batch; see `image_cross_entropy`."""
    return F.mse_loss(torch.sigmoid(2 * logits.float()), (x.float() + 1) / 2, reduction="sum") / x.shape[0]


def mean_absolute_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Return the mean over images and pixels of |reconstruction - x|, both in [-1, 1] (BAGAN-GP's autoencoder)."""
    return F.l1_loss(reconstruction.float(), x.float())


def mean_squared_error(reconstruction: Tensor, x: Tensor) -> Tensor:
    """Return the mean over images and pixels of (reconstruction - x)², both in [-1, 1] (BAGAN's autoencoder)."""
    return F.mse_loss(reconstruction.float(), x.float())


def nt_xent(view1: Tensor, view2: Tensor, temperature: float = 0.1) -> Tensor:
    """Return SimCLR's loss of two views of the same images (Chen et al. 2020, Eq. 1), averaged over all 2N views.

    Each view must identify its image's other view among all other views: cross-entropy of the cosine similarities
    divided by `temperature`. `view1`, `view2`: unnormalised projections (N, d), row i of both from image i. If ranks
    train together, the mean is over this rank's views, and the negatives come from all ranks.
    """
    n, first = len(view1), first_row(len(view1))
    z = F.normalize(torch.stack([view1, view2], dim=1).float(), dim=2)  # (N, 2, d)
    mine, everyone = (some.transpose(0, 1).flatten(0, 1) for some in (z, gathered(z)))  # first views, second views
    own = torch.arange(n, device=z.device) + first
    own = torch.cat([own, own + len(everyone) // 2])  # indices of this rank's 2N views in `everyone`
    similarities = (_products(mine, everyone) / temperature).scatter(1, own[:, None], -torch.inf)
    return F.cross_entropy(similarities, own.roll(n))


def supcon_fake(real1: Tensor, real2: Tensor, fake: Tensor, temperature: float = 0.1) -> Tensor:
    """Return ContraD's contrastive loss of fakes against real views (Jeong & Shin 2021, Eq. 8), averaged over M fakes.

    Supervised contrastive loss with the fakes as the only class: each fake must identify the other fakes, equally
    weighted, among the other fakes and both views of the real images. `real1`, `real2`: projections (N, d); `fake`:
    (M, d) with M at least 2. If ranks train together, the mean is over this rank's fakes, and the other images come
    from all ranks.
    """
    m, first = len(fake), first_row(len(fake))
    fake, real1, real2 = (F.normalize(z.float(), dim=1) for z in (fake, real1, real2))
    fakes = gathered(fake)
    everyone = torch.cat([fakes, gathered(torch.cat([real1, real2]))])
    own = torch.arange(m, device=fake.device) + first
    similarities = (_products(fake, everyone) / temperature).scatter(1, own[:, None], -torch.inf)
    log_p = F.log_softmax(similarities, dim=1)[:, : len(fakes)]
    return -log_p.scatter(1, own[:, None], 0.0).sum(1).mean() / (len(fakes) - 1)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Return a bᵀ in full precision, even under autocast: a temperature of 0.1 multiplies bf16 errors by ten."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T
