from __future__ import annotations

import errno
import random
import struct
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from balancegan.core.errors import DiskError, UsageError
from balancegan.data.decode import DecodeSettings, Reading, decode_image, is_colour_mode, is_deep_mode, read_header
from balancegan.data.refused import ImageError
from balancegan.data.resize import is_grey, network_pixels, resize
from balancegan.data.window import Window, full_window, to_uint8, value_range

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000


def save(array: np.ndarray, path: Path, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def reason(path: Path, **options: int) -> str:
    with pytest.raises(ImageError) as e:
        decode_image(path, Reading(**options))
    assert str(path) not in e.value.reason
    return e.value.reason


def bare_png(width: int, height: int, data: bytes = b"", bits: int = 8, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_keeps_its_shades(tmp_path, suffix):
    picture = decode_image(save(RAMP, tmp_path / f"x{suffix}"))
    assert picture.deep
    np.testing.assert_array_equal(picture.pixels, RAMP)
    shown = to_uint8(picture.pixels, full_window([value_range(picture.pixels)]))
    np.testing.assert_array_equal(shown, np.rint(RAMP / 63000 * 255))
    assert len(np.unique(shown)) == 64  # Pillow's convert("L") would clip nearly all of them to 255


@pytest.mark.parametrize(
    ("array", "byteorder"),
    [
        (RAMP, ">"),
        (RAMP.astype(np.int32) - 30000, "<"),
        ((RAMP.astype(np.int32) - 30000).astype(np.int16), "<"),
        (RAMP.astype(np.uint32) * 60000, "<"),
        (RAMP.astype(np.uint32) * 60000, ">"),
        (RAMP.astype(np.float32) / 7, "<"),
        (RAMP.astype(np.float64) / 7, "<"),
        (np.stack([RAMP, RAMP + 1, RAMP + 2], -1), "<"),
        (np.stack([RAMP, RAMP + 1, RAMP + 2], -1), ">"),
        (np.stack([RAMP, RAMP, RAMP], -1) / 3.0, "<"),
    ],
    ids=[
        "uint16-big-endian",
        "int32",
        "int16",
        "uint32",
        "uint32-big-endian",
        "float32",
        "float64",
        "rgb16",
        "rgb16be",
        "rgbf",
    ],
)
def test_deep_tiffs(tmp_path, array, byteorder):
    tifffile = pytest.importorskip("tifffile")
    colour = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", array, byteorder=byteorder, photometric=colour)
    picture = decode_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(picture.pixels, array)
    assert full_window([value_range(picture.pixels)]) == Window(float(array.min()), float(array.max()))


@pytest.mark.parametrize(("channels", "colour"), [(3, 2), (4, 6)])
def test_16_bit_colour_png_keeps_all_bits(tmp_path, channels, colour):
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, channels), dtype=np.uint16)
    if channels == 4:
        values[..., 3] = 65535
        values[0, 0, 3] = 0
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "x.png").write_bytes(bare_png(8, 8, zlib.compress(raw), 16, colour))
    picture = decode_image(tmp_path / "x.png", Reading(background=(1, 2, 3)))
    expected = values[..., :3].copy()
    if channels == 4:
        expected[0, 0] = [257, 514, 771]
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.mode.endswith(";16")


