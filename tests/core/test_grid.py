import numpy as np
import pytest
from PIL import Image, ImageFont

from balancegan.core.grid import GAP, SPAN_GAP, _cut, grid_image, save_grid

ROWS = [np.zeros((5, 1, 16, 16), np.uint8)] * 2
HEADINGS = [("one", 2), ("two", 3)]


def pixels(image):
    return np.asarray(image.convert("L"))


def test_without_headings_nothing_changes():
    image = grid_image(ROWS)
    assert image.size == (5 * 66 + 2, 2 * 66 + 2)
    assert image.tobytes() == grid_image(ROWS, headings=None).tobytes()
    dark = (pixels(image) < 10).sum()
    assert dark == 10 * 64 * 64


def test_headings_stand_above_their_columns():
    plain, image = grid_image(ROWS), grid_image(ROWS, headings=HEADINGS)
    head = image.height - plain.height
    assert head > 12 and image.width == plain.width + SPAN_GAP
    top = pixels(image)[: head - 1] < 128
    left_span, right_span = slice(GAP, GAP + 2 * 66 - GAP), slice(GAP + 2 * 66 + SPAN_GAP, image.width - GAP)
    for span in (left_span, right_span):
        across = np.flatnonzero(top[:-2, span].any(axis=0))
        width = span.stop - span.start
        assert len(across) and abs((across[0] + across[-1]) / 2 - width / 2) <= 2  # centred
    between = slice(left_span.stop, right_span.start)
    assert not top[:, between].any()


def test_a_rule_and_a_gap_part_the_spans():
    image = grid_image(ROWS, headings=HEADINGS)
    head = image.height - grid_image(ROWS).height
    shades = pixels(image)
    rule = shades[head - 1]
    assert (rule[GAP : GAP + 2 * 66 - GAP] == 120).all() and (rule[2 * 66 : 2 * 66 + GAP + SPAN_GAP] == 255).all()
    assert (rule == 120).sum() == 2 * 66 - GAP + 3 * 66 - GAP
    gap = shades[head + GAP :, 2 * 66 : 2 * 66 + GAP + SPAN_GAP]
    assert (gap == 255).all()
    assert (shades[head + GAP :] < 10).sum() == 10 * 64 * 64


def test_a_heading_that_is_too_wide_is_cut():
    font = ImageFont.load_default(size=16)
    shown = _cut("a very long name\nof a class", 100, font)
    assert shown.endswith("…") and shown.startswith("a very") and font.getlength(shown) <= 100
    assert _cut("zero", 100, font) == "zero" and _cut("x" * 99, 1, font) == "…"
    image = grid_image(ROWS, headings=[("W" * 60, 2), ("two", 3)])
    head = image.height - grid_image(ROWS).height
    between = pixels(image)[: head - 1, GAP + 2 * 66 : GAP + 2 * 66 + SPAN_GAP]
    assert (between > 128).all()


def test_headings_with_labels_and_rows_of_other_lengths():
    rows = [ROWS[0], ROWS[0][:2]]
    image = grid_image(rows, ["real", "a method"], headings=HEADINGS)
    assert (pixels(image) < 10).sum() >= 7 * 64 * 64
    assert image.width > grid_image(rows, headings=HEADINGS).width


@pytest.mark.parametrize("headings", [[("a", 4)], [("a", 6)], [("a", 5), ("b", 0)]])
def test_headings_must_span_the_columns(headings):
    with pytest.raises(ValueError, match="span"):
        grid_image(ROWS, headings=headings)


def test_save_grid_with_headings(tmp_path):
    save_grid(ROWS, tmp_path / "grid.png", headings=HEADINGS)
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == grid_image(ROWS, headings=HEADINGS).size
