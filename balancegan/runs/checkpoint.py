"""Read and write a checkpoint directory: weights.safetensors, state.pt, and MANIFEST.json with their hashes.

A checkpoint holds only tensors and plain values; reading one never executes code.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balancegan.core.config import brief
from balancegan.core.errors import CheckpointError, DiskError
from balancegan.core.files import open_regular, sync_dir, write_json
from balancegan.core.text import printable
from balancegan.core.version import __version__

if TYPE_CHECKING:
    from torch import Tensor


SCHEMA_VERSION = 1
_DAMAGED = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENXIO, errno.ENODEV}


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint, read into memory."""

    path: Path
    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str  # of weights.safetensors


def step_of(path: Path) -> int:
    """Return the step in a checkpoint directory's name."""
    return int(path.name.removeprefix("step-"))


class OtherFormatError(CheckpointError):
    """Another version of this program wrote the checkpoint, in a different format."""


def write_checkpoint(
    folder: Path, step: int, weights: dict[str, Tensor], state: dict[str, Any], collapsed: Sequence[str] | None
) -> None:
    """Write a checkpoint's files into an empty folder and sync them to disk; raises `OSError`."""
    import torch
    from safetensors.torch import save

    # Serialised in memory, because the libraries' own writers raise other errors than OSError on a full disk.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    contents: dict[str, bytes | memoryview] = {
        "weights.safetensors": save({k: v.detach().cpu().contiguous() for k, v in weights.items()}),
        "state.pt": buffer.getbuffer(),
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "step": step,
        "collapsed": None if collapsed is None else list(collapsed),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    write_json(folder / "MANIFEST.json", manifest)
    for name in (*contents, "MANIFEST.json"):
        _fsync(folder / name)
    sync_dir(folder)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint directory.

    Raises `CheckpointError` if anything is wrong with it, `DiskError` if the disk or the system fails.
    """
    import torch
    from safetensors.torch import load

    from balancegan.compute.memory import out_of_memory

    try:
        with open_regular(path / "MANIFEST.json") as file:
            manifest = json.load(file)
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise OtherFormatError(
                f"{path.name} has format {brief(manifest['schema_version'])}; this version reads {SCHEMA_VERSION}",
                f"use the version that wrote it ({brief(manifest.get('version'))})",
            )
        contents = {}
        for name in ("weights.safetensors", "state.pt"):
            with open_regular(path / name) as file:
                contents[name] = file.read()
            if hashlib.sha256(contents[name]).hexdigest() != manifest["files"][name]:
                raise CheckpointError(f"checkpoint {path.name} is damaged ({name} does not match its hash)")
        weights = load(contents["weights.safetensors"])  # the same bytes that were verified
        state = torch.load(io.BytesIO(contents["state.pt"]), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise CheckpointError(f"checkpoint {path.name} is damaged (its state is not a dictionary)")
        return Checkpoint(path, int(manifest["step"]), weights, state, manifest["files"]["weights.safetensors"])
    except CheckpointError:
        raise
    except OSError as error:
        if error.errno not in _DAMAGED:  # a failing disk or system says nothing about the file
            raise DiskError(f"cannot read {path}: {error.strerror or error}", "try again, and check the disk") from None
        raise CheckpointError(f"checkpoint {path.name} is damaged ({error.strerror or error})") from None
    except Exception as error:  # readers raise exceptions of every kind on damaged files
        if out_of_memory(error):
            raise
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise CheckpointError(f"checkpoint {path.name} is damaged ({reason})") from None


def collapsed_classes(path: Path) -> list[str] | None:
    """Return the classes that had collapsed in a checkpoint; None if that was not checked or cannot be read."""
    try:
        with open_regular(path / "MANIFEST.json") as file:
            found = json.load(file)["collapsed"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


def vanish(path: Path) -> None:
    """Remove a checkpoint by renaming it first, so that nothing ever sees a part of it, even after a kill."""
    gone = path.with_name(f".partial-{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
