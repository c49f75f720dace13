import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, PngImagePlugin

from balancegan.evaluation.shortcuts import MIN_FILES, pixel_numbers, shortcut_checks


def shortcuts(real, fake):
    """The long sentences; what follows from another check is told shortly."""
    rows = shortcut_checks(real, fake)
    assert all(bool(row["sentence"]) == row["telling"] for row in rows)
    return [row["sentence"] for row in rows if row["telling"] and "too: " not in row["sentence"]]


def write(folder, sizes, mode="RGB", suffix=".png", start=0):
    folder.mkdir(exist_ok=True)
    files = []
    for index, size in enumerate(sizes, start=start):
        path = folder / f"{index}{suffix}"
        Image.new(mode, size).save(path)
        files.append(path)
    return files


def test_equal_form_gives_no_warning(tmp_path):
    sizes = [(20, 20), (30, 20)] * 10
    assert shortcuts(write(tmp_path / "real", sizes), write(tmp_path / "fake", sizes)) == []


def test_size_alone(tmp_path):
    real = write(tmp_path / "real", [(40 + i, 50) for i in range(20)])
    (text,) = shortcuts(real, write(tmp_path / "fake", [(16, 16)] * 20))
    assert text.startswith("Image size alone") and "`--out-size native`" in text
    assert "synthetic: 16x16" in text and "20 different ones" in text
    follows = shortcut_checks(real, sorted((tmp_path / "fake").iterdir()))[3]
    assert follows["check"] == "file size" and "this follows from the image size" in follows["sentence"]


def test_a_frequent_real_size_among_synthetic_ones_can_still_tell(tmp_path):
    # The usual real size is rare when real sizes vary: all-equal synthetic files stand out.
    real = write(tmp_path / "real", [(40 + i, 50) for i in range(20)])
    assert len(shortcuts(real, write(tmp_path / "fake", [(50, 50)] * 20))) == 1


def test_format_alone(tmp_path):
    real = write(tmp_path / "real", [(20, 20)] * 5, suffix=".jpg")
    (text,) = shortcuts(real, write(tmp_path / "fake", [(20, 20)] * 5))
    assert text.startswith("File format alone") and "`--format match`" in text
    assert "synthetic: PNG; real: JPEG" in text


@pytest.mark.parametrize(("mode", "words"), [("L", "8-bit grey"), ("I;16", "16-bit grey"), ("P", "8-bit palette")])
def test_mode_alone(tmp_path, mode, words):
    if mode == "I;16":
        (tmp_path / "real").mkdir()
        path = tmp_path / "real" / "a.png"
        Image.fromarray(np.zeros((20, 20), np.uint16)).save(path)
        real = [path]
    else:
        real = write(tmp_path / "real", [(20, 20)] * 3, mode=mode)
    (text,) = shortcuts(real, write(tmp_path / "fake", [(20, 20)] * 3))
    assert text.startswith("Pixel type alone") and words in text and "8-bit RGB" in text


def test_a_mixture_that_does_not_tell(tmp_path):
    jpeg = write(tmp_path / "real", [(20, 20)] * 6, suffix=".jpg")
    png = write(tmp_path / "real", [(20, 20)] * 6, start=6)
    assert shortcuts(jpeg + png, write(tmp_path / "fake", [(20, 20)] * 6)) == []


