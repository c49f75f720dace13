"""The findings of `inspect` as one self-contained HTML page with example pictures of every class."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from balancegan.core.errors import UsageError
from balancegan.core.files import disk_errors, open_regular, refuse_source, write_atomic
from balancegan.core.text import printable
from balancegan.core.version import __version__
from balancegan.data.decode import ImageError, Window, decode_image, finite_range, to_uint8
from balancegan.data.scan import ImageFolder
from balancegan.inspection.findings import Group, Inspection

EXAMPLES = 8
SIDE = 96
MAX_CLASSES = 200
MAX_LISTED = 100
MARK = b"inspected by balancegan"  # stands on every page


def render_html(inspection: Inspection, folder: ImageFolder) -> str:
    """A page without any outside reference; thumbnails are `data:` URIs. Decodes up to 8 images per class."""
    from jinja2 import Environment, PackageLoader

    env = Environment(
        loader=PackageLoader("balancegan.report", "templates"), autoescape=True, trim_blocks=True, finalize=_clean
    )
    env.filters["printable"] = printable
    env.filters["code"] = _code
    env.filters["thousands"] = lambda n: f"{n:,}"
    most = max((c.count for c in inspection.classes), default=0) or 1
    return env.get_template("inspection.html.j2").render(
        i=inspection,
        version=__version__,
        most=most,
        examples=_examples(inspection, folder),
        findings=list(_tables(inspection)),
        max_listed=MAX_LISTED,
    )


def write_page(path: Path, page: str, folder: ImageFolder) -> None:
    """Write a page, over an older one only; raises `UsageError` for another file and for a place in the data set."""
    refuse_source(path, folder.folders())
    with disk_errors(f"write {path}"):
        if path.exists():
            with open_regular(path) as file:
                if MARK not in file.read():
                    raise UsageError(f"{path} exists and is not a page of balancegan", "choose another file")
        write_atomic(path.absolute(), page)


def _clean(value: Any) -> Any:
    """Text from the data without control characters and undecodable bytes; ready-made markup and URIs as they are."""
    plain = isinstance(value, str) and not isinstance(value, Markup) and not value.startswith("data:")
    return printable(value) if plain else value


def _code(text: str) -> Markup:
    """Escape the text, and set what stands in backticks as code."""
    text = printable(text)
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a file name brought a backtick of its own
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _tables(i: Inspection) -> Iterator[tuple[str, str, tuple[Group, ...]]]:
    """(heading, explanation, groups) of every kind of repetition that was found."""
    kinds = (
        ("Label conflicts", "The same picture in more than one class.", i.conflicts),
        ("Leaks", "The same picture in more than one split.", i.leaks),
        ("Duplicates", "The same picture more than once within a class.", i.duplicates),
        ("Near duplicates", "Nearly the same picture: resized, re-encoded or taken twice.", i.near_duplicates),
    )
    return (kind for kind in kinds if kind[2])


def _examples(inspection: Inspection, folder: ImageFolder) -> dict[str, list[dict[str, Any]]]:
    """Thumbnails per class name, spread evenly over the class's files."""
    bad = {b.path for b in inspection.bad_files}
    decoded: dict[str, list[tuple[str, NDArray[Any]]]] = {}
    for label, name in list(enumerate(folder.classes))[:MAX_CLASSES]:
        files = [f for f in folder.files if f.split == inspection.split and f.label == label and f.rel not in bad]
        step = max(1, len(files) / EXAMPLES)
        chosen = [files[int(k * step)] for k in range(min(EXAMPLES, len(files)))]
        decoded[name] = []
        for f in chosen:
            try:
                decoded[name].append((f.rel, decode_image(folder.path(f)).pixels))
            except ImageError:  # the folder changed since it was inspected
                continue
    window = _window([pixels for shown in decoded.values() for _, pixels in shown])
    return {name: [_thumb(rel, pixels, window) for rel, pixels in shown] for name, shown in decoded.items()}


def _window(arrays: list[NDArray[Any]]) -> Window | None:
    """One window for all shown deep images, so that they compare."""
    ranges = [finite_range(a) for a in arrays if a.dtype != np.uint8]
    return Window(min(r.low for r in ranges), max(r.high for r in ranges)) if ranges else None


def _thumb(rel: str, pixels: NDArray[Any], window: Window | None) -> dict[str, Any]:
    im = Image.fromarray(to_uint8(pixels, window))
    height, width = pixels.shape[:2]
    im.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if max(width, height) <= SIDE:  # small pictures exactly
        im.save(out, "PNG")
        kind = "png"
    else:
        im.save(out, "JPEG", quality=85)
        kind = "jpeg"
    data = base64.b64encode(out.getvalue()).decode()
    return {"name": printable(rel), "width": width, "height": height, "uri": f"data:image/{kind};base64,{data}"}
