"""Weights files of the metric networks: which are known, where they are looked for, how they get onto this machine, and
how they are read without running code.

Only `fetch` uses the network, and only when a user asks for it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from balancegan.errors import BalanceGANError, CheckpointError, UsageError, WeightsMissingError
from balancegan.files import UMASK, disk_errors, sha256
from balancegan.progress import Progress, silent

if TYPE_CHECKING:
    import torch

TIMEOUT = 30.0  # seconds without a byte before a download is given up
_BLOCK = 1 << 20
_MOST_BYTES = 1 << 30
"""Nothing larger is downloaded: a server that never stops sending must not fill the disk."""

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

WEIGHTS_NAMES = PUBLISHED["inception"].names


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did."""

    name: str
    path: Path
    action: str
    """`downloaded`, `copied`, or `kept`: the right file was there already."""
    replaced: bool
    """Another file of this name was there and was wrong."""


@dataclass(frozen=True)
class Status:
    """What is known about one weights file."""

    name: str | None
    """Which network; None for a file that is none of them."""
    path: Path | None
    sha256: str | None
    state: str
    """`published`: the authors' file to the last bit. `other`: not theirs; whether it loads was not tried. `usable`:
    not theirs, but it loads as this network. `damaged`: it does not load. `missing`: no file."""
    reason: str = ""
    """Why it is missing or damaged."""


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
    return next((path for path in map(_cached, published.names) if path.is_file()), None)


def find_inception_weights(explicit: Path | None = None) -> Path | None:
    """`find_weights` for the Inception network."""
    return find_weights("inception", explicit)


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


# Getting ---------------------------------------------------------------------------------------------------------


def fetch(name: str, *, source: Path | None = None, progress: Progress = silent) -> Fetched:
    """Put the published weights of a network into torch's cache, where `find_weights` and other programs find them.

    The file gets its name only once its SHA-256 is right; where the right one is there already, nothing is done,
    and a wrong one is replaced.

    Args:
        name: a key of `PUBLISHED`.
        source: a copy of the file to take instead of downloading it.
        progress: called as `("<name> weights", bytes so far, bytes or 0)`.

    Raises:
        UsageError: no such network, or `source` is not a file.
        WeightsMissingError: the file cannot be downloaded.
        CheckpointError: what came is not the published file; it was thrown away.
        DiskError: torch's cache cannot be written, or `source` not read.
    """
    published = known(name)
    path = _cached(published.names[0])
    with disk_errors(f"read {path}", "TORCH_HOME"):
        there = path.is_file()
        if there and sha256(path) == published.sha256:
            return Fetched(name, path, "kept", replaced=False)
    if source is not None and not source.is_file():
        raise UsageError(f"{source} is not a file", f"give --from a copy of {published.names[0]}")
    with disk_errors(f"write {path}", "TORCH_HOME"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                blocks = _downloaded(name, progress) if source is None else _read(source, name, progress)
                found = _write(file, blocks)
            _check(name, found, source)
            Path(temporary).chmod(0o666 & ~UMASK)  # mkstemp makes private files
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return Fetched(name, path, "downloaded" if source is None else "copied", replaced=there)


def _write(file: IO[bytes], blocks: Iterator[bytes]) -> str:
    """Write the blocks, durably, and give their SHA-256."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        file.write(block)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _check(name: str, found: str, source: Path | None) -> None:
    published = PUBLISHED[name]
    if found == published.sha256:
        return
    what, hint = f"what came from {published.url}", "try again; a proxy or sign-in page may have answered in its place"
    if source is not None:
        what, hint = str(source), "a file that still loads as the network can be used with --weights, as it is"
    raise CheckpointError(
        f"{what} is not the published file: SHA-256 {found[:16]}… instead of {published.sha256[:16]}…; it was not kept",
        hint,
    )


def _read(source: Path, name: str, progress: Progress) -> Iterator[bytes]:
    with disk_errors(f"read {source}", "--from"), source.open("rb") as file:
        done, total = 0, source.stat().st_size
        while block := file.read(_BLOCK):
            done += len(block)
            progress(f"{name} weights", done, total)
            yield block


def _downloaded(name: str, progress: Progress) -> Iterator[bytes]:
    """The file's bytes from the network; every failure of the network in one line that says what else helps."""
    published = PUBLISHED[name]
    try:
        # Some servers refuse urllib's own name.
        request = urllib.request.Request(published.url, headers={"User-Agent": "balancegan"})
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(name, error) from error
    with response:
        total = _length(response) or published.size or 0
        done = 0
        while block := _next_block(response, name):
            done += len(block)
            if done > _MOST_BYTES:
                raise _unreachable(name, ValueError("far more bytes came than the file has"))
            progress(f"{name} weights", done, total)
            yield block
        if done < (_length(response) or 0):
            raise _unreachable(name, ValueError(f"the connection ended after {done:,} of {total:,} bytes"))


def _next_block(response: Any, name: str) -> bytes:
    try:
        block: bytes = response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(name, error) from error
    return block


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length") or ""
    return int(text) if text.isdecimal() else None


def _unreachable(name: str, error: Exception) -> WeightsMissingError:
    published = PUBLISHED[name]
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"HTTP {error.code}"
    return WeightsMissingError(
        f"the {name} weights could not be downloaded from {published.url}: {reason or type(error).__name__}",
        f"Download them elsewhere (SHA-256 {published.sha256}) and bring them with "
        f"`balancegan weights fetch {name} --from FILE`, or name the file with --weights FILE, or use --extractor own.",
    )


# Checking --------------------------------------------------------------------------------------------------------


def status(*, load: bool = False) -> list[Status]:
    """What this machine has of every known network.

    Args:
        load: try whether files that are not the published ones load as their network; takes seconds for each.
    """
    found = []
    for name in PUBLISHED:
        try:
            path = find_weights(name)
        except WeightsMissingError as error:
            found.append(Status(name, None, None, "missing", error.message))
            continue
        if path is None:
            found.append(Status(name, None, None, "missing", "not in torch's cache"))
        else:
            found.append(_examine(path, (name,), load=load))
    return found


def verify(path: Path) -> Status:
    """Which network a weights file holds, and whether it is the published file.

    Raises:
        UsageError: no such file.
        DiskError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "give a weights file, or none to check those that would be used")
    return _examine(path, tuple(PUBLISHED), load=True)


def _examine(path: Path, names: tuple[str, ...], *, load: bool) -> Status:
    with disk_errors(f"read {path}", "--weights"):
        found = sha256(path)
    for name in names:
        if found == PUBLISHED[name].sha256:
            return Status(name, path, found, "published")
    only = names[0] if len(names) == 1 else None
    if not load:
        return Status(only, path, found, "other")
    reasons = []
    for name in names:
        try:
            _build(name, path)
        except BalanceGANError as error:
            reasons.append(error.message)
        else:
            return Status(name, path, found, "usable")
    same = all(reason == reasons[0] for reason in reasons)  # a file that cannot even be read
    reason = reasons[0] if same else f"{path} holds none of the networks {', '.join(names)}"
    return Status(only, path, found, "damaged", reason)


def _build(name: str, path: Path) -> None:
    """Load the file as the network would be loaded for a report, or raise what that raises."""
    # Here, because these modules need this one.
    from balancegan.metrics.inception import InceptionExtractor
    from balancegan.metrics.resnet import ResNet50Extractor

    {"inception": InceptionExtractor, "resnet50": ResNet50Extractor}[name](path)


def _cached(file_name: str) -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints" / file_name
