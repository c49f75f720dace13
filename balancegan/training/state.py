"""How far a training is: what is counted, and the seeds that follow from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass
class State:
    """Counted over all calls that a training took."""

    base_seed: int
    step: int = 0  # made, of all stages
    images_seen: int = 0
    seconds: float = 0.0  # up to the last tick
    rollbacks: int = 0  # returns to a checkpoint after numbers that were not finite

    def seed(self, *what: object) -> None:
        """Seed torch's generators from the seed, how often the training rolled back, and `what`."""
        text = "/".join(map(str, (self.base_seed, self.rollbacks, *what)))
        torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()))
