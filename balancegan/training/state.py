"""The progress of training: counters, and the seeds derived from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass
class State:
    """Counters over all calls of `train` for one run."""

    base_seed: int
    step: int = 0  # steps made, in all stages
    images_seen: int = 0
    seconds: float = 0.0  # up to the last tick
    rollbacks: int = 0  # returns to a checkpoint after non-finite numbers

    def seed(self, *what: object) -> None:
        """Seed torch's generators from the run's seed, the number of rollbacks, and `what`."""
        text = "/".join(map(str, (self.base_seed, self.rollbacks, *what)))
        torch.manual_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()))
