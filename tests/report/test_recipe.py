"""The recipe on the page, and synthetic images of two kinds: generated ones and transformed real ones."""

import re

import pytest
from documents import make_document, make_input, make_recipe

from balancegan.report.charts import chart_style, draw_panels
from balancegan.report.document_view import made_by, utility_view
from balancegan.report.figures import write_figures
from balancegan.report.pictures import draw_pictures
from balancegan.report.quality_charts import ARMS, class_counts, recalls
from balancegan.report.recipe_charts import gains, recipe_view
from balancegan.report.render import render_html
from balancegan.verdict.arms import ARMS as ALL_ARMS

NAMES = ("ant", "bee", "cat", "dog")
GROUPS = (("ant", "bee"), ("cat", "dog"))
WHY = "25% of the synthetic images are generated: better than none (95% confidence)."


def page_of(document, names=("ant", "bee", "cat")):
    return render_html(document, draw_pictures(make_input(names), document))


def words(page):
    body = re.sub(r"<(style|script|title)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def section(page):
    return page[page.index('<section id="recipe">') : page.index("<h2>Images per class")]


def of_one_kind(document):
    """The same document as one without transformed images has it."""
    for row in document["classes"]:
        row |= {"generated": row["synthetic"], "transformed": 0}
    return document


def test_the_recipe_stands_between_the_verdict_and_the_details():
    page = page_of(make_document())
    found = [page.index(part) for part in ('id="help"', 'id="recipe"', "<h2>Images per class", 'id="measures"')]
    assert found == sorted(found)
    text = words(section(page))
    assert text.startswith(f"Recipe {WHY}") and "Gain in log loss by generated share" in text
    assert "25% chosen +0.043 +0.013 to +0.073" in text and "75% −0.050 −0.080 to −0.020" in text
    assert text.endswith("near-copies of them were left out).") and "0% 0 10%" in text


def test_a_recipe_without_a_search_is_one_sentence():
    document = make_document()
    document["recipe"] |= {"rows": [], "how": "", "why": "As <you> asked."}
    part = section(page_of(document))
    assert words(part) == "Recipe As &lt;you&gt; asked." and "<svg" not in part and "<table" not in part
    assert gains(document) == []


@pytest.mark.parametrize("recipe", [None, {"share": 0.0, "why": "", "how": "", "rows": []}])
def test_no_recipe_has_no_section(recipe):
    document = make_document() | {"recipe": recipe}
    assert 'id="recipe"' not in page_of(document) and gains(document) == []


def test_a_document_of_an_older_version_has_neither_recipe_nor_kinds():
    document = make_document()
    del document["recipe"]
    for row in document["classes"]:
        del row["generated"], row["transformed"]
    document["utility"]["differences"].pop()
    for arm in document["utility"]["arms"]:
        arm["name"] = arm["name"].replace("generated only", "synthetic only")
    page = page_of(document)
    text = words(page)
    assert 'id="recipe"' not in page and "transformed; " not in text and "Beyond transformation" not in text
    assert "100 real, 30 synthetic" in text and "30 synthetic against 12 held-out" in text
    assert "Class Before Synthetic After Rejected samples ant 200 30 230 3" in text


def test_the_kinds_are_counted_wherever_images_are_counted():
    text = words(page_of(make_document()))
    assert "100 real, 12 generated, 18 transformed" in text and "36 generated, 54 transformed; training split" in text
    assert "Class Real Generated Transformed After Rejected samples ant 200 12 18 230 3" in text
    assert made_by(make_document()) == "generated" and made_by(of_one_kind(make_document())) == "synthetic"


def test_what_a_class_lacks_is_counted_with_its_real_images():
    document = make_document()
    document["classes"][0]["requested"] = 40
    assert "230 of 240" in words(page_of(document)).split("Images per class")[1]
    assert "30 of 40" in words(page_of(of_one_kind(document))).split("Images per class")[1]


@pytest.mark.parametrize(
    ("generated", "delivered", "said"),
    [
        (30, True, "are of generated images only. Transformed"),
        (12, True, "are of generated images only, including some that the folder does not use. Transformed"),
        (0, True, "are of generated images only, none of which the folder uses. Transformed"),
        (0, False, "are of generated images only, none of which the folder would use. Transformed"),
    ],
)
def test_the_measures_say_once_what_they_are_of(generated, delivered, said):
    document = make_document() | {"delivered": delivered}
    for row in document["classes"]:
        row |= {"generated": generated, "transformed": 48 - generated, "synthetic": 48, "requested": 48}
    text = words(page_of(document))
    assert text.count(said) == text.count("of generated images only") == 1
    assert ("it is filled with transformed real images" in text) == (generated == 0)
    assert "of generated images only" not in words(page_of(of_one_kind(document)))


def test_every_group_has_its_column_and_its_choice():
    view = recipe_view({"recipe": make_recipe(NAMES, GROUPS)})
    assert view["groups"] == ["all 4 classes to fill", "ant, bee", "cat, dog"]
    assert [row["share"] for row in view["rows"]] == [0, 0.1, 0.25, 0.5, 0.75, None]
    chosen = {row["share"]: [bool(cell and cell["chosen"]) for cell in row["cells"]] for row in view["rows"]}
    assert chosen[0.25] == [False, True, True] and chosen[None] == [True, False, False] and not any(chosen[0])
    document = make_document(NAMES) | {"recipe": make_recipe(NAMES, GROUPS)}
    text = words(section(page_of(document, NAMES)))
    assert "own each group of classes has a share of its own chosen +0.050" in text


def test_share_0_is_chosen_where_no_other_is():
    recipe = make_recipe(NAMES, GROUPS)
    for row in recipe["rows"]:
        row["chosen"] = row["group"] == ["cat", "dog"] and row["share"] == 0.5
    first, *_ = recipe_view({"recipe": recipe})["rows"]
    assert [cell["chosen"] for cell in first["cells"]] == [True, True, False]


def test_long_groups_name_a_few_classes():
    names = [f"class {k}" for k in range(30)]
    recipe = make_recipe(names, (names[:20], names[20:]))
    assert recipe_view({"recipe": recipe})["groups"][1] == "class 0, class 1, class 2, class 3 and 16 more"
    assert recipe_view({"recipe": make_recipe(["ant"])})["groups"] == ["ant"]


def test_the_chart_of_gains_shows_the_searchs_values():
    document = {"recipe": make_recipe(NAMES, GROUPS)}
    with chart_style():
        (axis,) = draw_panels(gains(document)).axes
    lines = {line.get_label(): line for line in axis.lines}
    rows = [row for row in document["recipe"]["rows"] if row["group"] == list(GROUPS[0])]
    assert list(lines["ant, bee"].get_ydata()) == [row["score"] for row in rows]
    assert list(lines["ant, bee"].get_xdata()) == [10, 25, 50, 75]
    assert len(lines["all 4 classes to fill"].get_xdata()) == 5 and len(lines["chosen"].get_xdata()) == 3
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0%", "10%", "25%", "50%", "75%", "own"]


def test_a_gain_without_a_number_is_left_out():
    document = make_document()
    document["recipe"]["rows"][0] |= {"score": None, "score_low": None, "score_high": None}
    document["recipe"]["rows"][1] |= {"score_low": None}
    part = section(page_of(document))
    assert (
        "10%" not in words(part) and "nan" not in part and "None" not in part and "25% chosen +0.043 50%" in words(part)
    )


def test_what_generated_images_add_beyond_transformation():
    document = make_document()
    text = words(page_of(document))
    assert "what the generated images add beyond transformation: “real + synthetic” minus “real + transformed”" in (
        text.replace("&ldquo;", "“").replace("&rdquo;", "”")
    )
    assert "Balanced accuracy use 27 +4.1 +2.1 to +6.1 +1.3 −0.7 to +3.3" in text
    view = utility_view(document)
    assert view["classes"][0]["beyond"] == document["utility"]["differences"][1]["recall"]["ant"]


def test_every_arm_has_a_colour_of_its_own():
    assert list(ARMS) == [arm.name for arm in ALL_ARMS] and len(set(ARMS.values())) == len(ARMS)
    document = make_document()
    with chart_style():
        (axis,) = draw_panels(recalls(document)).axes
    colours = {line.get_label().lower(): line.get_color() for line in axis.lines if line.get_marker() != "None"}
    assert colours == {name.lower(): colour for name, colour in ARMS.items()}


def test_the_figure_of_counts_stacks_the_kinds():
    document = make_document()
    with chart_style():
        both, one = (draw_panels(class_counts(of)).axes[0] for of in (document, of_one_kind(make_document())))
    assert [bar.get_width() for bar in both.patches] == [200, 100, 66, *[12] * 3, *[18] * 3]
    assert next(text.get_text() for text in both.texts if "+" in text.get_text()) == "200 + 12 + 18"
    assert [bar.get_width() for bar in one.patches] == [200, 100, 66, *[30] * 3]


def test_the_recipe_is_a_figure_too(tmp_path):
    document = make_document() | {"utility": {}, "embeddings": [], "history": []}
    names = write_figures(make_input(), document, tmp_path)
    assert {"recipe.png", "recipe.svg"} <= set(names)


def test_a_share_that_was_dropped_has_no_bounds():
    document = make_document()
    document["recipe"]["rows"][0] |= {"score_low": None, "score_high": None, "repeats": 1}
    assert "dropped after 1 repeat" in words(page_of(document))
