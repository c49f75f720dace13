"""`weights`: fetch, verify and list the weights of metric networks."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from balancegan.core.documents import Json
from balancegan.core.errors import BalanceGANError, CheckpointError, UsageError, WeightsMissingError
from balancegan.core.files import disk_errors, follow_umask, sha256
from balancegan.core.progress import Progress, silent
from balancegan.metrics.weights import PUBLISHED, cached_file, find_weights, get_weights, known

TIMEOUT = 30.0  # seconds without a byte before a download is abandoned
_BLOCK = 1 << 20
_MOST_BYTES = 1 << 30
"""Most bytes to download: a server that never stops sending must not fill the disk."""


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did."""

    name: str
    path: Path
    action: str
    """`downloaded`, `copied`, or `kept`: the right file was there already."""
    replaced: bool
    """Whether a wrong file of this name was replaced."""

    def to_json(self) -> Json:
        """The JSON document of `weights fetch`."""
        return {
            "schema_version": 1,
            "name": self.name,
            "path": str(self.path),
            "action": self.action,
            "replaced": self.replaced,
            "sha256": PUBLISHED[self.name].sha256,
        }


@dataclass(frozen=True)
class Status:
    """What is known about one weights file."""

    name: str | None
    """The network's name; None for a file that holds none of them."""
    path: Path | None
    sha256: str | None
    state: str
    """`published`: exactly the authors' file. `other`: not theirs; loading was not tried. `usable`:
    not theirs, but it loads as this network. `damaged`: it does not load. `missing`: no file."""
    reason: str = ""
    """Why it is missing or damaged."""

    def to_json(self) -> Json:
        """A row of the JSON document of `weights list` and `weights verify`."""
        published = PUBLISHED.get(self.name or "")
        return {
            "name": self.name,
            "state": self.state,
            "path": None if self.path is None else str(self.path),
            "sha256": self.sha256,
            "reason": self.reason or None,
            "published": published and {"url": published.url, "sha256": published.sha256, "size": published.size},
        }


# Getting ---------------------------------------------------------------------------------------------------------


def fetch(name: str, *, source: Path | None = None, progress: Progress = silent) -> Fetched:
    """Put the published weights of a network into torch's cache, where `find_weights` and other programs find them.

    The file gets its final name only once its SHA-256 is verified. An existing correct file is kept; a wrong one is
    replaced.

    Args:
        name: a key of `PUBLISHED`.
        source: a copy of the file to take instead of downloading it.
        progress: called as `("<name> weights", bytes so far, bytes or 0)`.

    Raises:
        UsageError: the network is unknown, or `source` is not a file.
        WeightsMissingError: the file cannot be downloaded.
        CheckpointError: the file is not the published one; it was not installed.
        DiskError: torch's cache cannot be written, or `source` cannot be read.
    """
    published = known(name)
    path = cached_file(published.names[0])
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
            follow_umask(Path(temporary))
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return Fetched(name, path, "downloaded" if source is None else "copied", replaced=there)


def _write(file: IO[bytes], blocks: Iterator[bytes]) -> str:
    """Write the blocks durably and return their SHA-256."""
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
    what, hint = f"the file from {published.url}", "try again; a proxy or sign-in page may have answered instead"
    if source is not None:
        what, hint = str(source), "if it still loads as this network, use it directly with --weights"
    raise CheckpointError(
        f"{what} is not the published file: SHA-256 {found[:16]}…, not {published.sha256[:16]}…; it was not installed",
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
    """Yield the downloaded file's blocks; a network failure raises one line that names alternatives.

    `torch.hub.download_url_to_file` has no timeout and no limit, and mistakes a broken connection for a wrong file.
    """
    published = PUBLISHED[name]
    # Some servers refuse urllib's default user agent.
    request = urllib.request.Request(published.url, headers={"User-Agent": "balancegan"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = _length(response)
            while block := response.read(_BLOCK):
                done += len(block)
                if done > _MOST_BYTES:
                    raise _unreachable(name, ValueError("the server sent far more bytes than the file has"))
                progress(f"{name} weights", done, length or published.size or 0)
                yield block
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(name, error) from error
    if length and done < length:
        raise _unreachable(name, ValueError(f"the connection ended after {done:,} of {length:,} bytes"))


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
        f"Download them elsewhere (SHA-256 {published.sha256}) and install them with "
        f"`balancegan weights fetch {name} --from FILE`, or name the file with --weights FILE, or use --extractor own.",
    )


# Checking --------------------------------------------------------------------------------------------------------


def status(*, load: bool = False) -> list[Status]:
    """Return the state of every known network's weights on this machine.

    Args:
        load: try to load files that are not the published ones; takes seconds for each.
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


def document(found: list[Status]) -> Json:
    """The JSON document of `weights list` and `weights verify`."""
    return {"schema_version": 1, "weights": [item.to_json() for item in found]}


def require_usable(found: list[Status]) -> None:
    """Raise `CheckpointError` if any of the files cannot be used."""
    if damaged := [item for item in found if item.state == "damaged"]:
        reasons = "; ".join(item.reason for item in damaged)
        raise CheckpointError(reasons, get_weights(damaged[0].name or "inception"))


def verify(path: Path) -> Status:
    """Return which network a weights file holds, and whether it is the published file.

    Raises:
        UsageError: the file does not exist.
        DiskError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "give a weights file, or none to check those that reports would use")
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
    same = all(reason == reasons[0] for reason in reasons)  # the file cannot even be read
    reason = reasons[0] if same else f"{path} holds none of the networks {', '.join(names)}"
    return Status(only, path, found, "damaged", reason)


def _build(name: str, path: Path) -> None:
    """Load the file as the network would be loaded for a report, or raise what that raises."""
    from balancegan.metrics.extractors import EXTRACTORS  # slow to import
    from balancegan.verdict.networks import pretrained

    load: Any = EXTRACTORS.get(name, pretrained)
    load(path)
