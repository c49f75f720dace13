"""Decode a whole folder into one file of pixels, in parallel; `store.py` decides where it goes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from balancegan.compute.processes import processes
from balancegan.core.errors import DatasetError
from balancegan.core.files import require_space
from balancegan.core.progress import Progress, silent
from balancegan.data.decode import DecodeSettings, decode_image
from balancegan.data.pool import chunk_size, chunked, map_chunks
from balancegan.data.refused import ImageError
from balancegan.data.remarks import remarks
from balancegan.data.resize import is_grey, network_pixels
from balancegan.data.rows_on_disk import close_gaps, runs, write_all
from balancegan.data.scan import BadFile, ImageFolder
from balancegan.data.siblings import THUMB_BYTES, sibling_thumbnail
from balancegan.data.window import Values, Window, common_window, full_window, to_uint8, value_range, window_notes

if TYPE_CHECKING:
    from balancegan.compute.ranks import Ranks


SCHEMA = 1
DIGEST_BYTES = 16
THUMBS = "thumbs-1.u8"
"""File of the thumbnails that the search for siblings compares; raise the number when thumbnails change."""
_THUMB_SIDE = 256  # a thumbnail is taken of an image that still has this many pixels on both sides, if the file has
_SAMPLE = 48
_WAVE_BYTES = 256e6  # of pixels that a machine decodes before sending them to be written
_Chunk = Sequence[tuple[int, str]]  # pairs of file index and path


@dataclass(frozen=True, eq=False)
class Built:
    """What a finished build records besides the pixels; `rows[i]` is stored row i's index among the folder's files."""

    settings: DecodeSettings  # channels resolved
    window: Window | None
    rows: NDArray[np.int64]  # (N,)
    sizes: NDArray[np.int32]  # (N, 2) native width, height
    modes: NDArray[np.str_]  # (N,)
    digests: NDArray[np.uint8]  # (N, 16) hashes of the stored pixels
    unused: NDArray[np.int64]  # decodable files of classes without a decodable training image
    bad_files: tuple[BadFile, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def row_bytes(self) -> int:
        """Bytes per image."""
        return _row_bytes(self.settings)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know; kept small, because it is sent with every chunk."""

    root: str
    out: str  # the folder of the files of pixels and of thumbnails
    settings: DecodeSettings
    window: Window | None


class _Row(NamedTuple):
    """A worker's result for one file: stored, bad with a reason, or deep and waiting for the window."""

    row: int
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    grey: bool = True
    digest: bytes = b""
    range: Values | None = None  # of a deep image
    pages: int = 1
    preview: bool = False


class _Part(NamedTuple):
    """What decoding a chunk gives: a row per file, their pixels (n, C, S, S) and thumbnails (n, `THUMB_BYTES`)."""

    rows: list[_Row]
    pixels: NDArray[np.uint8]
    thumbs: NDArray[np.uint8]


def _row_bytes(settings: DecodeSettings) -> int:
    return (settings.channels or 1) * settings.image_size**2


class _ColourFoundError(Exception):
    """A set whose sample was all grey contains a colour image."""


def build(
    where: Path, folder: ImageFolder, settings: DecodeSettings, *, workers: int | None, progress: Progress = silent
) -> Built:
    """Write `images.u8` and `THUMBS` into `where`. Raises OSError or DiskError if the disk is full or fails."""
    if settings.channels is not None:
        return _build(where, folder, settings, workers, progress, stop_at_colour=False)
    channels = 1 if _sample_is_grey(folder, settings) else 3
    try:
        return _build(where, folder, replace(settings, channels=channels), workers, progress, channels == 1)
    except _ColourFoundError:
        return _build(where, folder, replace(settings, channels=3), workers, progress, False)


