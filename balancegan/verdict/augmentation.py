"""Augmentation of the verdict's training images: which one is chosen by a first pass, and every arm then shares it.

TrivialAugment is that of Müller & Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation" (2021),
https://arxiv.org/abs/2103.10158, in torchvision's implementation. One deviation: small groups of images share an
operation, because a call per image would cost more than the training.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from balancegan.nets.augmentation import flipped_and_cropped

SHARED = 4  # images that share TrivialAugment's operation
_GLOBAL_GENERATOR = threading.Lock()  # torchvision draws from torch's global generator, which all threads share


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images that keep their class."""

    crops: bool = False
    flips: bool = False
    trivial: bool = False

    def __str__(self) -> str:
        """Name it as it stands within a sentence."""
        used = [name for name in ("trivial", "flips", "crops") if getattr(self, name)]
        names = ["TrivialAugment" if name == "trivial" else name for name in used]
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "no augmentation"

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Change uint8 images (B, C, S, S) at random and return them as floats in [-1, 1]."""
        x = (_trivially_augmented(images, rng) if self.trivial else images).float() / 127.5 - 1.0
        return flipped_and_cropped(x, rng, flips=self.flips) if self.crops else x


NONE, CROPS, FLIPS = Augmentation(), Augmentation(crops=True), Augmentation(crops=True, flips=True)
PLAIN = (NONE, CROPS, FLIPS)


def _trivially_augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    from torchvision.transforms.v2 import TrivialAugmentWide

    augment = TrivialAugmentWide(fill=[int(images.float().mean())] * images.shape[1])
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    changed = torch.empty_like(images)
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        for some in order.split(SHARED):
            changed[some] = augment(images[some])
    return changed
