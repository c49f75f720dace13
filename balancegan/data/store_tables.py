"""Read and write a store's tables, `rows.npz` and `meta.json`: what a build records besides the pixels."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from balancegan.data.build import DIGEST_BYTES, SCHEMA, THUMBS, Built
from balancegan.data.decode import DecodeSettings, Reading
from balancegan.data.scan import BadFile, ImageFolder
from balancegan.data.siblings import THUMB_BYTES
from balancegan.data.window import Window

_ARRAYS = ("rows", "sizes", "modes", "digests", "unused")  # of `Built`, in rows.npz


def write_tables(where: Path, built: Built) -> None:
    """Write what a build records besides the pixels; `meta.json` is written last and synced to disk."""
    arrays = {name: getattr(built, name) for name in _ARRAYS}
    np.savez(where / "rows.npz", **arrays)
    meta = {
        "schema": SCHEMA,
        "channels": built.settings.channels,
        "settings": dataclasses.asdict(built.settings),
        "window": None if built.window is None else [built.window.low, built.window.high],
        "fingerprint": built.fingerprint,
        "bad_files": [[b.path, b.reason] for b in built.bad_files],
        "notes": list(built.notes),
    }
    with (where / "meta.json").open("w", encoding="utf-8") as f:
        json.dump(meta, f, indent=1)
        f.flush()
        os.fsync(f.fileno())


def read_tables(where: Path, folder: ImageFolder) -> Built | None:
    """Return a store's tables, or None if they are missing or damaged."""
    try:
        meta = json.loads((where / "meta.json").read_text(encoding="utf-8"))
        if meta["schema"] != SCHEMA:
            return None
        with np.load(where / "rows.npz", allow_pickle=False) as z:
            arrays = {name: z[name] for name in _ARRAYS}
        s, window = meta["settings"], None if meta["window"] is None else Window(*meta["window"])
        reading = Reading(**{**s["reading"], "background": tuple(s["reading"]["background"])})
        given = window if s["window"] else None
        settings = DecodeSettings(s["image_size"], s["channels"], s["fit"], reading, given)
        bad = tuple(BadFile(path, reason) for path, reason in meta["bad_files"])
        notes = tuple(map(str, meta["notes"]))
        built = Built(settings, window, bad_files=bad, fingerprint=meta["fingerprint"], notes=notes, **arrays)
        fits = _fits(built, folder) and isinstance(built.fingerprint, str)
        for name, each in (("images.u8", built.row_bytes), (THUMBS, THUMB_BYTES)):
            fits = fits and (where / name).stat().st_size == len(built.rows) * each
        return built if fits else None
    except Exception:  # whatever the damage, the cache is rebuilt
        return None


def _fits(built: Built, folder: ImageFolder) -> bool:
    """Whether every file of the folder is a row (in order), a bad file, or in a class that is not trained on."""
    rows, unused, total = built.rows, built.unused, len(folder.files)
    for indices in (rows, unused):
        ascending = indices.dtype.kind == "i" and indices.ndim == 1 and bool((np.diff(indices, prepend=-1) > 0).all())
        if not ascending or indices.max(initial=-1) >= total:
            return False
    if len(rows) + len(built.bad_files) + len(unused) != total:
        return False
    is_left = np.ones(total, dtype=bool)  # one byte per file; a set would take a hundred
    is_left[rows] = is_left[unused] = False
    left = np.flatnonzero(is_left)
    alike = built.sizes.shape == (len(rows), 2) and built.sizes.dtype.kind == "i" and built.modes.shape == (len(rows),)
    alike = alike and built.digests.shape == (len(rows), DIGEST_BYTES) and built.digests.dtype == np.uint8
    return alike and {b.path for b in built.bad_files} == {folder.files[i].rel for i in left}
