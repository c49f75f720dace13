"""Files and names that mean harm, made on the spot: shared by the tests under `faults` and by the fuzzers."""

from __future__ import annotations

import functools
import io
import os
import socket
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features

EVIL = "<script>alert(1)<∕script>"
NAMES = (
    *("new\nline", "carriage\rreturn", "tab\tulator", "line\u2028separator", "\x1b[31mred\x1b[0m", "nul\x01"),
    *('quo"te', "it's", "comma, semi;colon", "=1+1", "$(touch harm)", "`touch harm`", "-rf", "%s%n", "{{ 7*7 }}"),
    *(EVIL, "</title><b>".replace("/", "∕"), '" onload="alert(1)', "a|b", "[bold]x[/bold]".replace("/", "∕")),
    *("..\\..\\up", "..;", " blank ", "dot.", "café", "cafe\u0301", "CAFÉ", "\u202egnp.exe", "עברית", "漢字", "🙂"),
    *("\udcff\udcfe", "half\udce9", "\ufeffbom", "con", "nul.png", "v1.0", "metadata.csv", "README.md", "x" * 255),
    *("ß" * 127, "syn_00000_0", "train", "report.html"),
)
"""Names that a file system takes and programs stumble over; two of them differ in normalisation, two in case only."""


def picture(seed: int = 0, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> Image.Image:
    """A small random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The picture as a file's bytes."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@functools.cache
def pictures() -> dict[str, bytes]:
    """Whole files of every format and of the kinds that decoders treat apart, each readable."""
    rng = np.random.default_rng(7)
    frames = [picture(seed) for seed in (1, 2, 3)]
    animated = {"save_all": True, "append_images": frames[1:]}
    exif = Image.Exif()
    exif[0x0112] = 6
    floats = rng.normal(size=(6, 5)).astype(np.float32)
    floats[0, 0], floats[1, 1], floats[2, 2] = np.nan, np.inf, -np.inf
    found = {
        "png": encoded(picture(), "PNG"),
        "1x1": encoded(picture(size=(1, 1)), "PNG"),
        "1xN": encoded(picture(size=(1, 300)), "PNG"),
        "Nx1": encoded(picture(size=(300, 1)), "JPEG"),
        "palette": encoded(picture(mode="P"), "PNG", transparency=0),
        "alpha": encoded(picture(mode="RGBA"), "PNG"),
        "bilevel": encoded(picture(mode="1"), "PNG"),
        "grey 16": encoded(Image.fromarray(rng.integers(0, 65536, (4, 5), dtype=np.uint16)), "PNG"),
        "colour 16": _png(5, 4, 16, 2, b"".join(b"\0" + rng.bytes(5 * 6) for _ in range(4))),
        "apng": encoded(frames[0], "PNG", **animated),
        "jpeg": encoded(picture(), "JPEG"),
        "cmyk": encoded(picture(mode="CMYK"), "JPEG"),
        "exif": encoded(picture(), "JPEG", exif=exif),
        "gif": encoded(frames[0], "GIF", **animated),
        "bmp": encoded(picture(), "BMP"),
        "tiff": encoded(picture(), "TIFF"),
        "tiff lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
        "tiff cmyk": encoded(picture(mode="CMYK"), "TIFF"),
        "float with NaN": encoded(Image.fromarray(floats), "TIFF"),
        "double": tiff(5, 4, rng.normal(size=(4, 5)).astype("<f8").tobytes(), bits=64, sample_format=3),
        "ppm": encoded(picture(), "PPM"),
    }
    if features.check("webp"):
        found["webp"] = encoded(picture(), "WEBP", lossless=True)
        found["animated webp"] = encoded(frames[0], "WEBP", **animated)
    if features.check("jpg_2000"):
        found["jp2"] = encoded(picture(size=(16, 16)), "JPEG2000")
    if features.check("avif"):
        found["avif"] = encoded(picture(size=(16, 16)), "AVIF")
    return found


@functools.cache
def giants() -> dict[str, bytes]:
    """Small files of every format whose header declares far more pixels than anybody has memory for."""
    side = 60_000
    whole = pictures()
    found = {
        "png": _png(side, side, 8, 2, b"\0" * 100),
        "png 16": _png(side, side, 16, 2, b"\0" * 100),
        "jpeg": _patched(whole["jpeg"], b"\xff\xc0", 5, struct.pack(">HH", side, side)),
        "gif": whole["gif"][:6] + struct.pack("<HH", side, side) + whole["gif"][10:],
        "bmp": whole["bmp"][:18] + struct.pack("<ii", side, side) + whole["bmp"][26:],
        "tiff": tiff(side, side, b"\0" * 100),
        "double": tiff(side, side, b"\0" * 100, bits=64, sample_format=3),
        "tile": tiff(8, 8, b"\0" * 100, tile=side),
        "wide tile": tiff(8, 8, b"\0" * 100, tile=2**30),
        "strip": tiff(8, 8, b"\0" * 100, strip=2**32 - 1),
        "samples": tiff(8, 8, b"\0" * 100, samples=65_535),
        "ppm": b"P6 %d %d 255\n" % (side, side) + b"\0" * 100,
        "deflated tile": tiff(8, 8, zlib.compress(bytes(100)), tile=40_000, compression=8),
        "deflated strip": tiff(8, 8, zlib.compress(bytes(100)), strip=2**31 - 1, compression=8),
        "pfm": b"Pf\n%d %d\n-1.0\n" % (side, side) + b"\0" * 100,
    }
    if "webp" in whole:
        canvas = (side - 1).to_bytes(3, "little") * 2
        found["animated webp"] = _patched(whole["animated webp"], b"VP8X", 12, canvas)
    if "jp2" in whole:
        found["jp2"] = _patched(
            _patched(whole["jp2"], b"ihdr", 4, struct.pack(">II", side, side)),
            b"\xff\x51",
            6,
            struct.pack(">II", side, side),
        )
    if "avif" in whole:
        found["avif"] = _patched(whole["avif"], b"ispe", 8, struct.pack(">II", side, side))
    return found


def _patched(data: bytes, after: bytes, offset: int, new: bytes) -> bytes:
    at = data.index(after) + offset
    return data[:at] + new + data[at + len(new) :]


def _png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    width: int,
    height: int,
    data: bytes,
    *,
    bits: int = 8,
    sample_format: int = 1,
    samples: int = 1,
    tile: int = 0,
    strip: int = 0,
    compression: int = 1,
) -> bytes:
    """A TIFF of one strip or tile, its tags as they are given; compression 1 is none, 8 deflate."""
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: samples, 339: sample_format}
    if tile:
        tags |= {322: tile, 323: tile, 324: 8, 325: len(data)}
    else:
        tags |= {273: 8, 278: strip or height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


HTML = b"<!DOCTYPE html>\n<html><body>Not found</body></html>"


def special_files() -> dict[str, Callable[[Path], None]]:
    """Makers of everything in a folder that is neither a file nor a folder, as far as this system has them."""
    made: dict[str, Callable[[Path], None]] = {
        "dangling link": lambda p: p.symlink_to("nowhere"),
        "link to itself": lambda p: p.symlink_to(p.name),
        "link to a device": lambda p: p.symlink_to("/dev/zero"),
    }
    if hasattr(os, "mkfifo"):
        made["pipe"] = lambda p: os.mkfifo(p)
    if hasattr(socket, "AF_UNIX"):
        made["socket"] = _socket
    if hasattr(os, "mknod") and hasattr(os, "geteuid") and os.geteuid() == 0:
        made["device"] = lambda p: os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    return made


def _socket(path: Path) -> None:
    """A path may be longer than a socket's address can be, so it is bound from inside the folder."""
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(path.parent)
            s.bind("s")
            Path("s").rename(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder that must not change: kinds, modes, times, contents, where links lead."""
    return {os.path.relpath(path, root): _state(path) for path in _everything(str(root))}


def _everything(root: str) -> Iterator[str]:
    yield root
    for folder, dirs, files in os.walk(root):
        yield from (os.path.join(folder, name) for name in (*dirs, *files))  # noqa: PTH118 - undecodable names


def _state(path: str) -> tuple[object, ...]:
    info = os.lstat(path)
    content: object = None
    if stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)  # noqa: PTH115
    elif stat.S_ISREG(info.st_mode):
        with open(path, "rb") as f:  # noqa: PTH123
            content = f.read()
    return (info.st_mode, info.st_mtime_ns, info.st_uid, info.st_gid, content)
