"""The brightness window of 16-bit, 32-bit and float images: outliers do not flatten all others, and are named."""

import numpy as np
import pytest
from PIL import Image

from balancegan.data.decode import DecodeSettings, Reading
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.data.window import Values, Window, common_window, full_window, value_range, window_notes
from balancegan.inspection.inspect import inspect_folder


def picture(seed, scale=16):
    return (np.random.default_rng(seed).integers(10, 200, (24, 24)) * scale).astype(np.uint16)


def deep(folder, arrays):
    for k, array in enumerate(arrays):
        path = folder / "ab"[k % 2] / f"{k}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return folder


def test_without_outliers_it_spans_all_values():
    ranges = [value_range(picture(k)) for k in range(9)]
    assert common_window(ranges, [0] * 9) == full_window(ranges)
    assert window_notes([str(k) for k in range(9)], ranges, common_window(ranges, [0] * 9)) == []


def test_a_bright_image_among_dull_ones_counts():
    ranges = [value_range(picture(k, scale=64 if k == 0 else 16)) for k in range(9)]
    assert common_window(ranges, [0] * 9) == full_window(ranges)


@pytest.mark.parametrize("value", [65535, 40000])
def test_a_hot_pixel_does_not(value):
    images = [picture(k) for k in range(9)]
    images[3][5, 5] = value
    ranges = [value_range(x) for x in images]
    assert common_window(ranges, [0] * 9) == full_window([value_range(picture(k)) for k in range(9)])
    note = window_notes([f"{k}.tif" for k in range(9)], ranges, common_window(ranges, [0] * 9))[0]
    assert "1 image has values outside" in note and "3.tif" in note and f"{value:,}" in note


def test_a_stuck_pixel_in_every_image_does_not():
    images = [picture(k) for k in range(9)]
    for x in images:
        x[0, 0] = 65535
    assert common_window([value_range(x) for x in images], [0] * 9).high < 3300


def test_values_for_no_data_do_not():
    images = [picture(k).astype(np.float32) / 4096 for k in range(9)]
    images[3][:4] = -9999.0
    assert common_window([value_range(x) for x in images], [0] * 9).low > 0


def test_sparse_signals_are_kept():
    """Bright spots on a dark ground in every image are the picture, not outliers."""
    images = [np.random.default_rng(k).integers(90, 110, (64, 64)).astype(np.uint16) for k in range(9)]
    for k, x in enumerate(images):
        x[k : k + 4, 10:14] = 5000 + k
    assert common_window([value_range(x) for x in images], [0] * 9).high == 5008


def test_constant_images_and_few_pixels():
    assert common_window([value_range(np.full((2, 2), 7, np.int32))], [0]) == Window(7, 7)
    assert value_range(np.array([[np.nan, 1.0, 5.0]]))[:2] == (1, 5)


def test_two_scales_in_one_set_are_named(tmp_path):
    arrays = [picture(k, 257) if k % 4 < 2 else picture(k).astype(np.float32) / 4096 for k in range(12)]
    found = inspect_folder(scan(deep(tmp_path / "d", arrays)))
    assert any("6 of 12 images with more than 8 bits use less than 2%" in line for line in found.advice)
    store = open_store(scan(tmp_path / "d"), DecodeSettings(16), cache_dir=tmp_path / "c")
    again = open_store(scan(tmp_path / "d"), DecodeSettings(16), cache_dir=tmp_path / "c")
    assert any("bring all images to one scale" in note for note in store.notes) and again.notes == store.notes


def test_runs_of_the_first_decoding_keep_their_window(tmp_path):
    images = [picture(k) for k in range(8)]
    images[0][0, 0] = 65535
    folder = scan(deep(tmp_path / "d", images))
    first = open_store(folder, DecodeSettings(16, reading=Reading(decoding=1)), cache_dir=tmp_path / "c")
    now = open_store(folder, DecodeSettings(16), cache_dir=tmp_path / "c")
    assert first.window.high == 65535 and now.window.high < 3300 and first.fingerprint != now.fingerprint


def test_a_given_window_is_used(tmp_path):
    folder = scan(deep(tmp_path / "d", [picture(k) for k in range(8)]))
    store = open_store(folder, DecodeSettings(16, window=Window(0, 65535)), cache_dir=tmp_path / "c")
    again = open_store(folder, DecodeSettings(16, window=Window(0, 65535)), cache_dir=tmp_path / "c")
    assert store.window == again.window == Window(0, 65535) and store.images.max() < 20


def ranges_of(*pairs):
    return [Values(low, high, low, high) for low, high in pairs]


def test_two_cameras_share_the_whole_range():
    ranges = ranges_of(*[(7000 + k, 7300) for k in range(5)], *[(29000 + k, 29400) for k in range(5)])
    assert common_window(ranges, [0] * 10) == Window(7000, 29400)


def test_a_rare_class_that_is_bright_counts():
    ranges = ranges_of(*[(0, 800)] * 200, *[(0, 20000)] * 4)
    assert common_window(ranges, [0] * 200 + [1] * 4) == Window(0, 20000)
    assert common_window(ranges, [0] * 204) == Window(0, 800)  # four odd ones of 204


def test_large_images_are_sampled():
    large = np.random.default_rng(0).integers(100, 1000, (2100, 2100)).astype(np.uint16)
    large[5, 5] = 60000
    found = value_range(large)
    assert found.high == 60000 and found.inner_high < 1000
