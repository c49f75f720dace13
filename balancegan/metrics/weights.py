"""Weights files of the metric networks: which are known, where they are looked for, how they get onto this machine, and
how they are read without running code.

Only `fetch` uses the network, and only when a user asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from balancegan.core.errors import CheckpointError, UsageError, WeightsMissingError

if TYPE_CHECKING:
    import torch


WEIGHTS_VARIABLE = "BALANCEGAN_INCEPTION_WEIGHTS"


@dataclass(frozen=True)
class Published:
    """One network's weights as their authors publish them."""

    url: str
    sha256: str
    variable: str
    """Environment variable that names a file to use instead."""
    names: tuple[str, ...]
    """File names in torch's cache; `fetch` writes the first one."""
    size: int | None = None
    """Bytes, where they are known."""


PUBLISHED = {
    "inception": Published(
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        variable=WEIGHTS_VARIABLE,
        # torch-fidelity's and pytorch-fid's names for it.
        names=("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
        size=95_628_359,
    ),
    "resnet50": Published(
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        sha256="11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        variable="BALANCEGAN_RESNET50_WEIGHTS",
        names=("resnet50-11ad3fa6.pth",),
    ),
}
"""The known networks by their extractors' names."""


def get_weights(name: str) -> str:
    """The hint for errors about a network's weights."""
    return f"Get the published file with `balancegan weights fetch {name}`, or leave the option out."


def known(name: str) -> Published:
    """The entry of `PUBLISHED`, or `UsageError` with the names that there are."""
    if name not in PUBLISHED:
        raise UsageError(f"there are no weights called {name}", f"choose one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def find_weights(name: str, explicit: Path | None = None) -> Path | None:
    """The weights file of a network to use, or None where this machine has none. Never downloads.

    The order is: `explicit`, the file named by the network's environment variable, then torch's cache under the known
    file names. The file's content is not looked at.

    Raises:
        UsageError: no such network.
        WeightsMissingError: a file that was asked for, by argument or variable, does not exist.
    """
    published = known(name)
    if explicit is not None:
        return existing(explicit, "The weights file", name)
    if named := os.environ.get(published.variable):
        return existing(Path(named).expanduser(), f"The file named by {published.variable}", name)
    return next((path for path in map(cached_file, published.names) if path.is_file()), None)


def existing(path: Path, what: str, name: str = "inception") -> Path:
    """The path, or `WeightsMissingError` saying that `what` does not exist."""
    if not path.is_file():
        raise WeightsMissingError(f"{what} does not exist: {path}", get_weights(name))
    return path


def read_state(path: Path, name: str = "inception") -> dict[str, torch.Tensor]:
    """A state dict from a file, by readers that cannot run code: a malicious pickle is refused.

    Raises:
        CheckpointError: damaged, or something else; the hint tells how to get the weights of the network `name`.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds for files that are not theirs
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, and was not loaded ({type(error).__name__})",
            get_weights(name),
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a network's tensors by name", get_weights(name))
    return {str(key): value for key, value in state.items()}


def cached_file(file_name: str) -> Path:
    """Where torch keeps a downloaded file of that name."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / file_name
