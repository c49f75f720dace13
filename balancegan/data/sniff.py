"""Identify image formats by a file's first bytes, ignoring names and extensions."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from balancegan.core.files import FLAGS, read_again
from balancegan.core.progress import Progress, silent

PICTURE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k", ".heic", ".heif"}
)
IMAGE_SUFFIXES = PICTURE_SUFFIXES | {".dcm"}
READ_BYTES = 132
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_BATCH = 512
_FIRST = 32  # files, enough to detect a slow disk
_SLOW = 5e-5  # seconds per file; a cached file takes a tenth of that
_THREADS = 8


class Sniffed(NamedTuple):
    """A file's `format` in Pillow's spelling, or "" and a reason; `unreadable` if it could not be opened or read."""

    format: str
    reason: str = ""
    unreadable: bool = False


def sniff(head: bytes) -> str:
    """Return the image format that these first bytes indicate, or "" if it is none that can be decoded."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] in (b" ", b"\t", b"\r", b"\n"):
        return "PPM"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head.startswith(b"\x93NUMPY"):
        dimensions = re.search(rb"'shape': \(([0-9, ]*)\)", head)  # one is an embedding or labels, four a stack
        return "NPY" if dimensions and dimensions[1].strip(b", ").count(b",") in (1, 2) else ""
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[4:8] == b"ftyp" and (head[8:12] in (b"avif", b"avis") or b"avif" in head[16:]):
        return "AVIF"
    return ""


def _reason(head: bytes) -> str:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg")):
        return "not an image: the file holds HTML or XML"
    if head[4:8] == b"ftyp":
        return "HEIC and video files are not supported: convert it to PNG or JPEG"
    if head.startswith((b"PK\3\4", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")):
        return "not an image: the file is an archive"
    if not head.strip(b"\0"):
        return "not an image: the file starts with zeros"
    if start and all(32 <= b < 127 or b in b"\r\n\t" for b in head):
        return "not an image: the file holds text"
    return "not an image in a known format"


def sniff_file(path: str) -> Sniffed:
    """Sniff one file; the caller must have checked that it is a regular file.

    Raises `DiskError` if a disk or the network fails.
    """
    try:
        head = read_again(lambda: _head(path), f"read {path}")
    except OSError as e:
        return Sniffed("", f"cannot be opened: {e.strerror}", unreadable=True)
    found = sniff(head)
    return Sniffed(found, "" if found else _reason(head))


def _head(path: str) -> bytes:
    fd = os.open(path, FLAGS)
    try:
        return os.read(fd, READ_BYTES)
    finally:
        os.close(fd)


def _sniff_batch(paths: list[str]) -> list[Sniffed]:
    return [sniff_file(p) for p in paths]


def sniff_many(paths: list[str], progress: Progress = silent) -> Iterator[Sniffed]:
    """Sniff files in order.

    Switches to threads once files prove slow to open: on a network drive, or on a disk whose contents are not cached.
    For cached files, threads would take twice as long, because they wait for each other rather than for the disk.
    """
    done = 0
    todo = iter([paths[:_FIRST], *(paths[i : i + _BATCH] for i in range(_FIRST, len(paths), _BATCH))])
    for found in _until_slow(todo):
        yield from found
        done += len(found)
        progress("scan", done, len(paths))
    if done == len(paths):
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(_sniff_batch, todo):
            yield from found
            done += len(found)
            progress("scan", done, len(paths))


def _until_slow(batches: Iterator[list[str]]) -> Iterator[list[Sniffed]]:
    """Sniff in this thread, up to and including the first slow batch."""
    for batch in batches:
        start = time.perf_counter()
        found = _sniff_batch(batch)
        seconds = time.perf_counter() - start
        yield found
        if seconds > _SLOW * len(batch):
            return
