"""The page made from whole documents: what is shown, what is left out, and that nothing from outside is markup."""

import re
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pytest
from documents import VERDICTS, make_document, make_extras, make_input
from PIL import Image

from balancegan.report.charts import COLOURS, Panel, chart_style, class_colour, css, draw_panels, inline_svg, short
from balancegan.report.filmstrip import MAX_FRAMES, MAX_WIDTH, draw_frames, draw_strips
from balancegan.report.pictures import draw_pictures
from balancegan.report.quality_charts import differences, distances, maps, recalls
from balancegan.report.render import render_html

EVIL = "<script>alert(1)</script>"


def page_of(document, names=("ant", "bee", "cat"), **more):
    return render_html(document, draw_pictures(make_input(names), document), **more)


def words(page):
    body = re.sub(r"<(style|script|title)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_stands_first_in_words(verdict):
    text = words(page_of(make_document(verdict=verdict)))
    title = {"use": "Use these images", "no difference": "No clear difference", "do not use": "Do not use these images",
             None: "No verdict"}[verdict]  # fmt: skip
    assert title in text and text.index(title) < text.index("What to know first")
    assert "Balanced accuracy rises by 4.1 points" in text


def test_not_measured_shows_the_note_and_nothing_else():
    document = make_document()
    document["utility"] = {"measured": False, "verdict": None, "note": "Not asked for: use `--utility`."}
    page = page_of(document)
    part = page[page.index('<section id="help">') : page.index("<h2>Images per class")]
    assert words(part) == "Do the synthetic images help? Not asked for: use --utility ." and "<table" not in part
    assert "Usefulness not measured" in words(page)


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
    assert "not judged" in text and "None" not in text and "nan" not in text.split()


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
    assert "Image size 98.0% 60 / 50 tells them apart: see the warnings above" in words(page_of(document))
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


def charts_of(page):
    """The page's svg elements."""
    return [ElementTree.fromstring(found) for found in re.findall("<svg.*?</svg>", page, re.DOTALL)]


def test_maps_leave_out_points_without_a_place():
    document = make_document()
    item = document["embeddings"][0]
    item["x"][0] = None
    item["y"][1] = float("inf")
    document["embeddings"][1] |= {"x": [], "y": [], "label": [], "fake": []}
    found = maps(document)
    assert [m.title for m in found] == ["The features", "The plain_latents"]
    assert sum(found[0].counts) == len(item["x"]) - 2 and found[0].labels == [0, 1, 2]


def test_one_point_has_no_span():
    document = make_document(("ant",))
    item = {"id": "a", "title": "t", "caption": "", "x": [1.0], "y": [2.0], "label": [0], "fake": [False]}
    page = page_of({**document, "embeddings": [item]}, ("ant",))
    assert "t 1 real and 0 synthetic points" in words(page) and "nan" not in page


def test_many_classes_have_colours_of_their_own():
    assert len({class_colour(k) for k in range(30)}) == len({css(class_colour(k)) for k in range(30)}) == 30


def test_every_chart_is_described_and_takes_its_colours_from_the_page():
    charts = charts_of(page_of(make_document()))
    labels = [chart.get("aria-label") for chart in charts]
    assert len(set(labels)) == len(labels) == 9 and all(chart.get("role") == "img" for chart in charts)
    assert {"viewBox", "class", "role", "aria-label"} == set(charts[0].keys())  # no size: it is as wide as its place
    text = "".join(ElementTree.tostring(chart, "unicode") for chart in charts)
    assert "var(--real)" in text and not re.search('#[0-9a-fA-F]{3,6}[;"]|url\\(|nan', text)
    ids = [element.get("id") for chart in charts for element in chart.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)


def test_points_of_a_map_have_tooltips():
    charts = charts_of(page_of(make_document(("ant", EVIL)), ("ant", EVIL)))
    titles = {title.text for chart in charts for title in chart.iter("title")}
    assert titles == {f"{name}, {kind}" for name in ("ant", EVIL) for kind in ("real", "synthetic")}


def test_the_charts_colours_are_those_of_the_style_sheet():
    style = (files("balancegan.report") / "templates" / "style.css").read_text("utf-8")
    for part in (style.split("@media")[0], style.split("@media print")[1]):
        values = dict(re.findall(r"--(\w+): (#\w+)", part))
        known = {name: colour for name, colour in COLOURS.items() if name not in ("ink", "soft", "line", "panel")}
        assert known.items() <= values.items()


def test_a_chart_shows_the_documents_values():
    document = make_document()
    with chart_style():
        drawn = {panel.title: draw_panels([panel]).axes[0] for panel in distances(document) + recalls(document)}
    fid, kid, recall = drawn.values()
    rows = document["classes"][:2]  # the third class has neither
    assert [bar.get_width() for bar in fid.patches] == [row["fid"] for row in rows]
    assert [bar.get_width() for bar in kid.patches] == pytest.approx([1000 * row["kid"] for row in rows])
    arms = document["utility"]["arms"]
    for arm, line in zip(arms, [line for line in recall.lines if line.get_marker() != "None"], strict=True):
        assert line.get_xdata() == pytest.approx([100 * found["value"] for found in arm["recall"].values()])


def test_charts_of_nothing_are_left_out():
    document = {**make_document(), "utility": {}, "classes": [], "embeddings": []}
    assert distances(document) == recalls(document) == differences(document) == maps(document) == []


def test_an_interval_need_not_hold_its_value():
    document = make_document()
    document["utility"]["classes"][0]["difference"] = {"value": 0.5, "low": 0.1, "high": 0.2}
    (panel,) = differences(document)
    with chart_style():
        assert "nan" not in inline_svg(draw_panels([panel]), "a chart")


def test_one_legend_explains_all_panels():
    panels = [Panel("", lambda axis: axis.plot([1], [1], "o", label="dots"), 2.0) for _ in range(3)]
    with chart_style():
        figure = draw_panels(panels, 2)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dots"] and len(figure.axes) == 4


@pytest.mark.parametrize(
    ("name", "shown"),
    [("ant", "ant"), ("a\nb  c", "a b c"), ("", "–"), ("W" * 12, "W" * 9 + "…"), ("漢" * 9, "漢漢漢漢…"), (None, "–")],
)
def test_names_are_shortened_to_their_room(name, shown):
    assert short(name, 10) == shown
