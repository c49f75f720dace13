"""The page made from whole documents: what is shown, what is left out, and that nothing from outside is markup."""

import re
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pytest
from documents import VERDICTS, make_document, make_extras, make_input
from PIL import Image

from balancegan.report.charts import COLOURS, Panel, chart_style, class_colour, css, draw_panels, inline_svg, short
from balancegan.report.document_view import at_a_glance, utility_view
from balancegan.report.filmstrip import MAX_FRAMES, MAX_WIDTH, draw_frames, draw_strips
from balancegan.report.pictures import draw_pictures
from balancegan.report.quality_charts import differences, distances, maps, recalls
from balancegan.report.render import render_html

EVIL = "<script>alert(1)</script>"
PROBABLE = ("log_loss", "calibration_error", "auroc", "auprc", "training_accuracy")


def page_of(document, names=("ant", "bee", "cat"), **more):
    return render_html(document, draw_pictures(make_input(names), document), **more)


def words(page):
    body = re.sub(r"<(style|script|title)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_stands_first_in_words(verdict):
    text = words(page_of(make_document(verdict=verdict)))
    title = {"use": "Use these images", "no difference": "No clear difference", "do not use": "Do not use these images",
             None: "Too few test images to tell"}[verdict]  # fmt: skip
    found = [text.index(part) for part in (title, "Generated beside real", "What to do next", "What to know first")]
    assert found == sorted(found) and "+4.1 points of balanced accuracy" in text
    assert ("Complete" in text) == (verdict == "use") != ("90 of 90 images delivered" in text)


def test_not_measured_shows_the_note_and_nothing_else():
    document = make_document()
    document["utility"] = {"measured": False, "verdict": None, "note": "Not asked for: use `--utility`."}
    page = page_of(document)
    part = page[page.index('<section id="help">') : page.index("<h2>Recipe")]
    assert words(part) == "Do the synthetic images help? Not asked for: use --utility ." and "<table" not in part
    assert "Usefulness not measured" in words(page) and "delivered" in words(page)
    assert words(page).count("Not asked for") == 2  # in the place of the verdict, too


def test_two_folders_have_no_method_or_run():
    text = words(page_of(make_document(origin="folders")))
    assert "method" not in text[:120] and "run " not in text[:120] and "data data/insects" in text
    assert "Balanced folder" not in text and "Rejected samples" not in text.split("Measures per class")[0]


def test_the_confusions_of_many_classes_are_folded():
    names = [f"class {k}" for k in range(14)]
    assert "<summary>Confusion matrices" in page_of(make_document(names), names)
    assert "<summary>Confusion matrices" not in page_of(make_document())


def test_the_overview_shows_images_of_the_worst_classes_that_have_any():
    names = [f"class {k}" for k in range(9)]
    document = make_document(names)
    for row, verdict in zip(document["utility"]["classes"], [None] * 7 + ["do not use", "use"], strict=True):
        row["verdict"] = verdict
    document["findings"] = [{"level": "warning", "class": names[k], "text": "Bad."} for k in (0, 3, 5, 5)]
    document["classes"][0]["n_fake"] = 0
    assert at_a_glance(document) == [7, 5, 3, 1]
    pictures = draw_pictures(make_input(names), document)
    assert [k for k, of in enumerate(pictures) if of.glance] == [1, 3, 5, 7]
    assert [(kind, row.shown) for kind, row in pictures[7].glance] == [("Real", 8), ("Generated", 8)]
    page = page_of(document, names)
    part = page[page.index('id="glance"') : page.index('id="next"')]
    assert re.findall("<h3>(.*?)</h3>", part) == ["class 7", "class 5", "class 3", "class 1"]
    for row in document["classes"]:
        row["n_fake"] = 0
    assert 'id="glance"' not in page_of(document, names)


def test_what_to_do_next_is_a_list_with_its_commands_as_code():
    document = make_document()
    document["next"][1] = f"Try `balancegan compare data/insects --methods {EVIL},edm`."
    page = page_of(document)
    (steps,) = re.findall(r'<ol class="panel next">(.*?)</ol>', page, re.DOTALL)
    assert words(steps).startswith("Train your classifier on the real images") and steps.count("<li>") == 2
    assert '<code class="long">balancegan compare data/insects <span>--methods</span> &lt;script' in steps
    assert "What to do next" not in words(page_of({**document, "next": []}))


def test_five_findings_are_open_and_the_worst_come_first():
    document = make_document(verdict="do not use")
    levels = ["good", *["note"] * 4, *["warning"] * 4]
    document["findings"] = [{"level": lv, "class": "ant", "text": f"Text {k}."} for k, lv in enumerate(levels)]
    document["findings"].append({"level": "warning", "class": None, "text": "Concerns all."})
    page = page_of(document)
    part = page[page.index("What to know first") : page.index('id="help"')]
    shown, folded = part.split("<details>")
    assert re.findall(r"Concerns all|Text \d", shown) == ["Concerns all", *(f"Text {k}" for k in (5, 6, 7, 8))]
    assert "5 more" in folded and re.findall(r"Text (\d)", folded) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_complete_folder_is_a_success_only_if_its_images_are_to_be_used(verdict):
    document = make_document(verdict=verdict)
    document["findings"] = [{"level": "good", "class": None, "text": "All there."}]
    assert ('<li class="good">' in page_of(document)) == (verdict == "use")


def test_why_a_class_is_not_judged():
    document = make_document([*"abcd"])
    for row, n in zip(document["utility"]["classes"], (9, 4, 9, 9), strict=True):
        row |= {"verdict": None if row["name"] != "d" else "use", "n_test": n, "weak": True}
    document["classes"][0]["synthetic"] = 0
    reasons = [row["reason"] for row in utility_view(document)["classes"]]
    assert reasons == ["no synthetic images", "fewer than 5 test images", "too few test images to tell", None]
    assert "not judged fewer than 5 test images" in words(page_of(document, [*"abcd"]))


def test_how_the_classifiers_were_trained_is_said_in_words():
    document = make_document()
    text = words(page_of(document))
    for part in (
        "WRN-16-1", "32 × 32 pixels", "3 runs per arm, 1,500 updates each", "newly made", "1,234 more real test",
        "know the real training images", "Oversampling with TrivialAugment", "8.3%", "0.95 / 0.71",
        "no augmentation 0.92 70.0%",
    ):  # fmt: skip
        assert part in text, part
    document["utility"] |= {"learned": False, "learned_note": "Not learned.", "pools": 1, "to_settle": None}
    text = words(page_of(document))
    assert "Warning Not learned." in text and "All runs share one set" in text and "No number of them" in text
    document["utility"]["to_settle"] = {"points": 2.0, "images": {}}
    assert "There are enough to tell a difference of 2 points" in words(page_of(document))


def test_the_rarest_classes_have_their_areas():
    names = [f"class {k}" for k in range(9)]
    document = make_document(names)
    for arm in document["utility"]["arms"]:
        arm["auroc"]["class 8"] = None  # it has no test images
    assert utility_view(document)["rare"] == [f"class {k}" for k in (7, 6, 5, 4, 3)]


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
        arm |= dict.fromkeys(PROBABLE)
    for row in utility["classes"]:
        row |= {"verdict": None, "difference": None}
    utility |= {"test": None, "seeds": None, "updates": None, "differences": [], "rule": "", "headline": ""}
    utility |= dict.fromkeys(("network", "pools", "learned", "learned_note", "to_settle", "image_size", "first_pass"))
    text = words(page_of(document))
    assert "not judged" in text and "None" not in text and "nan" not in text.split()


def test_a_document_of_an_older_version_gives_a_page():
    document = make_document()
    for key in ("origin", "embeddings", "next", "leak_probe"):
        del document[key]
    new = ("augmentation", "augmentation_note", "first_pass", "learned", "learned_note", "network", "pools")
    for part, keys in ((document["utility"], new), *((arm, PROBABLE) for arm in document["utility"]["arms"])):
        for key in keys:
            del part[key]
    document["utility"] |= {"flips": True, "flips_note": "Flips and crops."}
    text = words(page_of(document))
    assert "Log loss" not in text and "AUROC" not in text and "None" not in text
    document["utility"] = {"measured": False, "verdict": None, "note": "A note."}
    for row in document["classes"]:
        for key in ("kid", "kid_std", "precision", "near_rate", "prdc_k"):
            del row[key]
    assert "Maps of the images" not in page_of(document)


def test_small_classes_copies_and_floors_are_said_in_words():
    text = words(page_of(make_document()))
    assert "Too few images: 6 real, 30 synthetic." in text and "halves of 120" in text and "subsets of 50" in text
    assert "look at the pairs" in text and "30 generated against 12 held-out" in text
    assert "These features have no classifier of ImageNet" in text and "−0.40" in text


def test_what_comes_from_outside_is_text():
    names = [EVIL, "a\x1b[31m\udc80b", "漢字"]
    document = make_document(names)
    for key in ("headline", "rule", "note", "augmentation_note", "learned_note", "network"):
        document["utility"][key] = EVIL
    document["utility"]["first_pass"][0] |= {"arm": EVIL, "augmentation": EVIL}
    document["next"].append(f"{EVIL} `balancegan {EVIL} --{EVIL}`")
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
    assert "t 1 real and 0 generated points" in words(page) and "nan" not in page


def test_many_classes_have_colours_of_their_own():
    assert len({class_colour(k) for k in range(30)}) == len({css(class_colour(k)) for k in range(30)}) == 30


def test_every_chart_is_described_and_takes_its_colours_from_the_page():
    charts = charts_of(page_of(make_document()))
    labels = [chart.get("aria-label") for chart in charts]
    assert len(set(labels)) == len(labels) == 10 and all(chart.get("role") == "img" for chart in charts)
    assert {"viewBox", "class", "role", "aria-label"} == set(charts[0].keys())  # no size: it is as wide as its place
    text = "".join(ElementTree.tostring(chart, "unicode") for chart in charts)
    assert "var(--real)" in text and not re.search('#[0-9a-fA-F]{3,6}[;"]|url\\(|nan', text)
    ids = [element.get("id") for chart in charts for element in chart.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)


def test_points_of_a_map_have_tooltips():
    charts = charts_of(page_of(make_document(("ant", EVIL)), ("ant", EVIL)))
    titles = {title.text for chart in charts for title in chart.iter("title")}
    assert titles == {f"{name}, {kind}" for name in ("ant", EVIL) for kind in ("real", "generated")}


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