def _sample_is_grey(folder: ImageFolder, settings: DecodeSettings) -> bool:
    """Whether a few images spread over the set are all grey."""
    step = max(1, len(folder.files) // _SAMPLE)
    for f in folder.files[::step]:
        try:
            picture = decode_image(folder.path(f), settings.reading)
        except ImageError:
            continue
        if not is_grey(picture.pixels):
            return False
    return True


def _build(
    where: Path,
    folder: ImageFolder,
    settings: DecodeSettings,
    workers: int | None,
    progress: Progress,
    stop_at_colour: bool,
) -> Built:
    _reserve(where, len(folder.files), _row_bytes(settings))
    job = _Job(str(folder.root), str(where), settings, settings.window)
    run = partial(_run, folder=folder, workers=workers, progress=progress, stop_at_colour=stop_at_colour)
    table = run(job, range(len(folder.files)))
    deep = [row for row in table.values() if row.range is not None]
    window = settings.window
    if window is None and deep:
        window = _window_of(folder, deep, settings)
        again = run(replace(job, window=window), [row.row for row in deep])
        table |= {i: row._replace(range=table[i].range) for i, row in again.items()}
    rows = [table[i] for i in sorted(table)]
    return replace(_finish(where, folder, settings, window, rows), notes=tuple(_notes(folder, rows, window)))


def _reserve(where: Path, count: int, row_bytes: int) -> None:
    hint = "free some space, set BALANCEGAN_CACHE_DIR to a folder on another disk, or choose a smaller --image-size"
    require_space(where.parent, count * (row_bytes + THUMB_BYTES), "the decoded images need", hint)
    for name, each in (("images.u8", row_bytes), (THUMBS, THUMB_BYTES)):
        with (where / name).open("wb") as f:
            f.truncate(count * each)


def _run(
    job: _Job,
    indices: Sequence[int],
    *,
    folder: ImageFolder,
    workers: int | None,
    progress: Progress,
    stop_at_colour: bool,
) -> dict[int, _Row]:
    todo = [(i, folder.files[i].rel) for i in indices]
    table: dict[int, _Row] = {}
    progress("decode", 0, len(todo))
    results: Any = _decoded(job, chunked(todo, chunk_size(folder.mean_bytes)), workers)
    with contextlib.closing(results):  # on an early end, workers must stop before anything else writes the file
        for rows in results:
            if stop_at_colour and not all(row.grey for row in rows):
                raise _ColourFoundError
            table.update((row.row, row) for row in rows)
            progress("decode", len(table), len(todo))
            os.utime(job.out)  # a sign of life: see store.STALE_SECONDS
    return table


def _decoded(job: _Job, chunks: Sequence[_Chunk], workers: int | None) -> Iterator[list[_Row]]:
    """Yield the rows of every chunk, in order, once their pixels are in the file."""
    if processes() > 1:
        from balancegan.compute.ranks import here

        if here().is_main and len(here().machines) > 1:
            return _decoded_by_machines(job, chunks, workers, here())
    return map_chunks(partial(_decode_rows, job), chunks, workers=workers)


def _decoded_by_machines(
    job: _Job, chunks: Sequence[_Chunk], workers: int | None, ranks: Ranks
) -> Iterator[list[_Row]]:
    """Like `_decoded`, with processes on several machines: each machine decodes, this process writes."""
    machines = ranks.machines
    row_bytes = _row_bytes(job.settings) + THUMB_BYTES
    per_machine = max(1, int(_WAVE_BYTES // (len(chunks[0]) * row_bytes))) if chunks else 1
    for wave in chunked(chunks, per_machine * len(machines)):
        mine = {rank: wave[i :: len(machines)] for i, rank in enumerate(machines)}
        shares = [(job, mine.get(rank, ()), workers) for rank in range(ranks.size)]
        decoded = ranks.split(_decode_share, shares)
        for i, todo in enumerate(wave):
            part = decoded[machines[i % len(machines)]][i // len(machines)]
            _write_rows(job, todo, part)
            yield part.rows


def _decode_share(job: _Job, chunks: Sequence[_Chunk], workers: int | None) -> list[_Part]:
    if chunks and not Path(job.root).is_dir():  # or every file would count as damaged
        raise DatasetError(f"{job.root} does not exist on every machine", "use a folder that all machines share")
    return list(map_chunks(partial(_decode_block, job), chunks, workers=workers))


def _decode_rows(job: _Job, todo: _Chunk) -> list[_Row]:
    """Decode files in a worker and write their pixels at their rows."""
    part = _decode_block(job, todo)
    _write_rows(job, todo, part)
    return part.rows


def _decode_block(job: _Job, todo: _Chunk) -> _Part:
    """Decode files."""
    s = job.settings
    block = np.zeros((len(todo), s.channels or 1, s.image_size, s.image_size), np.uint8)
    thumbs = np.zeros((len(todo), THUMB_BYTES), np.uint8)
    rows = [_decode_row(job, index, rel, block[i], thumbs[i]) for i, (index, rel) in enumerate(todo)]
    return _Part(rows, block, thumbs)


def _write_rows(job: _Job, todo: _Chunk, part: _Part) -> None:
    # written, not memory-mapped, so that a full disk raises OSError instead of SIGBUS
    for name, block in (("images.u8", part.pixels), (THUMBS, part.thumbs)):
        with open(f"{job.out}/{name}", "r+b", buffering=0) as f:  # noqa: PTH123
            for first, last in runs([index for index, _ in todo]):
                f.seek(todo[first][0] * block[0].nbytes)
                write_all(f.fileno(), block[first : last + 1])


def _decode_row(job: _Job, index: int, rel: str, into: NDArray[np.uint8], thumb: NDArray[np.uint8]) -> _Row:
    s = job.settings
    path = f"{job.root}/{rel}"
    try:
        picture = decode_image(path, s.reading, at_least=2 * s.image_size)
        whole = picture
        if min(picture.pixels.shape[:2]) < min(_THUMB_SIDE, *picture.size):  # reduced too far for a thumbnail
            whole = decode_image(path, s.reading, at_least=_THUMB_SIDE)
    except ImageError as e:
        return _Row(index, e.reason)
    known = job.window is not None and s.window is None  # this is the second pass
    values = value_range(picture.pixels) if picture.deep and not known else None
    row = _Row(index, "", picture.size, picture.mode, True, b"", values, picture.pages, picture.preview)
    if picture.deep and job.window is None:
        return row
    pixels, grey = network_pixels(to_uint8(picture.pixels, job.window), s)
    into[:] = pixels
    thumb[:] = np.frombuffer(sibling_thumbnail(whole.pixels), np.uint8)
    digest = hashlib.blake2b(pixels.data, digest_size=DIGEST_BYTES).digest()
    return row._replace(grey=grey, digest=digest)


def _window_of(folder: ImageFolder, deep: list[_Row], settings: DecodeSettings) -> Window:
    """Return one window for the whole set, from its deep training images, or from all deep images if none is."""
    train = [row for row in deep if folder.files[row.row].split == "train"] or deep
    ranges = [row.range for row in train if row.range]
    if settings.reading.decoding == 1:
        return full_window(ranges)
    return common_window(ranges, [folder.files[row.row].label for row in train])


def _notes(folder: ImageFolder, rows: list[_Row], window: Window | None) -> list[str]:
    """What to know of how the files were read."""
    good = [(folder.files[row.row].rel, row) for row in rows if not row.reason]
    deep = [(rel, row.range) for rel, row in good if row.range]
    notes = window_notes([rel for rel, _ in deep], [values for _, values in deep], window) if window else []
    return notes + remarks([(rel, row.pages, row.preview) for rel, row in good])


def _finish(
    where: Path, folder: ImageFolder, settings: DecodeSettings, window: Window | None, table: list[_Row]
) -> Built:
    decoded = [row for row in table if not row.reason]
    trained = {folder.files[row.row].label for row in decoded if folder.files[row.row].split == "train"}
    good = [row for row in decoded if folder.files[row.row].label in trained]
    bad = tuple(BadFile(folder.files[row.row].rel, row.reason) for row in table if row.reason)
    built = Built(
        settings=settings,
        window=window,
        rows=np.array([row.row for row in good], dtype=np.int64),
        sizes=np.array([row.size for row in good], dtype=np.int32).reshape(-1, 2),
        modes=np.array([row.mode for row in good], dtype=np.str_),
        digests=np.frombuffer(b"".join(row.digest for row in good), np.uint8).reshape(-1, DIGEST_BYTES),
        unused=np.array([row.row for row in decoded if folder.files[row.row].label not in trained], dtype=np.int64),
        bad_files=bad,
        fingerprint=_fingerprint(folder, settings, window, decoded),
    )
    close_gaps(where / "images.u8", built.rows, built.row_bytes)
    close_gaps(where / THUMBS, built.rows, THUMB_BYTES)
    return built


def _fingerprint(folder: ImageFolder, settings: DecodeSettings, window: Window | None, good: list[_Row]) -> str:
    """Hash what a network would see: split, class, path inside the class, pixels, and the settings.

    The folder's location and file times are not included, so the fingerprint survives moving and copying.
    """
    digest = hashlib.blake2b(digest_size=20)
    head = [
        SCHEMA,
        settings.image_size,
        settings.channels,
        settings.fit,
        list(settings.reading.background),
        None if window is None else [window.low, window.high],
    ]
    digest.update(json.dumps(head).encode())
    for row in good:
        f = folder.files[row.row]
        line = f"{f.split}\0{folder.own_class(f)}\0{folder.inner(f)}\0"
        digest.update(line.encode("utf-8", "surrogatepass") + row.digest)
    return digest.hexdigest()
