"""Results on disk, each with the key of its settings: a changed setting invalidates it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from balancegan.commands.compare.matrix import Cell
from balancegan.core.documents import Json
from balancegan.core.files import disk_errors, write_atomic, write_json


def read_record(path: Path, key: Json) -> Json | None:
    """Return the result written under an equal key, or None if it is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found: Json = document["result"]
        return found if document["key"] == json.loads(json.dumps(key)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, key: Json, result: Json) -> None:
    """Write a result with its key atomically."""
    with disk_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "result": result})


def read_images(folder: Path, cell: Cell) -> np.ndarray | None:
    """Return the images of a cell that `write_images` kept, or None if they are missing or damaged."""
    try:
        return np.load(folder / f"{cell.name}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def write_images(folder: Path, cell: Cell, images: np.ndarray) -> None:
    """Keep a few images of a cell for the page."""
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    with disk_errors("write sample images"):
        write_atomic(folder / f"{cell.name}.npy", buffer.getvalue())
