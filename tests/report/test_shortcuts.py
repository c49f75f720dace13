import numpy as np
import pytest
from PIL import Image

from balancegan.report.shortcuts import form_shortcuts


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
    assert form_shortcuts(write(tmp_path / "real", sizes), write(tmp_path / "fake", sizes)) == []


def test_size_alone(tmp_path):
    real = write(tmp_path / "real", [(40 + i, 50) for i in range(20)])
    (text,) = form_shortcuts(real, write(tmp_path / "fake", [(16, 16)] * 20))
    assert text.startswith("Image size alone") and "`--out-size native`" in text
    assert "synthetic: 16x16" in text and "20 different ones" in text


def test_a_frequent_real_size_among_synthetic_ones_can_still_tell(tmp_path):
    # The usual real size is rare when real sizes vary: all-equal synthetic files stand out.
    real = write(tmp_path / "real", [(40 + i, 50) for i in range(20)])
    assert len(form_shortcuts(real, write(tmp_path / "fake", [(50, 50)] * 20))) == 1


def test_format_alone(tmp_path):
    real = write(tmp_path / "real", [(20, 20)] * 5, suffix=".jpg")
    (text,) = form_shortcuts(real, write(tmp_path / "fake", [(20, 20)] * 5))
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
    (text,) = form_shortcuts(real, write(tmp_path / "fake", [(20, 20)] * 3))
    assert text.startswith("Pixel type alone") and words in text and "8-bit RGB" in text


def test_a_mixture_that_does_not_tell(tmp_path):
    jpeg = write(tmp_path / "real", [(20, 20)] * 6, suffix=".jpg")
    png = write(tmp_path / "real", [(20, 20)] * 6, start=6)
    assert form_shortcuts(jpeg + png, write(tmp_path / "fake", [(20, 20)] * 6)) == []


def test_unreadable_and_missing_files_are_left_out(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    fake = write(tmp_path / "fake", [(20, 20)])
    assert form_shortcuts([broken, tmp_path / "missing.png"], fake) == []
    assert form_shortcuts([], fake) == []
