"""A conventional training loop, as a baseline for the product's; not a script itself.

It has the same networks, losses and optimiser settings as the product but organises the work conventionally. A torch
DataLoader opens and decodes the files of every batch again, in worker processes. Real, generated and wrongly labelled
images, and every view and branch, pass the discriminator by themselves. Spectral norms are computed in every pass.
Attention is written out in three products. Adam is torch's default one, gradients are cleared before the forward pass,
every loss is read at every step, and the average of the weights is a loop over the parameters. Arrays are NCHW.

Where families of implementations differ, the reference does what its own does: the contrastive ones do not compute the
discriminator's gradients in the generator's update, the others do.
"""

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from balancegan.core.config import SAMPLING
from balancegan.methods.damage_gan import DamageGAN
from balancegan.nets import losses
from balancegan.nets.layers import SelfAttention2d
from balancegan.nets.sndcgan import pruned
from balancegan.training.steps import frozen


class Files(Dataset):
    """Images by their path: opened, decoded and resized whenever they are asked for."""

    def __init__(self, paths, labels, size, channels):
        self.paths, self.labels, self.size, self.mode = paths, labels, size, "L" if channels == 1 else "RGB"

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as opened:
            image = opened.convert(self.mode).resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32).reshape(self.size, self.size, -1) / 127.5 - 1
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), int(self.labels[i])


def loader(paths, labels, cfg, channels, workers, pinned=False):
    """Endless batches, with classes drawn as the configuration says."""
    counts = np.bincount(labels)
    weights = counts[labels] ** (SAMPLING[cfg.sampling] - 1.0)
    sampler = WeightedRandomSampler(weights.tolist(), cfg.batch_size * 10_000)
    files = Files(paths, labels, cfg.image_size, channels)
    return DataLoader(files, cfg.batch_size, sampler=sampler, num_workers=workers, drop_last=True, pin_memory=pinned)