def test_unreadable_and_missing_files_are_left_out(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    fake = write(tmp_path / "fake", [(20, 20)])
    assert shortcuts([broken, tmp_path / "missing.png"], fake) == []
    assert shortcuts([], fake) == []


def photo(rng, side=48, grain=6.0):
    """A smooth picture with grain, RGB."""
    coarse = Image.fromarray(rng.integers(40, 216, (5, 5, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    pixels = np.asarray(coarse, np.float64) + rng.normal(0, grain, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photos(folder, seed, n=40, change=lambda image, rng: image, side=48, **save):
    folder.mkdir()
    rng, files = np.random.default_rng(seed), []
    for i in range(n):
        files.append(folder / f"{i}.png")
        change(photo(rng, side), rng).save(files[-1], **save)
    return files


def telling(real, fake):
    return {row["check"] for row in shortcut_checks(real, fake) if row["telling"]}


def test_photographs_of_one_kind_do_not_tell(tmp_path):
    real, fake = photos(tmp_path / "real", 0), photos(tmp_path / "fake", 1)
    rows = shortcut_checks(real, fake)
    assert [row["check"] for row in rows] == [
        *("image size", "file format", "pixel type", "file size", "bytes per pixel"),
        *("high frequencies", "checkerboard", "block grid"),
    ]
    assert all(0.2 < row["accuracy"] < 0.8 and row["sentence"] == "" and row["n_real"] == 40 for row in rows)
    assert not any(row["telling"] for row in rows)
    assert shortcuts(real, fake) == [] and rows == shortcut_checks(real, fake)


def test_file_size_alone(tmp_path):
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "x" * 20_000)  # the same pixels, another file
    real, fake = photos(tmp_path / "real", 0), photos(tmp_path / "fake", 1, pnginfo=note)
    assert telling(real, fake) == {"file size", "bytes per pixel"}
    (text,) = shortcuts(real, fake)
    assert text.startswith("File size alone") and "Save all files the same way before training" in text
    assert telling(fake, real) == {"file size", "bytes per pixel"}  # in the other direction too
    assert "Bytes per pixel tell synthetic from real images too: the remedy is the same." in [
        row["sentence"] for row in shortcut_checks(real, fake)
    ]


def test_bytes_per_pixel_alone(tmp_path):
    sizes = [24, 32, 48, 64]
    real = [f for s in sizes for f in photos(tmp_path / f"real{s}", s, 10, side=s, compress_level=0)]
    fake = [f for s in sizes for f in photos(tmp_path / f"fake{s}", 9 + s, 10, side=s, compress_level=9)]
    assert "bytes per pixel" in telling(real, fake) and "file size" not in telling(real, fake)
    (text,) = shortcuts(real, fake)
    assert text.startswith("Bytes per pixel alone")


def test_high_frequencies_alone(tmp_path):
    real = photos(tmp_path / "real", 0, compress_level=0)
    fake = photos(tmp_path / "fake", 1, change=lambda i, _: i.filter(ImageFilter.GaussianBlur(1)), compress_level=0)
    assert "high frequencies" in telling(real, fake)
    assert not {"file size", "block grid"} & telling(real, fake)
    (text,) = shortcuts(real, fake)
    assert text.startswith("High frequencies alone tell ") and "re-encode all images alike" in text


def test_checkerboard_alone(tmp_path):
    chess = 12 * (-1) ** np.add.outer(np.arange(48), np.arange(48))[..., None]

    def add(image, rng):
        return Image.fromarray((np.asarray(image) + float(rng.choice([-1, 1])) * chess).clip(0, 255).astype(np.uint8))

    real, fake = photos(tmp_path / "real", 0), photos(tmp_path / "fake", 1, change=add)
    assert "checkerboard" in telling(real, fake)
    assert any("upsampling=resize" in text for text in shortcuts(real, fake))


def test_block_grid_of_a_hidden_jpeg(tmp_path):
    def through_jpeg(image, rng):
        image.save(buffer := io.BytesIO(), "JPEG", quality=10)
        return Image.open(buffer).convert("RGB")

    fake = photos(tmp_path / "fake", 1, change=through_jpeg)
    assert "block grid" in telling(photos(tmp_path / "real", 0), fake)


def test_many_sizes_in_common_do_not_tell(tmp_path):
    """Every image has its own size, drawn alike: that the very values differ says nothing."""
    rng = np.random.default_rng(0)
    sizes = [tuple(int(v) for v in size) for size in rng.integers(20, 120, (120, 2))]
    real, fake = write(tmp_path / "real", sizes[:60]), write(tmp_path / "fake", sizes[60:])
    row = shortcut_checks(real, fake)[0]
    assert row["accuracy"] < 0.7 and not row["telling"]


def test_one_size_beside_many(tmp_path):
    real = write(tmp_path / "real", [(20 + i, 30) for i in range(40)])
    assert shortcut_checks(real, write(tmp_path / "fake", [(33, 30)] * 40))[0]["accuracy"] > 0.95


def test_too_few_files_are_not_judged_by_numbers(tmp_path):
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "x" * 20_000)
    real, fake = photos(tmp_path / "real", 0, 40), photos(tmp_path / "fake", 1, MIN_FILES - 1, pnginfo=note)
    rows = {row["check"]: row for row in shortcut_checks(real, fake)}
    assert rows["file size"]["accuracy"] is None and not rows["file size"]["telling"]
    assert rows["file format"]["accuracy"] == 0.5 and rows["file format"]["n_fake"] == MIN_FILES - 1


def test_broken_pixels_are_left_out(tmp_path):
    real = photos(tmp_path / "real", 0, 12)
    real[0].write_bytes(real[0].read_bytes()[:200])  # a whole header, half a picture
    assert shortcut_checks(real, photos(tmp_path / "fake", 1, 12))[3]["n_real"] == 11


def test_pixel_numbers_of_odd_images():
    assert pixel_numbers(np.zeros((2, 2), np.uint8)) == {}
    assert pixel_numbers(np.full((64, 64, 3), 7, np.uint8)) == dict.fromkeys(
        ("high frequencies", "checkerboard", "block grid"), 0.0
    )
    chess = (np.indices((20, 20)).sum(0) % 2 * 255).astype(np.uint8)
    assert pixel_numbers(chess)["checkerboard"] == pytest.approx(1.0)
    assert pixel_numbers(np.full((9, 9), np.inf, np.float32)) == {}
    wide = np.random.default_rng(0).integers(0, 60_000, (20, 3000), dtype=np.uint16)
    assert set(pixel_numbers(wide)) == {"high frequencies", "checkerboard", "block grid"}
