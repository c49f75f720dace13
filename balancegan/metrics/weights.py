"""Weights files of the metric networks: where they are looked for, and how they are read without running code.

Nothing here downloads anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from balancegan.errors import CheckpointError, WeightsMissingError

if TYPE_CHECKING:
    import torch

WEIGHTS_VARIABLE = "BALANCEGAN_INCEPTION_WEIGHTS"
WEIGHTS_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""File names under which torch-fidelity and pytorch-fid keep the network in torch's cache."""

GET_WEIGHTS = "Take torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or leave the option out."


def find_inception_weights(explicit: Path | None = None) -> Path | None:
    """The Inception weights file to use, or None where this machine has none. Never downloads.

    The order is: `explicit`, the file named by the environment variable `BALANCEGAN_INCEPTION_WEIGHTS`, then torch's
    cache under the names in `WEIGHTS_NAMES`.

    Raises:
        WeightsMissingError: a file that was asked for, by argument or variable, does not exist.
    """
    if explicit is not None:
        return existing(explicit, "The weights file")
    if named := os.environ.get(WEIGHTS_VARIABLE):
        return existing(Path(named).expanduser(), f"The file named by {WEIGHTS_VARIABLE}")
    from torch.hub import get_dir

    cached = (Path(get_dir()) / "checkpoints" / name for name in WEIGHTS_NAMES)
    return next((path for path in cached if path.is_file()), None)


def existing(path: Path, what: str) -> Path:
    """The path, or `WeightsMissingError` saying that `what` does not exist."""
    if not path.is_file():
        raise WeightsMissingError(f"{what} does not exist: {path}", GET_WEIGHTS)
    return path


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file, by readers that cannot run code: a malicious pickle is refused."""
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
            GET_WEIGHTS,
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} does not hold a network's tensors by name", GET_WEIGHTS)
    return {str(key): value for key, value in state.items()}
