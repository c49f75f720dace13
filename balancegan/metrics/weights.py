"""Finds the metric networks' weights files on this machine, and loads them without running code.

Nothing here downloads.
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
    """One network's published weights."""

    url: str
    sha256: str
    variable: str
    """Environment variable that names a file to use instead."""
    names: tuple[str, ...]
    """File names in torch's cache; `weights fetch` writes the first."""
    size: int | None = None
    """Size in bytes, if known."""


PUBLISHED = {
    "inception": Published(
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        variable=WEIGHTS_VARIABLE,
        # The file names used by torch-fidelity and pytorch-fid.
        names=("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
        size=95_628_359,
    ),
    "resnet50": Published(
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        sha256="11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        variable="BALANCEGAN_RESNET50_WEIGHTS",
        names=("resnet50-11ad3fa6.pth",),
    ),
    "resnet18": Published(
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        variable="BALANCEGAN_RESNET18_WEIGHTS",
        names=("resnet18-f37072fd.pth",),
        size=46_830_571,
    ),
}
"""The known networks: extractors by their names, and the verdict's pre-trained classifier."""


def get_weights(name: str) -> str:
    """The hint for errors about a network's weights."""
    return f"Get the published file with `balancegan weights fetch {name}`, or leave the option out."


def known(name: str) -> Published:
    """Look up a network in `PUBLISHED`; raises `UsageError` with the known names if there is none."""
    if name not in PUBLISHED:
        raise UsageError(f"unknown weights {name}", f"choose one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def find_weights(name: str, explicit: Path | None = None) -> Path | None:
    """Find a network's weights file; None if this machine has none. Never downloads.

    Checks `explicit`, then the file named by the network's environment variable, then torch's cache under the known
    file names. Does not check the file's content.

    Raises:
        UsageError: unknown network.
        WeightsMissingError: the file named by the argument or the variable does not exist.
    """
    published = known(name)
    if explicit is not None:
        return existing(explicit, "The weights file", name)
    if named := os.environ.get(published.variable):
        return existing(Path(named).expanduser(), f"The file named by {published.variable}", name)
    return next((path for path in map(cached_file, published.names) if path.is_file()), None)


def existing(path: Path, what: str, name: str = "inception") -> Path:
    """Return the path; raises `WeightsMissingError` with the name `what` if it does not exist."""
    if not path.is_file():
        raise WeightsMissingError(f"{what} does not exist: {path}", get_weights(name))
    return path


def read_state(path: Path, name: str = "inception") -> dict[str, torch.Tensor]:
    """Load a state dict with readers that cannot run code; a malicious pickle is refused.

    Raises:
        CheckpointError: the file is damaged or of another kind; the hint says how to get the weights of network `name`.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds of errors for invalid files
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, and was not loaded ({type(error).__name__})",
            get_weights(name),
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold named network tensors", get_weights(name))
    return {str(key): value for key, value in state.items()}


def cached_file(file_name: str) -> Path:
    """The path in torch's cache for a downloaded file of this name."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / file_name
