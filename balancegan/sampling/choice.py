"""Which sampler a method and a user's choice call for."""

from __future__ import annotations

import torch

from balancegan.core.errors import UsageError
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling.over_ranks import spread
from balancegan.sampling.samplers import LangevinSampler, RejectionSampler, Sampler

KINDS: dict[str, type[Sampler]] = {kind.name: kind for kind in (Sampler, RejectionSampler, LangevinSampler)}
SAMPLERS = ("auto", "rejection", "langevin")
"""What a user can choose."""


def make_samplers(
    method: Method, device: torch.device, choice: str = "auto", sources: SourceImages | None = None
) -> tuple[Sampler, ...]:
    """What images of a class are taken from, each sampler where those before it give up.

    Raises `UsageError` for a choice that does not exist or does not apply to the method.
    """
    if choice not in SAMPLERS:
        raise UsageError(f"--sampler {choice} is not known", f"choose one of {', '.join(SAMPLERS)}")
    names = method.samplers if choice == "auto" else (choice,)
    if not set(names) <= set(method.samplers):
        raise UsageError(f"{method.title} is conditional; --sampler does not apply", "leave it out")
    return tuple(spread(KINDS[name](method, device, sources)) for name in names)
