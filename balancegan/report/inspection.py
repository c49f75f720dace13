"""Renders the findings of `inspect` as one self-contained HTML page with example images of every class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors, open_regular, refuse_source, write_atomic
from balancegan.core.text import printable
from balancegan.core.version import __version__
from balancegan.data.decode import AS_USUAL, Reading, decode_image
from balancegan.data.refused import ImageError
from balancegan.data.scan import ImageFolder
from balancegan.data.window import Window, common_window, to_uint8, value_range
from balancegan.inspection.findings import Group, Inspection
from balancegan.report.pages import picture_uri, render_page

EXAMPLES = 8
SIDE = 96
MAX_CLASSES = 200
MAX_LISTED = 100
MOST_PICTURED = 6  # groups of siblings
MARK = b"inspected by balancegan"  # appears on every page


def render_html(inspection: Inspection, folder: ImageFolder, reading: Reading = AS_USUAL) -> str:
    """Render a self-contained page; thumbnails are `data:` URIs. Decodes up to `EXAMPLES` images per class."""
    return render_page(
        "inspection.html.j2",
        i=inspection,
        version=__version__,
        most=max((c.count for c in inspection.classes), default=0) or 1,
        examples=_examples(inspection, folder, reading),
        findings=list(_tables(inspection, folder, reading)),
        max_listed=MAX_LISTED,
    )


def write_page(path: Path, page: str, folder: ImageFolder) -> None:
    """Write a page; it may replace only an older page.

    Raises:
        UsageError: the file exists and is something else, or the path is inside the data set.
    """
    refuse_source(path, folder.folders())
    with disk_errors(f"write {path}"):
        if path.exists():
            with open_regular(path) as file:
                if MARK not in file.read():
                    raise UsageError(f"{path} exists and is not a page written by balancegan", "choose another file")
        write_atomic(path.absolute(), page)


def _tables(
    i: Inspection, folder: ImageFolder, reading: Reading
) -> Iterator[tuple[str, str, tuple[Group, ...], list[Any]]]:
    """(heading, explanation, groups, thumbnails of some groups) of every kind of repeated image found."""
    kinds = (
        ("Label conflicts", "The same image in more than one class.", i.conflicts),
        ("Leaks", "The same image in more than one split.", i.leaks),
        ("Duplicates", "The same image more than once within a class.", i.duplicates),
        ("Siblings in several splits", "A test on siblings of training images is too easy.", i.sibling_leaks),
        ("Siblings", "Images that probably show the same object or scene; exact copies among them.", i.siblings),
    )
    return ((*kind, _pictured(kind[2], folder, reading) if kind[2] is i.siblings else []) for kind in kinds if kind[2])


def _examples(inspection: Inspection, folder: ImageFolder, reading: Reading) -> dict[str, list[dict[str, Any]]]:
    """Thumbnails per class name, chosen evenly from the class's files."""
    bad = {b.path for b in inspection.bad_files}
    decoded: dict[str, list[tuple[str, NDArray[Any]]]] = {}
    for label, name in list(enumerate(folder.classes))[:MAX_CLASSES]:
        files = [f for f in folder.files if f.split == inspection.split and f.label == label and f.rel not in bad]
        step = max(1, len(files) / EXAMPLES)
        chosen = [files[int(k * step)] for k in range(min(EXAMPLES, len(files)))]
        decoded[name] = _decoded([f.rel for f in chosen], folder, reading)
    window = _window([pixels for shown in decoded.values() for _, pixels in shown])
    return {name: [_thumb(rel, pixels, window) for rel, pixels in shown] for name, shown in decoded.items()}


def _pictured(groups: tuple[Group, ...], folder: ImageFolder, reading: Reading) -> list[list[dict[str, Any]]]:
    """Thumbnails of images of the largest groups, chosen evenly from each."""
    shown = []
    for group in sorted(groups, key=lambda g: -len(g.paths))[:MOST_PICTURED]:
        step = max(1, len(group.paths) / EXAMPLES)
        names = [group.paths[int(k * step)] for k in range(min(EXAMPLES, len(group.paths)))]
        decoded = _decoded(names, folder, reading)
        window = _window([pixels for _, pixels in decoded])
        shown.append([_thumb(rel, pixels, window) for rel, pixels in decoded])
    return shown


def _decoded(names: list[str], folder: ImageFolder, reading: Reading) -> list[tuple[str, NDArray[Any]]]:
    """The names and pixels of those of the files that can still be read."""
    found = []
    for rel in names:
        with contextlib.suppress(ImageError):  # the folder has changed since it was inspected
            found.append((rel, decode_image(folder.root / rel, reading).pixels))
    return found


def _window(arrays: list[NDArray[Any]]) -> Window | None:
    """A shared value range for all images of more than 8 bits, so that they can be compared; None without any."""
    ranges = [value_range(a) for a in arrays if a.dtype != np.uint8]
    return common_window(ranges, [0] * len(ranges)) if ranges else None


def _thumb(rel: str, pixels: NDArray[Any], window: Window | None) -> dict[str, Any]:
    im = Image.fromarray(to_uint8(pixels, window))
    height, width = pixels.shape[:2]
    im.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small = max(width, height) <= SIDE  # store small images losslessly
    uri = picture_uri(im) if small else picture_uri(im, "jpeg", quality=85)
    return {"name": printable(rel), "width": width, "height": height, "uri": uri}
