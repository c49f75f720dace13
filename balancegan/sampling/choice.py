"""Choose the samplers for a method and the user's choice."""

from __future__ import annotations

import torch

from balancegan.core.errors import UsageError
from balancegan.core.options import SamplingOptions
from balancegan.data.sources import SourceImages
from balancegan.methods.base import Method
from balancegan.sampling.over_ranks import spread
from balancegan.sampling.samplers import LangevinSampler, RejectionSampler, Sampler

KINDS: dict[str, type[Sampler]] = {kind.name: kind for kind in (Sampler, RejectionSampler, LangevinSampler)}
SAMPLERS = ("auto", "rejection", "langevin")
"""The user's choices."""


def make_samplers(
    method: Method,
    device: torch.device,
    choice: str = "auto",
    sources: SourceImages | None = None,
    options: SamplingOptions | None = None,
) -> tuple[Sampler, ...]:
    """Return the samplers for images of a class; each takes over when the one before it gives up.

    `options`: how the method makes its images from now on; None changes nothing. Raises `UsageError` for a choice or an
    option that does not exist or does not apply to the method.
    """
    if choice not in SAMPLERS:
        raise UsageError(f"unknown --sampler {choice}", f"choose one of {', '.join(SAMPLERS)}")
    if options is not None:
        method.sample_with(options)
    names = method.samplers if choice == "auto" else (choice,)
    if not set(names) <= set(method.samplers):
        raise UsageError(f"{method.title} is conditional; --sampler does not apply", "leave it out")
    return tuple(spread(KINDS[name](method, device, sources)) for name in names)