def test_white_is_zero_tiff(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", RAMP, photometric="miniswhite")
    np.testing.assert_array_equal(decode_image(tmp_path / "x.tif").pixels, 65535 - RAMP)


def test_float_tiff_with_holes(tmp_path):
    values = np.linspace(-1, 3, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    picture = decode_image(save(values, tmp_path / "x.tif"))
    window = full_window([value_range(picture.pixels)])
    assert window.high == 3
    shown = to_uint8(picture.pixels, window)
    assert shown[0, 0] == 0 and shown[0, 1] == 255 and shown[0, 2] == 0 and shown[-1, -1] == 255
    assert "finite" in reason(save(np.full((4, 4), np.nan, np.float32), tmp_path / "nan.tif"))


def test_a_window_is_common_and_clips():
    np.testing.assert_array_equal(
        to_uint8(np.array([[0, 100, 200, 300, 900]], np.uint16), Window(100, 300)), [[0, 0, 128, 255, 255]]
    )
    assert to_uint8(np.full((2, 2), 7, np.int32), Window(7, 7)).max() == 0
    with pytest.raises(ValueError, match="window"):
        to_uint8(np.zeros((2, 2), np.uint16), None)


def test_transparency_shows_the_background(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, 2:] = [200, 10, 30, 255]
    path = save(rgba, tmp_path / "x.png")
    assert decode_image(path).pixels[0, 0].tolist() == [255, 255, 255]
    pixels = decode_image(path, Reading(background=(1, 2, 3))).pixels
    assert pixels[0, 0].tolist() == [1, 2, 3]
    assert pixels[0, 3].tolist() == [200, 10, 30]
    half = np.full((4, 4, 2), 128, np.uint8)
    assert decode_image(save(half, tmp_path / "la.png")).pixels[0, 0].tolist() == [191] * 3


def test_transparent_palette_entries(tmp_path):
    im = Image.new("P", (4, 4), 0)
    im.putpalette([255, 0, 0, 0, 255, 0])
    im.paste(1, (2, 0, 4, 4))
    im.save(tmp_path / "p.png", transparency=0)
    pixels = decode_image(tmp_path / "p.png").pixels
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[0, 3].tolist() == [0, 255, 0]
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "key.png", transparency=(9, 9, 9))
    assert decode_image(tmp_path / "key.png").pixels.min() == 255
    Image.new("L", (4, 4), 9).save(tmp_path / "grey.png", transparency=9)
    assert decode_image(tmp_path / "grey.png").pixels.min() == 255


@pytest.mark.parametrize(
    ("mode", "name"), [("P", "x.png"), ("P", "x.gif"), ("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("YCbCr", "x.jpg")]
)
def test_colour_modes(tmp_path, mode, name):
    Image.new("RGB", (16, 16), (255, 0, 0)).convert(mode).save(tmp_path / name)
    red = decode_image(tmp_path / name).pixels[8, 8].astype(int)
    assert np.abs(red - [255, 0, 0]).max() < 8


def test_one_bit(tmp_path):
    Image.new("1", (8, 8), 1).save(tmp_path / "x.png")
    assert decode_image(tmp_path / "x.png").pixels.tolist() == [[255] * 8] * 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize(("turn", "corner"), [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_exif_orientation(tmp_path, suffix, turn, corner):
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:12, :24] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = decode_image(save(pixels, tmp_path / f"x{suffix}", exif=exif))
    assert picture.size == ((24, 48) if turn > 4 else (48, 24))
    assert picture.pixels.shape[:2] == picture.size[::-1]
    lit = [c for c in [(0, 0), (0, -1), (-1, 0), (-1, -1)] if picture.pixels[c].min() > 200]
    assert lit == [corner]


def test_a_reduced_jpeg_reports_its_native_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(np.zeros((512, 512, 3), np.uint8), tmp_path / "x.jpg", exif=exif)
    picture = decode_image(tmp_path / "x.jpg", at_least=32)
    assert picture.size == (512, 512) and picture.pixels.shape == (64, 64, 3)
    exact = decode_image(tmp_path / "x.jpg")
    assert exact.pixels.shape == (512, 512, 3)


def test_damaged_exif_is_ignored(tmp_path):
    save(np.zeros((8, 8, 3), np.uint8), tmp_path / "x.jpg", exif=b"Exif\0\0garbage that is no TIFF header")
    assert decode_image(tmp_path / "x.jpg").size == (8, 8)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_first_frame_of_animations(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), c) for c in [(250, 0, 0), (0, 250, 0), (0, 0, 250)]]
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    colour = decode_image(tmp_path / f"x{suffix}").pixels[4, 4].astype(int)
    assert np.abs(colour - [250, 0, 0]).max() < 8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".tif", ".bmp", ".webp", ".ppm"])
