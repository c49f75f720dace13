"""Which sampler a method and a user's choice call for."""

from __future__ import annotations

import torch

from balancegan.core.errors import UsageError
from balancegan.methods.base import Method
from balancegan.sampling.samplers import LangevinSampler, Sampler

SAMPLERS: dict[str, tuple[type[Sampler], ...]] = {
    "auto": (Sampler, LangevinSampler),
    "rejection": (Sampler,),
    "langevin": (LangevinSampler,),
}


def make_samplers(method: Method, device: torch.device, choice: str = "auto") -> tuple[Sampler, ...]:
    """What images of a class are taken from, each where those before gave it up.

    A method that makes the class that it is asked for needs one alone. Raises `UsageError` for another choice than
    `auto` there, or one that does not exist.
    """
    if choice not in SAMPLERS:
        raise UsageError(f"--sampler {choice} is not known", f"choose one of {', '.join(SAMPLERS)}")
    if method.conditional and choice != "auto":
        raise UsageError(f"{method.title} makes the class that it is asked for: --sampler has no use", "leave it out")
    from balancegan.sampling.over_ranks import spread

    kinds = SAMPLERS[choice] if not method.conditional else (Sampler,)
    return tuple(spread(kind(method, device)) for kind in kinds)
