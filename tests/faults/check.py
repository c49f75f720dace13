"""What must hold right after a kill, and when two results are the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from balancegan.core.errors import CheckpointError
from balancegan.runs.checkpoint import read_checkpoint
from balancegan.runs.numbering import RUN_NAME

TIMES = {"seconds", "steps_per_second", "images_per_second", "created"}
MOMENT = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?( UTC)?")
IGNORED = {"log.txt", ".lock"}  # the log tells of every call; locks are files that stay
PARTIAL = (".tmp-", ".partial-", "tmp-")
PICTURES = {".png", ".jpg"}
UNTIDY = "untidy: "
"""Begins what is said of files that are too many, but that nobody takes for a result."""


def state(folder: Path) -> dict[str, Any]:
    """Relative path -> content of every file, without times, and with the folder's own place blanked.

    Runs are numbered anew, without those that never began; each of those is a name with the content None.
    """
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    never: list[Path] = []
    paths = sorted(folder.rglob("*"))
    for path in paths:
        match = RUN_NAME.fullmatch(path.name)
        if match and path.is_dir() and not (path / "config.yaml").exists():
            never.append(path)
        elif match and path.is_dir():
            names[path.name] = f"{len(names):05d}-{match[2]}"
    for path in paths:
        name = str(path.relative_to(folder))
        if path in never:
            found[f"{name}, which never began,"] = None
        elif path.name not in IGNORED and not any(run in path.parents for run in never):
            found[_renamed(name, names)] = _content(path, folder, names) if path.is_file() else "folder"
    return found


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def _content(path: Path, folder: Path, names: dict[str, str]) -> Any:
    data = path.read_bytes()
    if path.suffix in (".json", ".csv", ".md"):
        data = _renamed(data.decode(), names).encode()
    try:
        if path.name == "state.pt":
            return _plain(torch.load(path, weights_only=True))
        if path.name == "metrics.jsonl":
            return [_timeless(json.loads(line)) for line in data.decode().splitlines()]
        if path.suffix == ".json":
            document = _timeless(json.loads(data.decode().replace(str(folder), "FOLDER")))
            if path.name == "MANIFEST.json":
                del document["files"]["state.pt"]  # there are times in it
            return document
    except (ValueError, RuntimeError, EOFError) as error:
        return f"unreadable: {error}"
    if path.suffix == ".html":
        data = MOMENT.sub(b"", data)
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Tensors as their bytes, in what `torch.load` gives."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in TIMES}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What two states do not have in common, in words."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [_too_much(name) for name in found.keys() - expected.keys()]
    lines += [f"{name} is another one" for name in expected.keys() & found.keys() if found[name] != expected[name]]
    return sorted(lines)


def _too_much(name: str) -> str:
    parts = name.split("/")
    untidy = name.endswith(",") or any(part.startswith(PARTIAL) for part in parts) or "checkpoints" in parts
    return (UNTIDY if untidy else "") + f"{name} is left over"


def broken_run(runs: Path) -> Iterator[str]:
    """What is wrong with the runs of a folder, whenever it is looked at: nothing under a final name is partial."""
    for run in runs.iterdir() if runs.is_dir() else ():
        intact = False
        for path in sorted(run.glob("checkpoints/step-*"), reverse=True):
            try:
                read_checkpoint(path)
                intact = True
            except CheckpointError as error:
                yield (UNTIDY if intact else "") + f"{path.name}: {error.message}"
    for path in runs.glob("*/metrics.jsonl"):
        for line in path.read_text().split("\n")[:-1]:  # what follows the last line's end is torn
            try:
                json.loads(line)
            except ValueError:
                yield f"metrics.jsonl has the line {line!r}"
    yield from broken_files(runs)


def broken_files(folder: Path) -> Iterator[str]:
    """Pictures and documents under a final name that cannot be read."""
    for path in folder.rglob("*"):
        if not path.is_file() or any(part.startswith(PARTIAL) for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix in PICTURES and path.name != "losses.png":  # that one is replaced by a text here
                with Image.open(path) as picture:
                    picture.load()
            elif path.suffix == ".json" and path.name != "MANIFEST.json":
                json.loads(path.read_text())
        except (OSError, ValueError) as error:
            yield f"{path.relative_to(folder)} cannot be read: {error}"
