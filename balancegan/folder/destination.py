"""Check where a balanced folder may be written, and recognise an unfinished one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.files import disk_errors, is_litter, open_regular, refuse_source
from balancegan.core.locks import Lock, drop_lock, require_lock
from balancegan.core.text import printable
from balancegan.data.scan import ImageFolder
from balancegan.data.tables import read_table
from balancegan.folder import metadata

MARKER = ".balancegan.json"
LOCK = ".balancegan.lock"
BEGINNING = re.compile(rf"{re.escape(LOCK)}|\.tmp-[a-z0-9_]{{8}}")
"""Names of files that a process leaves in a new folder if it is killed before it writes the marker."""
RESERVED = frozenset({metadata.NAME, MARKER, "readme.md", "report.html", "report.json"})
"""Files of a balanced folder next to its class folders, in lower case."""


def check_destination(out: Path, source: ImageFolder, key: str) -> bool:
    """Refuse a folder that must not be written; return whether it already holds the complete result of `key`.

    Allowed: a new or empty folder, or one that the same command (same `key`) started. Never the source, a folder in it,
    or a folder around it. Raises `UsageError`, or `DatasetError` for a class with the name of a file of the output.
    """
    refuse_source(out, source.folders(), around=True)
    _refuse_reserved(source)
    if is_free(out):
        return False
    marker = require_marker(out, key)
    if (out / LOCK).exists():  # an early check, before hours of work; the lock that `BalancedFolder` takes decides
        drop_lock(lock_folder(out))
    return marker.get("finished") is True and isinstance(marker.get("result"), dict) and _all_there(out)


def require_marker(out: Path, key: str) -> dict[str, Any]:
    """Return the marker's content; raises `UsageError` if the folder is not this command's."""
    marker = _marker(out)
    if marker is None:
        raise UsageError(f"{out} is not empty", "choose a new folder with --out")
    if marker.get("key") != key:
        raise UsageError(f"{out} holds the result of another command", "choose a new folder, e.g. --out balanced2")
    return marker


def lock_folder(out: Path) -> Lock:
    """Lock the folder for this process until it ends; raises `UsageError` if another process holds it."""
    hint = "wait for it, or choose another folder with --out"
    return require_lock(out / LOCK, f"another process is writing {out}", hint)


def _refuse_reserved(source: ImageFolder) -> None:
    """Refuse class folders with the name of a file that the output needs in the same place."""
    for name in source.classes:
        if name.lower() in RESERVED and (not source.split_dirs or name.lower() == metadata.NAME):
            raise DatasetError(
                f"the class folder '{printable(name)}' has the name of a file that every balanced folder contains",
                "rename it",
            )


def _marker(out: Path) -> dict[str, Any] | None:
    """Return the marker's content, or None if it cannot be read."""
    try:
        with open_regular(out / MARKER) as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):  # RecursionError: nested too deeply to be our own
        return None
    return found if isinstance(found, dict) else None


def is_free(out: Path) -> bool:
    """Whether `out` is a new or empty folder; raises `UsageError` for a file."""
    if os.path.lexists(out) and not out.is_dir():
        raise UsageError(f"{out} is a file", "choose another folder with --out")
    with disk_errors(f"read {out}"):
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
        return all(BEGINNING.fullmatch(name) or is_litter(name) for name in names)


def _all_there(out: Path) -> bool:
    """Whether every image listed in the folder's metadata still exists."""
    tables = [*out.glob("metadata.csv"), *out.glob("*/metadata.csv")]
    try:
        names = [(table.parent, row.get("file_name", "")) for table in tables for row in read_table(table)]
    except DatasetError:
        return False
    return bool(tables) and all(metadata.stays_inside(name) and _is_there(place / name) for place, name in names)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not a valid name on this file system
        return False


def plan_key(plan: dict[str, Any]) -> str:
    """Return a hash that is equal for commands with the same output."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def finished_result(out: Path) -> dict[str, Any]:
    """Return what the command that completed the folder reported; empty if it cannot be read."""
    result = (_marker(out) or {}).get("result")
    return result if isinstance(result, dict) else {}


COUNTS = ("synthetic", "generated", "transformed", "beside", "rejected")


def is_whole(result: dict[str, Any]) -> bool:
    """Return whether a folder's record has the form that `augment` writes; the folder may come from anywhere."""
    kinds: dict[str, Any] = dict.fromkeys(("imbalance_rate_before", "imbalance_rate_after"), int | float)
    kinds |= {"complete": bool, "run": str, "step": int, "extractor": str | None, "generated_folder": str | None}
    kinds |= dict.fromkeys(("classes", "short", "notes", "recipe", "in_words"), list)
    try:
        return all(isinstance(result[key], kind) for key, kind in kinds.items()) and all(
            isinstance(c["name"], str) and all(type(c[key]) is int for key in ("real", *COUNTS))
            for c in result["classes"]
        )
    except (KeyError, TypeError):
        return False
