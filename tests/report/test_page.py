"""The page made from whole documents: what is shown, what is left out, and that nothing from outside is markup."""

import copy
import re

import numpy as np
import pytest
from documents import VERDICTS, make_document, make_extras, make_input
from PIL import Image

from balancegan.report.class_charts import Mark, lane_chart, nice_ticks
from balancegan.report.filmstrip import MAX_FRAMES, MAX_WIDTH, draw_frames, draw_strips
from balancegan.report.pictures import draw_pictures
from balancegan.report.render import render_html
from balancegan.report.scatter import class_tone, scatters

EVIL = "<script>alert(1)</script>"


def page_of(document, names=("ant", "bee", "cat"), **more):
    return render_html(document, draw_pictures(make_input(names), document), **more)


def words(page):
    body = re.sub(r"<(style|script|title)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_stands_first_in_words(verdict):
    text = words(page_of(make_document(verdict=verdict)))
    title = {"use": "Use these images", "no difference": "No difference shown", "do not use": "Do not use these images",
             None: "No verdict"}[verdict]  # fmt: skip
    assert title in text and text.index(title) < text.index("What to know first")
    assert "Balanced accuracy rises by 4.1 points" in text


def test_not_measured_shows_the_note_and_nothing_else():
    document = make_document()
    document["utility"] = {"measured": False, "verdict": None, "note": "Not asked for: use `--utility`."}
    page = page_of(document)
    part = page[page.index('<section id="help">') : page.index("<h2>Images per class")]
    assert words(part) == "Does it help? Not asked for: use --utility ." and "<table" not in part
    assert "Not measured: do these images help?" in words(page)


def test_two_folders_have_no_method_or_run():
    text = words(page_of(make_document(origin="folders")))
    assert "method" not in text[:120] and "run " not in text[:120] and "data data/insects" in text
    assert "Balanced folder" not in text and "Rejected samples" not in text.split("Measures per class")[0]


def test_few_classes_are_columns_and_many_are_rows():
    few, many = make_document(), make_document([f"class {k}" for k in range(14)])
    assert "Recall ant" in words(page_of(few))
    page = page_of(many, [f"class {k}" for k in range(14)])
    assert "Recall class 1" not in words(page) and "Recall per class: the share" in words(page)
    assert page.index("<summary>Confusion matrices") > 0


def test_every_null_gives_a_page():
    document = make_document()
    for row in document["classes"]:
        for key, value in row.items():
            if isinstance(value, float) or key in ("pairs", "nearest_fake", "nearest_train", "nearest_holdout"):
                row[key] = None
    document["overall"] |= dict.fromkeys(k for k in document["overall"] if k not in ("n_real", "n_fake"))
    utility = document["utility"]
    nothing = {"value": None, "low": None, "high": None}
    for arm in utility["arms"]:
        arm |= {"balanced_accuracy": nothing, "macro_f1": None, "recall": {"ant": nothing}, "confusion": None}
    for row in utility["classes"]:
        row |= {"verdict": None, "difference": None}
    utility |= {"test": None, "seeds": None, "updates": None, "differences": [], "rule": "", "headline": ""}
    text = words(page_of(document))
    assert "not measured" in text and "None" not in text and "nan" not in text.split()


def test_a_document_of_an_older_version_gives_a_page():
    document = make_document()
    for key in ("origin", "embeddings"):
        del document[key]
    document["utility"] = {"measured": False, "verdict": None, "note": "A note."}
    for row in document["classes"]:
        for key in ("kid", "kid_std", "precision", "near_rate", "prdc_k"):
            del row[key]
    assert "Maps of the images" not in page_of(document)


def test_small_classes_copies_and_floors_are_said_in_words():
    text = words(page_of(make_document()))
    assert "Too few images: 6 real, 30 synthetic." in text and "halves of 120" in text and "subsets of 50" in text
    assert "look at the pairs" in text and "30 synthetic against 12 held-out" in text
    assert "These features have no classifier of ImageNet" in text and "−0.40" in text


def test_what_comes_from_outside_is_text():
    names = [EVIL, "a\x1b[31m\udc80b", "漢字"]
    document = make_document(names)
    for key in ("headline", "rule", "note", "flips_note"):
        document["utility"][key] = EVIL
    document["utility"]["arms"][0] |= {"title": EVIL, "description": EVIL}
    document["utility"]["warnings"] = [EVIL]
    document["embeddings"][0] |= {"title": EVIL, "caption": EVIL}
    document["overall"]["inception_score_reason"] = document["overall"]["reason"] = EVIL
    strips = draw_strips(make_extras(3).interpolation, names)
    page = page_of(document, names, strips=strips)
    assert EVIL not in page and page.count("<script>") == 1 and "\x1b" not in page
    page.encode()


def test_shortcuts_have_their_table():
    document = make_document()
    assert "Image size 98.0% 60 / 50 tells: see the warnings above" in words(page_of(document))
    assert "<h2>Shortcuts" not in page_of({**document, "shortcuts": []})


def test_sorting_has_its_values():
    page = page_of(make_document())
    assert 'data-sort="0.0123"' in page and 'data-sort=""' in page
    assert page.count('<tbody class="summary">') == 3


def test_frames_are_few_small_and_whole(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for step in range(0, 3000, 100):
        path = tmp_path / f"step-{step:06d}.png"
        Image.fromarray(rng.integers(0, 255, (40, 900, 3), dtype=np.uint8)).save(path)
        files.append((step, path))
    files[3][1].write_bytes(files[3][1].read_bytes()[:200])
    files[4][1].write_bytes(b"nothing")
    frames = draw_frames([*reversed(files), (9999, tmp_path / "missing.png")])
    steps = [frame.step for frame in frames]
    assert len(steps) in (MAX_FRAMES - 1, MAX_FRAMES) and steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 2900)
    assert all(frame.width == MAX_WIDTH and frame.height == 32 for frame in frames)
    assert [frame.keep for frame in frames].count(True) == 3 and frames[0].keep and frames[-1].keep
    assert draw_frames([]) == [] and draw_frames(files[4:5]) == []


def test_strips():
    walks = make_extras(3).interpolation
    by_class = draw_strips(walks, ["ant", "bee", "cat"])
    assert [strip.name for strip in by_class] == ["ant", "bee", "cat"] and by_class[0].sheet.shown == 6
    (strip,) = draw_strips(walks[:1], ["ant", "bee", "cat"])
    assert not strip.is_class and draw_strips(None, ["ant"]) == []


def test_scatter_leaves_out_points_without_a_place():
    item = copy.deepcopy(make_document()["embeddings"][0])
    item["x"][0] = None
    item["y"][1] = float("inf")
    (plot,) = scatters([item], ["ant", "bee", "cat"])
    assert sum(plot.counts) == len(item["x"]) - 2
    assert scatters([{**item, "x": [], "y": [], "label": [], "fake": []}], ["ant"]) == []
    assert class_tone(0) != class_tone(10) != class_tone(20)


def test_one_point_has_no_span():
    item = {"id": "a", "title": "t", "caption": "", "x": [1.0], "y": [2.0], "label": [0], "fake": [False]}
    (plot,) = scatters([item], ["ant"])
    assert "nan" not in plot.svg


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (-0.4, 220, [0, 50, 100, 150, 200]), (0, 0, [0]), (-3, 1, [-3, -2, -1, 0, 1])],
)
def test_ticks(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_lanes_of_nothing_are_no_chart():
    assert lane_chart("t", [("a", [])], []) is None
    chart = lane_chart("t", [("a", [Mark(0.0, "fake", "bar")]), ("b", [])], [])
    assert len(chart.lanes) == 2 and "nan" not in "".join(lane.svg for lane in chart.lanes)
