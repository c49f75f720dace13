"""Fuzz the decoder: any bytes give a picture or an ImageError.

    python fuzz/fuzz_decode.py -max_total_time=240 [CORPUS]

A finding is any other exception, a picture that the rest of the program cannot work with, more than 5 seconds, or more
than 2 GB. Pillow's own C code is not instrumented: coverage is that of balancegan, Pillow's Python and tifffile.
"""

from __future__ import annotations

from common import instrumented, scratch, start

with instrumented():
    import PIL.AvifImagePlugin
    import PIL.BmpImagePlugin
    import PIL.GifImagePlugin
    import PIL.Jpeg2KImagePlugin
    import PIL.JpegImagePlugin
    import PIL.PngImagePlugin
    import PIL.PpmImagePlugin
    import PIL.TiffImagePlugin
    import PIL.WebPImagePlugin  # noqa: F401
    import tifffile  # noqa: F401

    from balancegan.data import decode, duplicates, sniff
    from balancegan.data import high_depth as deep
    from balancegan.report import inspection as page

import warnings

import hostile

warnings.filterwarnings("ignore", module="PIL")
FILE = scratch("decode") / "input"
SETTINGS = decode.DecodeSettings(image_size=8, channels=3)


def one(data: bytes) -> None:
    """Decode as `inspect` and `train` do, and use the pixels as they do."""
    FILE.write_bytes(data)
    sniffed = sniff.sniff_file(str(FILE))
    assert sniffed.format or sniffed.reason.isprintable()
    try:
        decode.read_header(FILE)
    except decode.ImageError as error:
        _check(error)
    for at_least in (0, 4):
        try:
            picture = decode.decode_image(FILE, max_pixels=1 << 22, at_least=at_least)
        except decode.ImageError as error:
            _check(error)
            continue
        window = decode.finite_range(picture.pixels) if picture.deep else None
        pixels = decode.to_uint8(picture.pixels, window)
        assert pixels.ndim in (2, 3) and min(picture.size) >= 1
        decode.network_pixels(pixels, SETTINGS)
        duplicates.pixel_digest(picture.pixels)
        duplicates.thumbnail(picture.pixels)
        page._thumb("name", picture.pixels, window)


def _check(error: decode.ImageError) -> None:
    assert error.reason and error.reason.isprintable(), error.reason
    error.reason.encode()


if __name__ == "__main__":
    assert deep
    start("decode", [*hostile.pictures().values(), *hostile.giants().values(), hostile.HTML, b""], one)