class WrittenOutAttention(SelfAttention2d):
    """Attention with full position-by-position matrices."""

    def forward(self, x):
        key, query, value = (conv(x).flatten(2) for conv in (self.f, self.g, self.h))
        beta = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        o = (value @ beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return self.gamma * self.v(o) + x


def write_out(network):
    """Replace the product's layers by conventional, equivalent ones."""
    for module in network.modules():
        if isinstance(module, SelfAttention2d):
            module.__class__ = WrittenOutAttention


class PlainLoop:
    """Steps of a method (set up, on the device) over batches of `images`, an iterable."""

    def __init__(self, name, method, images, device):
        self.method, self.cfg, self.device, self.images = method, method.cfg, device, iter(images)
        write_out(method)
        d_update, self.freezes = UPDATES.get(name, (None, False))
        self.losses_of = {"d": partial(d_update, method)} if d_update else {}
        self.updates = method.schedule.last.updates
        self.optimisers = [torch.optim.Adam(list(u.parameters()), lr=u.lr, betas=u.betas) for u in self.updates]

    def step(self):
        """Make the updates of a step of the last stage."""
        method, updated = self.method, []
        for update, optimiser in zip(self.updates, self.optimisers, strict=True):
            loss = self.losses_of.get(update.name, update.loss)  # most are one pass already
            for repeat in range(update.repeats):
                if not updated or repeat:
                    x, c = (t.to(self.device, non_blocking=True) for t in next(self.images))
                optimiser.zero_grad()
                with frozen(updated if self.freezes else ()):
                    with self.bf16():
                        terms = loss(x, c)
                    self.finish(terms, optimiser)
            updated += update.parameters()
        if method.G_ema is not None:
            self.average(0.999)

    def bf16(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.amp and self.device.type == "cuda")

    def finish(self, terms, optimiser):
        with torch.autocast(self.device.type, enabled=False):
            sum(t.float() for t in terms.values()).backward()
        optimiser.step()
        self.losses = {name: t.item() for name, t in terms.items()}

    @torch.no_grad()
    def average(self, beta):
        for mean, value in zip(self.method.G_ema.parameters(), self.method.G.parameters(), strict=True):
            mean.mul_(beta).add_(value, alpha=1 - beta)
        for mean, value in zip(self.method.G_ema.buffers(), self.method.G.buffers(), strict=True):
            mean.copy_(value)


# Updates of the discriminator: what goes through it, pass by pass -----------------------------------------------------


def generated(method, c):
    with torch.no_grad():
        return method.generate(c).to(torch.float32)


def penalty(method, x, x_fake, c):
    alpha = torch.rand(len(x), 1, 1, 1, device=x.device)
    alpha, x, x_fake, c = (rows[:: method.cfg.penalty_every] for rows in (alpha, x, x_fake, c))
    between = (alpha * x + (1 - alpha) * x_fake).requires_grad_(True)
    with torch.autocast(x.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(method.D(between, c).sum(), between, create_graph=True)
    norm = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()
    return method.cfg.lambda_gp * (norm - 1).square().mean()


def cross_entropy(method, x, c):
    """DCGAN and SNDCGAN."""
    x_fake = generated(method, c)
    return {"real": losses.bce_as_real(method.D(x, c)), "fake": losses.bce_as_fake(method.D(x_fake, c))}


def classes(method, x, c):
    """BAGAN: as many generated images as one class among K + 1 has."""
    fakes = -(-len(x) // method.data.num_classes)
    x_fake = generated(method, method.random_labels(fakes, x.device))
    generated_class = c.new_full((fakes,), method.data.num_classes)
    real, fake = losses.cross_entropies(method.D(x), c), losses.cross_entropies(method.D(x_fake), generated_class)
    return {"real": real.sum() / (len(x) + fakes), "fake": fake.sum() / (len(x) + fakes)}


def wasserstein(method, x, c):
    """cWGAN-GP."""
    x_fake = generated(method, c)
    return {
        "real": losses.wasserstein_as_real(method.D(x, c)),
        "fake": losses.wasserstein_as_fake(method.D(x_fake, c)),
        "gp": penalty(method, x, x_fake, c),
    }


def three_labels(method, x, c):
    """BAGAN-GP and SGBGAN."""
    c_fake, c_wrong = method.random_labels(len(x), x.device), method.wrong_labels(c)
    x_fake = generated(method, c_fake)
    return {
        "real": losses.bce_as_real(method.D(x, c)),
        "fake": losses.bce_as_fake(method.D(x_fake, c_fake)),
        "wrong": losses.bce_as_fake(method.D(x, c_wrong)),
        "gp": penalty(method, x, x_fake, c),
    }


def contrast(method, x, c):
    """ContraD: two views of the real images and one of the generated ones."""
    c_fake, D = method.fake_labels(c), method.D
    x_fake = generated(method, c_fake)
    view1, view2, view_fake = (method.augment(images) for images in (x, x, x_fake))
    real1, real2, fake = D.features(view1), D.features(view2), D.features(view_fake)
    others = (D.project_fake(features) for features in (real1, real2, fake))
    temperature = method.cfg.temperature
    heads = [features.detach() if method.cfg.detached else features for features in (real1, fake)]
    return {
        **real_contrast(method, view1, real1, real2),
        "supcon": method.cfg.lambda_con * losses.supcon_fake(*others, temperature),
        "real": losses.bce_as_real(method.judged(heads[0], c)),
        "fake": losses.bce_as_fake(method.judged(heads[1], c_fake)),
    }


def real_contrast(method, view1, real1, real2):
    """Of the two views; Damage GAN's first one passes the pruned branch, and each branch gets its gradient by itself.

    As in SDCLR: the pruned view without gradient against the dense one, then the pruned view again, with gradient,
    against the dense one without.
    """
    project, temperature = method.D.project_real, method.cfg.temperature
    if not isinstance(method, DamageGAN):
        return {"nt_xent": losses.nt_xent(project(real1), project(real2), temperature)}
    with torch.no_grad(), pruned(method.D.trunk):
        held = project(method.D.features(view1))
    dense = project(real2)
    with pruned(method.D.trunk):
        branch = project(method.D.features(view1))
    return {
        "nt_xent": losses.nt_xent(held, dense, temperature),
        "nt_xent_pruned": losses.nt_xent(branch, dense.detach(), temperature),
    }


UPDATES = {
    "dcgan": (cross_entropy, False),
    "bagan": (classes, False),
    "cwgan-gp": (wasserstein, False),
    "bagan-gp": (three_labels, False),
    "sgbgan": (three_labels, False),
    "sndcgan": (cross_entropy, False),
    "contrad": (contrast, True),
    "damage-gan": (contrast, True),
    "damage-gan-c": (contrast, True),
}
"""Discriminator updates of methods whose own share passes, and whether the discriminator takes no gradients in the
generator's update; the others' losses are what they are in the product."""
