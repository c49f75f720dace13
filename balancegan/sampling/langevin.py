"""Walk from a latent towards a class: conditional discriminator-driven latent sampling, by Langevin steps.

Che et al.: "Your GAN is Secretly an Energy-based Model and You Should Use Discriminator Driven Latent Sampling",
NeurIPS 2020, arXiv 2003.06060; Jeong & Shin, ICLR 2021, arXiv 2103.09742, add a class term (cDDLS). On the prior's
support, latents have the density exp(-E(z)) with E(z) = -(D(G(z)) + λ·log p(c|G(z))). If D is the optimal
discriminator, λ = 1, and p(c|x) is the posterior for the class frequencies that D saw, this density makes G(z) real
images of class c. (Here D saw augmented images, and no D is optimal, so the end of a walk is checked like any other
sample.) Langevin steps z ← z - ε/2·∇E(z) + √ε·n, n ~ N(0, 1), sample from this density.

ContraD's released script uses ε = 0.01, λ = 1 and 1,000 steps, damps the noise to a tenth, and also walks through a
little pixel noise. Here the noise has full strength: with almost none, or with λ = 5, walks climb to where the
evaluator is most confident, which on the cells gave garish images that all looked alike. There are only 50 steps,
because a step costs as much as several samples. With a Damage GAN trained on the cells for 1,000 steps, 22%, 47% and
45% of the walks towards trophozoites ended in the class after 25, 50 and 100 steps; without walks, one of 64 samples
was in the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

STEPS = 50
STEP_SIZE = 0.01  # ε
CLASS_WEIGHT = 1.0  # λ


def walk(
    z: Tensor,
    energy: Callable[[Tensor], Tensor],
    noise: Iterable[Tensor],
    *,
    step_size: float = STEP_SIZE,
    support: tuple[float, float] = (-float("inf"), float("inf")),
) -> Tensor:
    """Make one Langevin step per element of `noise`.

    Args:
        z: latents (N, latent_dim).
        energy: of latents, (N, latent_dim) -> (N,), differentiable; rows must not depend on each other.
        noise: standard normal, (N, latent_dim) each.
        step_size: ε.
        support: smallest and largest value of a coordinate under the prior; steps are clamped to it.

    Returns:
        Latents (N, latent_dim) without gradient.
    """
    for n in noise:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(z).sum(), z)
        z = (z.detach() - step_size / 2 * gradient + step_size**0.5 * n).clamp(*support)
    return z
