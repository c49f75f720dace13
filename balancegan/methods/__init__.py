"""The methods that `--method` accepts. To add one, write one file here and add one line to `METHODS`."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from balancegan.core.errors import UsageError

if TYPE_CHECKING:
    from balancegan.methods.base import Method

METHODS: dict[str, str] = {
    "dcgan": "balancegan.methods.dcgan:DCGAN",
    "acgan": "balancegan.methods.acgan:ACGAN",
    "bagan": "balancegan.methods.bagan:BAGAN",
    "cwgan-gp": "balancegan.methods.cwgan_gp:CWGANGP",
    "bwgan-gp": "balancegan.methods.bwgan_gp:BWGANGP",
    "bagan-gp": "balancegan.methods.bagan_gp:BAGANGP",
    "capgan": "balancegan.methods.capgan:CAPGAN",
    "sgbgan": "balancegan.methods.sgbgan:SGBGAN",
    "sndcgan": "balancegan.methods.sndcgan:SNDCGAN",
    "contrad": "balancegan.methods.contrad:ContraD",
    "damage-gan": "balancegan.methods.damage_gan:DamageGAN",
    "damage-gan-c": "balancegan.methods.damage_gan_c:DamageGANC",
    "cyclegan": "balancegan.methods.cyclegan:CycleGAN",
    "edm": "balancegan.methods.edm:EDM",
}

PAPER_TABLE = ("dcgan", "bagan", "cwgan-gp", "bagan-gp", "sgbgan")
"""The rows of SGBGAN's Tables 3 and 4, in order."""

RECOMMENDED_ON_GPU = "edm"
"""The method that commands recommend where there is a GPU."""
WHY_RECOMMENDED = (
    "a prototype's images raised a classifier's accuracy after minutes on a GPU; those of our GANs have only lowered it"
)
"""The reason in short; docs/methods.md has the figures."""


def load_method(name: str) -> type[Method]:
    """Return the class of a method. Imported on demand, because its module imports torch."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        raise UsageError(
            f"unknown method {name!r}",
            (f"Did you mean {near[0]}? " if near else "") + f"Known: {', '.join(METHODS)}.",
        )
    module, _, attribute = METHODS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
