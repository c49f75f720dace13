import warnings

import pytest
from documents import make_document, make_extras, make_input
from PIL import Image

from balancegan.core.errors import DiskError
from balancegan.report.figures import write_figures

NAMES = ("$x_1$ <b>", "漢字", "a\nvery long name of a class that goes on and on", "d\udc80")
CHARTS = ("class_counts", "recipe", "recall", "differences", "confusion", "fid_kid", "embeddings", "losses")
SHEETS = ("samples", "interpolation")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "new"
    inp, document = make_input(NAMES, extras=make_extras(len(NAMES))), make_document(NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return folder, write_figures(inp, document, folder), (inp, document)


def test_all_figures_are_written(written):
    folder, names, _ = written
    assert set(names) == {f"{c}.{s}" for c in CHARTS for s in ("png", "svg")} | {f"{s}.png" for s in SHEETS}
    assert sorted(names) == sorted(path.name for path in folder.iterdir())


def test_figures_are_whole(written):
    folder, names, _ = written
    for name in names:
        if name.endswith(".svg"):
            text = (folder / name).read_text(encoding="utf-8")
            assert text.rstrip().endswith("</svg>") and "<b>" not in text
        else:
            with Image.open(folder / name) as image:
                image.load()
                assert image.convert("L").getextrema()[0] < 128 and image.width > 300


def test_the_same_input_gives_the_same_files(written, tmp_path):
    folder, _, (inp, document) = written
    write_figures(inp, document, tmp_path)
    assert all(
        (tmp_path / n).read_bytes() == (folder / n).read_bytes()
        for n in ("recall.svg", "embeddings.png", "samples.png")
    )


def test_what_is_absent_is_skipped(tmp_path):
    document = make_document(("ant",))
    document |= {"utility": {"measured": False, "verdict": None, "note": ""}, "embeddings": [], "history": []}
    document["recipe"] = None
    document["classes"][0] |= {"fid": None, "kid": None, "pairs": None}
    names = write_figures(make_input(("ant",)), document, tmp_path)
    assert names == ["class_counts.png", "class_counts.svg", "samples.png"]


def test_no_classes(tmp_path):
    document = make_document(("ant",))
    document |= {"utility": {}, "embeddings": [], "history": [], "classes": [], "recipe": None}
    assert write_figures(make_input(()), document, tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError):
        write_figures(make_input(), make_document(), tmp_path / "file" / "figures")