@pytest.mark.parametrize("part", [0.3, 0.95])
def test_truncated_files(tmp_path, suffix, part, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(noise, tmp_path / f"x{suffix}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    why = reason(path)
    assert "truncated" in why or "damaged" in why


def test_bombs_by_declared_size(tmp_path):
    (tmp_path / "big.png").write_bytes(bare_png(12000, 9000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "12000 x 9000 pixels, more than" in reason(tmp_path / "big.png")
    (tmp_path / "huge.png").write_bytes(bare_png(60000, 60000))
    assert "decompression bomb" in reason(tmp_path / "huge.png")
    fine = save(np.zeros((20, 20), np.uint8), tmp_path / "fine.png")
    assert "bomb" in reason(fine, max_pixels=399)
    assert decode_image(fine, Reading(max_pixels=400)).size == (20, 20)


def test_other_reasons(tmp_path):
    assert "vanished" in reason(tmp_path / "gone.png")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    assert "damaged" in reason(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(bare_png(8, 8, b"no zlib stream"))
    assert "damaged" in reason(tmp_path / "y.png") or "truncated" in reason(tmp_path / "y.png")
    (tmp_path / "x.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "cannot read" in reason(tmp_path / "x.eps")  # formats that run programs stay closed
    with pytest.raises(ImageError):
        read_header(tmp_path / "x.png")


def test_whatever_is_wrong_it_is_an_image_error(tmp_path, capfd):
    """Random damage to files of every kind: a picture or a reason, never another exception."""
    rng = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    originals = []
    for name in ("x.png", "x.jpg", "x.tif", "x.gif", "x.bmp", "x.webp", "x.ppm"):
        originals.append(save(pixels, tmp_path / name).read_bytes())
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", pixels[..., 0] / 3.0)
    originals.append((tmp_path / "x.tif").read_bytes())
    reasons, path = set(), tmp_path / "damaged"
    for _ in range(600):
        damaged = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(min(len(damaged), rng.choice((60, 300, 9999))))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randint(4, 3 * len(damaged))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture = decode_image(path, Reading(max_pixels=10**6))
                window = full_window([value_range(picture.pixels)]) if picture.deep else None
                network_pixels(to_uint8(picture.pixels, window), DecodeSettings(8, 3))
            except ImageError as e:
                reasons.add(e.reason)
    assert len(reasons) > 5 and all(r and "\n" not in r for r in reasons)
    assert capfd.readouterr().err == ""


def test_header_only(tmp_path, picture):
    path = picture(tmp_path / "x.jpg", size=(20, 10))
    assert read_header(path) == ((20, 10), "RGB", "JPEG")


def test_grey():
    assert is_grey(np.zeros((4, 4), np.uint8))
    colour = np.zeros((4, 4, 3), np.uint8)
    assert is_grey(colour)
    colour[3, 3, 2] = 1
    assert not is_grey(colour)


def test_stretch_crop_pad():
    pixels = np.zeros((20, 40, 3), np.uint8)  # a wide black bar, white in its outer quarters
    pixels[:, :10] = pixels[:, 30:] = 255
    base = DecodeSettings(image_size=16)
    stretched = resize(pixels, base)
    assert stretched.shape == (3, 16, 16) and stretched[0, 8, 1] > 250 and stretched[0, 8, 8] < 5
    assert resize(pixels, replace(base, fit="crop"))[0, :, 1:-1].max() < 30  # the white quarters are cut off
    padded = resize(pixels, replace(base, fit="pad", reading=Reading(background=(10, 20, 30))))
    assert padded[:, 0, 8].tolist() == [10, 20, 30] and padded[:, 15, 8].tolist() == [10, 20, 30]
    assert padded[:, 8, 1].min() > 250 and padded[:, 8, 8].max() < 5
    grey = resize(pixels[..., 0], replace(base, fit="pad"))
    assert grey.shape == (1, 16, 16) and grey[0, 0, 0] == 255


def test_shrinking_averages():
    checks = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255
    small = resize(checks.astype(np.uint8), DecodeSettings(image_size=16))
    assert np.abs(small.astype(int) - 127).max() < 20  # nearest neighbour would give 0 or 255


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_extreme_shapes(shape, fit):
    assert resize(np.zeros((*shape, 3), np.uint8), DecodeSettings(image_size=8, fit=fit)).shape == (3, 8, 8)


def test_channels():
    grey, colour = np.full((8, 8), 50, np.uint8), np.zeros((8, 8, 3), np.uint8)
    colour[..., 0] = 255
    one, three = DecodeSettings(8, 1), DecodeSettings(8, 3)
    assert network_pixels(grey, three)[0].shape == (3, 8, 8) and network_pixels(grey, three)[1]
    luma, is_grey_too = network_pixels(colour, one)
    assert luma.shape == (1, 8, 8) and luma[0, 0, 0] == 76 and not is_grey_too


@pytest.mark.parametrize("wrong", [{"fit": "squash"}, {"channels": 2}, {"image_size": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError):
        DecodeSettings(**wrong)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif", "ppm", "jp2"])
@pytest.mark.parametrize("whole", [True, False])
def test_small_files_give_from_memory_what_they_give_from_disk(tmp_path, monkeypatch, suffix, whole):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 17, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / "b").write_bytes(content if whole else content[: len(content) // 2])

    def look():
        try:
            return decode_image(tmp_path / "b").pixels.tobytes()
        except ImageError as e:
            return e.reason

    small = look()
    monkeypatch.setattr("balancegan.core.files.SMALL", -1)
    assert small == look()


# --- what Pillow misreads, and other containers -----------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"compression": "zlib"}, {"byteorder": ">"}], ids=["plain", "zlib", "big-endian"])
def test_planar_16_bit_tiffs(tmp_path, more):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(0, 4096, (3, 20, 24)).astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", planarconfig="separate", **more)
    picture = decode_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(picture.pixels, np.moveaxis(values, 0, 2))
    assert picture.mode == "RGB;uint16" and is_deep_mode(picture.mode) and is_colour_mode(picture.mode)


def test_signed_8_bit_tiffs(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.arange(-100, 100, dtype=np.int8).reshape(10, 20)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="minisblack")
    np.testing.assert_array_equal(decode_image(tmp_path / "x.tif").pixels, values)
    assert decode_image(tmp_path / "x.tif", Reading(decoding=1)).pixels.dtype == np.uint8


def test_16_bit_grey_png_with_transparency_keeps_all_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 2), dtype=np.uint16)
    values[..., 1] = 65535
    values[0, 0, 1] = 0
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "x.png").write_bytes(bare_png(8, 8, zlib.compress(raw), 16, 4))
    expected = np.repeat(values[..., :1], 3, axis=2)
    expected[0, 0] = 65535
    np.testing.assert_array_equal(decode_image(tmp_path / "x.png").pixels, expected)


def test_gdals_value_for_no_data(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.arange(400, dtype=np.int16).reshape(20, 20)
    values[:2] = -9999
    tifffile.imwrite(tmp_path / "x.tif", values, extratags=[(42113, "s", 0, "-9999", True)])
    pixels = decode_image(tmp_path / "x.tif").pixels
    assert np.isnan(pixels[:2]).all() and pixels[2:].min() == 40
    tifffile.imwrite(tmp_path / "y.tif", np.where(values < 0, np.finfo(np.float32).min, values).astype(np.float32))
    assert value_range(decode_image(tmp_path / "y.tif").pixels)[:2] == (40, 399)


def test_colour_profiles_become_srgb(tmp_path):
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    image.save(tmp_path / "wrong.png", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    image.save(tmp_path / "damaged.png", icc_profile=b"no profile")
    for name in ("srgb", "wrong", "damaged"):
        assert decode_image(tmp_path / f"{name}.png").pixels[0, 0].tolist() == [200, 100, 50]
    # sRGB with red and green exchanged
    swapped = bytearray(srgb)
    places = {srgb[128 + 4 + 12 * k :][:4]: 128 + 4 + 12 * k for k in range(int.from_bytes(srgb[128:132], "big"))}
    red, green = (srgb[places[tag] + 4 : places[tag] + 12] for tag in (b"rXYZ", b"gXYZ"))
    swapped[places[b"rXYZ"] + 4 : places[b"rXYZ"] + 12] = green
    swapped[places[b"gXYZ"] + 4 : places[b"gXYZ"] + 12] = red
    swapped = bytes(swapped).replace(b"s\0R\0G\0B", b"x\0R\0G\0B").replace(b"sRGB", b"xRGB")
    half = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    half.putpixel((0, 0), (0, 0, 0, 0))
    for picture in (image, half):
        picture.save(tmp_path / "x.png", icc_profile=swapped)
        pixels = decode_image(tmp_path / "x.png").pixels
        assert np.abs(pixels[4, 4].astype(int) - [100, 200, 50]).max() <= 2
        assert decode_image(tmp_path / "x.png", Reading(decoding=1)).pixels[4, 4].tolist() == [200, 100, 50]
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_pages(tmp_path):
    frames = [Image.new("L", (8, 8), value) for value in (10, 20, 30)]
    for suffix in (".tif", ".gif"):
        path = tmp_path / f"x{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert (decode_image(path).pages, decode_image(path).pixels.max()) == (3, 10)
        assert decode_image(path, Reading(page=3)).pixels.max() == 30
        assert "3 pages" in reason(path, page=4)
    assert "1 page," in reason(save(RAMP, tmp_path / "y.png"), page=2)


def test_the_preview_of_a_raw_image_is_known(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "x.dng") as file:
        file.write(np.full((12, 16, 3), 77, np.uint8), photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.zeros((96, 128, 3), np.uint8), photometric="rgb", subfiletype=0)
    assert decode_image(tmp_path / "x.dng").preview and not decode_image(save(RAMP, tmp_path / "y.tif")).preview


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.arange(48, dtype=np.uint8).reshape(6, 8), (6, 8)),
        (np.arange(48, dtype=">f8").reshape(6, 8), (6, 8)),
        (np.zeros((6, 8, 3), np.uint8), (6, 8, 3)),
        (np.zeros((3, 6, 8), np.uint16), (6, 8, 3)),
        (np.zeros((6, 8, 1), bool), (6, 8)),
        (np.zeros((6, 8, 4), np.float16), (6, 8, 3)),
    ],
)
def test_numpy_arrays(tmp_path, array, shape):
    np.save(tmp_path / "x.npy", array)
    picture = decode_image(tmp_path / "x.npy")
    assert picture.pixels.shape == shape and picture.size == (8, 6) and picture.pixels.dtype.isnative
    assert read_header(tmp_path / "x.npy").size == (8, 6)


def test_numpy_arrays_that_are_not_images(tmp_path):
    for k, array in enumerate((np.zeros(5), np.zeros((5, 5), complex), np.zeros((2, 5, 6)), np.zeros((0, 5)))):
        np.save(tmp_path / f"{k}.npy", array)
        assert "array of shape" in reason(tmp_path / f"{k}.npy")
    np.save(tmp_path / "o.npy", np.array([[{}]]), allow_pickle=True)
    assert "not one image" in reason(tmp_path / "o.npy")
    (tmp_path / "d.npy").write_bytes((tmp_path / "0.npy").read_bytes()[:90])
    assert "damaged" in reason(tmp_path / "d.npy")


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_dicom(tmp_path, photometric):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    found = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    found.Rows = found.Columns = 8
    found.SamplesPerPixel, found.PhotometricInterpretation, found.PixelRepresentation = 1, photometric, 0
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
    found.RescaleSlope, found.RescaleIntercept = 2, -1000
    found.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    found.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    pixels = decode_image(tmp_path / "x.dcm").pixels.ravel()
    order = 1 if photometric == "MONOCHROME2" else -1
    np.testing.assert_array_equal(pixels[::order], np.arange(64) * 2.0 - 1000)
    found.WindowCenter, found.WindowWidth = -980, 20
    found.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert len(np.unique(decode_image(tmp_path / "x.dcm").pixels)) < 20
    (tmp_path / "y.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    assert "DICOM" in reason(tmp_path / "y.dcm")
    assert pydicom


def test_dicom_without_the_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "y.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    assert "balancegan[dicom]" in reason(tmp_path / "y.dcm")


# --- disks that fail for a moment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["EIO", "ESTALE", "ETIMEDOUT", "ENOMEM"])
def test_a_passing_error_is_no_damage(tmp_path, monkeypatch, number):
    path, left = save(RAMP, tmp_path / "x.png"), [2]

    def failing(where):
        if left[0]:
            left[0] -= 1
            raise OSError(getattr(errno, number), "it failed")
        return open(where, "rb")  # noqa: PTH123

    monkeypatch.setattr("balancegan.data.decode.read_regular", failing)
    monkeypatch.setattr("balancegan.core.files._PAUSES", (0, 0))
    assert decode_image(path).size == (8, 8)
    left[0] = 3
    with pytest.raises(DiskError, match="it failed"):
        decode_image(path)


def test_memory_that_is_short_is_no_damage(tmp_path, monkeypatch):
    def failing(where):
        raise MemoryError

    monkeypatch.setattr("balancegan.data.decode.read_regular", failing)
    monkeypatch.setattr("balancegan.core.files._PAUSES", (0,))
    with pytest.raises(DiskError, match="not enough memory"):
        decode_image(tmp_path / "x.png")
