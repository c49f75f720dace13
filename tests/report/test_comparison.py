import copy
import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from balancegan.core.errors import DiskError
from balancegan.report.charts import SERIES, draw_panels
from balancegan.report.comparison import CSV_COLUMNS, SampleSheet, write_comparison
from balancegan.report.comparison_figures import (
    SHEET_WIDTH,
    bars_panel,
    draw_charts,
    draw_samples,
    lines_panel,
    method_colour,
    shown_columns,
)

METHODS = ["dcgan", "bagan", "cwgan-gp", "bagan-gp", "sgbgan"]
LEVELS = {"dcgan": 60.0, "bagan": 44.0, "cwgan-gp": 31.0, "bagan-gp": 21.0, "sgbgan": 17.5}
EVIL = "<script>alert('$x_1$')</script> & co"
WHY = "training diverged at step 120: <b>loss</b> is not finite"


def make_document(methods=METHODS, seeds=(0, 1), irs=(None,), classes=4, failed=None, names=None, floor=True):
    """A document as `balancegan compare` makes it.

    `failed` is (method, seeds): its runs at the highest imbalance rate failed.
    """
    names = names or ["zero", "four", "seven", "nine", *(f"class {k}" for k in range(5, classes + 1))][:classes]
    rng = np.random.default_rng(0)
    rows = [
        {
            "name": name, "majority": k == 0, "n_holdout": max(4, 40 - 9 * k),
            "reference": "train" if k == len(names) - 1 else "holdout", "n_reference": max(13, 40 - 9 * k),
            "fid_floor": 3.1 + k if floor and k < len(names) - 1 else None, "fid_floor_size": 17 if floor else None,
        }
        for k, name in enumerate(names)
    ]  # fmt: skip
    counts = [
        {"ir": ir, "imbalance_rate": ir or 8.5, "counts": {n: round(136 / (ir or 8.5) ** (k / (len(names) - 1)))
         for k, n in enumerate(names)}}
        for ir in irs
    ]  # fmt: skip
    cells, runs = [], []
    for ir in irs:
        for method in methods:
            for seed in seeds:
                bad = bool(failed) and failed[0] == method and seed in failed[1] and ir == irs[-1]
                status = {"status": "failed" if bad else "done", "reason": WHY if bad else None}
                runs.append({
                    "ir": ir, "method": method, "seed": seed, **status, "run": f"/runs/00000-{method}", "steps": 400,
                    "pretrain_steps": 100 if "bagan" in method else 0, "seconds": None if bad else 31.2 + 60 * seed,
                    "images_per_second": None if bad else 812.0,
                    "parameters": None if bad else {"G": 987, "D": 1234567},
                })  # fmt: skip
                for k, row in enumerate(rows):
                    fid = LEVELS.get(method, 25.0) * (1 + 0.1 * k) * (1 + 0.1 * math.log(ir or 8.5))
                    fid += float(rng.normal(0, 1.5))
                    cells.append({
                        "ir": ir, "method": method, "seed": seed, "class": row["name"],
                        "fid": None if bad else fid, "kid": None if bad else fid / 900 - 0.019,
                        "kid_std": None if bad else 0.002, "ssim": None if bad else 0.7 - fid / 200,
                        "n_real": row["n_reference"], "n_fake": 0 if bad else 1000, "reference": row["reference"],
                        **status,
                    })  # fmt: skip
    table = [
        {
            "ir": ir, "imbalance_rate": ir or 8.5,
            "measures": {m: make_table(cells, ir, m, methods, rows) for m in ("fid", "kid", "ssim")},
            "distribution": None,
        }
        for ir in irs
    ]  # fmt: skip
    return {
        "schema_version": 1, "balancegan_version": "0.1.0", "created": "2026-11-21T23:00:00+00:00", "title": "cells",
        "data": "/data/cells", "methods": list(methods), "seeds": list(seeds), "irs": list(irs), "preset": "tiny",
        "steps": 400, "max_seconds": None, "image_size": 16, "batch_size": 64, "images_per_class": 1000,
        "device": "cpu",
        "hardware": {"processor": "an example", "cores": 8, "torch": "2.8.0"},
        "settings": {m: {"lr": 1e-4 * (k + 1), "steps": 400, "net.width": 32} for k, m in enumerate(methods)},
        "extractor": {"name": "own", "comparable": False, "dim": 128, "note": "Its features are learnt on these data."},
        "classes": rows, "train_counts": counts, "baseline": "bagan-gp", "target": "sgbgan", "cells": cells,
        "runs": runs, "table": table,
        "findings": [
            {"level": "warning", "text": "The class nine has 4 held-out images: it is compared with training images."},
            {"level": "note", "text": "All methods trained `400` steps."},
        ],
    }  # fmt: skip


def make_table(cells, ir, measure, methods, classes):
    columns = [{"title": "minority average", "kind": "minority"}]
    columns += [{"title": f"majority ({classes[0]['name']})", "kind": "majority"}]
    columns += [{"title": row["name"], "kind": "class"} for row in classes[1:]]
    groups = [[row["name"] for row in classes[1:]], [classes[0]["name"]], *([row["name"]] for row in classes[1:])]
    rows = []
    for method in methods:
        mine = [c for c in cells if c["ir"] == ir and c["method"] == method]
        done = sorted({c["seed"] for c in mine if c["status"] == "done"})
        values = []
        for names in groups:
            per_seed = [np.mean([c[measure] for c in mine if c["seed"] == s and c["class"] in names]) for s in done]
            values.append({
                "mean": float(np.mean(per_seed)) if done else None,
                "std": float(np.std(per_seed, ddof=1)) if len(done) > 1 else None,
                "n": len(done), "best": False,
            })  # fmt: skip
        failed = len({c["seed"] for c in mine}) - len(done)
        rows.append({"method": method, "finished": len(done), "failed": failed, "values": values})
    for k in range(len(columns)):
        there = [row["values"][k] for row in rows if row["values"][k]["mean"] is not None]
        (max if measure == "ssim" else min)(there, key=lambda v: v["mean"])["best"] = True
    improvement = None
    if {"sgbgan", "bagan-gp"} <= set(methods):
        values = [0.0953, None, -0.031, *[0.2] * (len(columns) - 3)]
        improvement = {"of": "sgbgan", "over": "bagan-gp", "values": values}
    return {"columns": columns, "rows": rows, "improvement": improvement}


def make_sheets(document, per_class=4, side=16):
    rng = np.random.default_rng(0)
    sheets = []
    for ir in document["irs"]:
        there = {c["method"] for c in document["cells"] if c["ir"] == ir and c["status"] == "done"}
        n = per_class * len(document["classes"])
        rows = [
            (label, rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8).repeat(side // 4, 2).repeat(side // 4, 3))
            for label in ["real", *(m for m in document["methods"] if m in there)]
        ]
        sheets.append(SampleSheet(ir, rows, [(row["name"], per_class) for row in document["classes"]]))
    return sheets


class Page(HTMLParser):
    """A page's tables as lists of rows of cell texts, its bold texts, its addresses and its text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.bold, self.addresses, self.tags, self.parts = [], [], [], [], []
        self._cell, self._in_bold, self._in_style = None, False, False
        self.feed(text)
        self.text = " ".join("".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[key] for key in ("src", "href", "srcset", "data") if key in found]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        self._in_bold |= tag == "b"
        self._in_style |= tag == "style"

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        self._in_bold &= tag != "b"
        self._in_style &= tag != "style"

    def handle_data(self, data):
        if self._in_style:
            return
        self.parts.append(data)
        if self._cell is not None:
            self._cell.append(data)
        if self._in_bold:
            self.bold.append(data)


def page_of(document, out, sheets=()):
    write_comparison(document, sheets, out)
    return Page((out / "compare.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    document, out = make_document(), tmp_path_factory.mktemp("one")
    paths = write_comparison(document, make_sheets(document), out)
    return document, out, paths, Page((out / "compare.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Three imbalance rates, 15 classes with names from hell, and a method that failed at the last rate."""
    names = [f"{EVIL} {k}" if k in (0, 14) else f"class {k}" for k in range(15)]
    methods = [*METHODS[:4], EVIL]
    document = make_document(methods, irs=(1.0, 5.0, 100.0), names=names, failed=("cwgan-gp", (0, 1)))
    document["title"] = document["data"] = document["extractor"]["note"] = EVIL
    document["hardware"] = document["settings"]["dcgan"] = {EVIL: EVIL}
    document["findings"].append({"level": "note", "text": EVIL})
    out = tmp_path_factory.mktemp("three")
    return document, out, write_comparison(document, make_sheets(document, 2), out)


def test_what_is_written(written):
    document, out, paths, _ = written
    charts = {f"{m}.{suffix}" for m in ("fid", "kid", "ssim") for suffix in ("png", "pdf")}
    assert {p.name for p in (out / "figures").iterdir()} == charts | {"samples.png"}
    assert {p.name for p in out.iterdir()} == {"compare.json", "compare.csv", "compare.html", "figures"}
    assert sorted(paths) == sorted(p for p in out.rglob("*") if p.is_file())
    assert json.loads((out / "compare.json").read_text(encoding="utf-8")) == document


def test_figures_are_whole(written):
    for path in (written[1] / "figures").iterdir():
        if path.suffix == ".pdf":
            data = path.read_bytes()
            assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
        else:
            with Image.open(path) as image:
                image.load()
                darkest, lightest = image.convert("L").getextrema()
                assert image.format == "PNG" and darkest < 50 and lightest == 255
    with Image.open(written[1] / "figures" / "fid.png") as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)


def test_the_same_document_gives_the_same_files(written, tmp_path):
    document, _, paths, _ = written
    again = write_comparison(document, make_sheets(document), tmp_path)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_which_classes_come(written, tmp_path):
    document = copy.deepcopy(written[0])
    names = [row["name"] for row in document["classes"]]
    values = [{"mean": 0.5 + k, "std": 0.25, "n": 2} for k in range(len(names))]
    row = {"method": "contrad", "mean": {"mean": 1.5, "std": None, "n": 1}, "mean_deviation": values[0]}
    rows = [{**row, "kind": kind, "values": values} for kind in ("synthetic", "perfect")]
    counts = list(range(100, 100 + len(names)))
    document["table"][0]["distribution"] = {"samples": 5120, "classes": names, "train_counts": counts, "rows": rows}
    write_comparison(document, make_sheets(document), tmp_path)
    page = (tmp_path / "compare.html").read_text()
    assert "Class frequencies" in page and "5,120 samples" in page and "perfect generator" in page
    assert "Class frequencies" not in (written[2][0].parent / "compare.html").read_text()


@pytest.mark.parametrize("measure", ["fid", "kid", "ssim"])
def test_the_tables_show_the_documents_numbers(written, measure):
    document, _, _, page = written
    table = page.tables[("fid", "kid", "ssim").index(measure)]
    part = document["table"][0]["measures"][measure]
    titles = [re.sub(r"†?(\d+ real)?$", "", text).strip() for text in table[0][1:]]
    assert titles == [column["title"] for column in part["columns"]]
    scale, half = {"fid": (1, 0.005), "kid": (1000, 0.005), "ssim": (1, 0.0005)}[measure]
    for row, shown in zip(part["rows"], table[1:], strict=False):
        assert shown[0] == row["method"]
        for value, text in zip(row["values"], shown[1:], strict=True):
            mean, std = (float(number) for number in text.replace("−", "-").split(" ± "))
            places = len(text.split(" ± ")[0].partition(".")[2])
            assert mean == pytest.approx(value["mean"] * scale, abs=max(half, 0.5 * 10**-places))
            assert std == pytest.approx(value["std"] * scale, abs=max(half, 0.5 * 10**-places))
    assert table[6] == ["improvement of sgbgan over bagan-gp", "+9.5%", "–", "−3.1%", "+20.0%", "+20.0%"]


def test_the_best_of_every_column_is_bold_and_nothing_else(written):
    document, _, _, page = written
    best = [row for part in document["table"][0]["measures"].values() for row in part["rows"]]
    assert len(page.bold) == sum(value["best"] for row in best for value in row["values"]) == 15
    assert page.bold[0] == page.tables[0][5][1].split(" ± ")[0]


def test_the_floor_and_the_dagger(written):
    page = written[3]
    assert page.tables[0][7] == ["real against real", "–", "3.10", "4.10", "5.10", "–"]
    assert all(row[0] != "real against real" for table in page.tables[1:] for row in table)
    assert [("†" in text) for text in page.tables[0][0]] == [False] * 5 + [True]
    assert "compared with training images" in page.text


def test_the_average_floor_needs_all_classes(tmp_path):
    document = make_document()
    document["classes"][3]["fid_floor"] = 9.1
    assert page_of(document, tmp_path).tables[0][7][1] == "6.10"  # (4.1 + 5.1 + 9.1) / 3


def test_numbers_have_three_significant_digits(tmp_path):
    document = make_document(["dcgan"], floor=False)
    values = document["table"][0]["measures"]["fid"]["rows"][0]["values"]
    cases = [(1234.5, 2.0, "1,234 ± 2"), (9.996, 0.5, "10.0 ± 0.5"), (0.0953, 0.00123, "0.0953 ± 0.0012"),
             (-0.02, 1.23, "−0.02 ± 1.23"), (0.0, None, "0.00")]  # fmt: skip
    for value, (mean, std, _) in zip(values, cases, strict=True):
        value |= {"mean": mean, "std": std}
    assert page_of(document, tmp_path).tables[0][1][1:] == [text for *_, text in cases]


def test_one_seed_has_no_spread(tmp_path):
    page = page_of(make_document(seeds=(7,)), tmp_path)
    assert not any("±" in text for table in page.tables[:3] for row in table for text in row)
    assert "One seed (7), so no standard deviation" in page.text


def test_a_failed_method_is_marked_with_its_reason(tmp_path):
    document = make_document(failed=("cwgan-gp", (0, 1)))
    page = page_of(document, tmp_path, make_sheets(document))
    assert page.tables[0][3] == ["cwgan-gpa, b0 of 2 seeds"] + ["failed"] * 5
    assert f"a cwgan-gp, seed 0: {WHY}; b cwgan-gp, seed 1: {WHY}" in page.text
    runs = page.tables[3]
    assert [row[2] for row in runs[1:] if row[0] == "cwgan-gp"] == [f"failed: {WHY}"] * 2
    assert [row[4:] for row in runs[1:] if row[0] == "cwgan-gp"] == [["–", "–", "–"]] * 2
    assert "Methods without a row have no finished run" in page.text


def test_a_method_that_failed_with_one_seed(tmp_path):
    document = make_document(failed=("dcgan", (1,)))
    page = page_of(document, tmp_path)
    row = page.tables[0][1]
    assert row[0] == "dcgana1 of 2 seeds" and not any("±" in text or "failed" in text for text in row[1:])
    assert f"a dcgan, seed 1: {WHY}" in page.text


def test_a_failure_without_a_reason_is_marked_too(tmp_path):
    document = make_document(failed=("dcgan", (0, 1)))
    for row in document["cells"] + document["runs"]:
        row["reason"] = None
    page = page_of(document, tmp_path)
    assert page.tables[0][1][0] == "dcgana, b0 of 2 seeds"
    assert "a dcgan, seed 0: failed without a reason" in page.text and page.tables[3][1][2] == "failed"


def test_a_single_null_is_a_dash_with_its_reason(tmp_path):
    document = make_document(seeds=(0,))
    (cell,) = [c for c in document["cells"] if c["method"] == "bagan" and c["class"] == "four"]
    cell |= {"kid": None, "reason": "too few images"}
    document["table"][0]["measures"]["kid"]["rows"][1]["values"][2] |= {"mean": None, "std": None}
    page = page_of(document, tmp_path)
    assert page.tables[1][2][3] == "–a" and "a" not in page.tables[1][2][2]
    assert page.text.count("a bagan, seed 0: too few images") == 1  # under the table of KID only


def test_nothing_but_nulls(tmp_path):
    document = make_document(irs=(1.0, 100.0), failed=None)
    for entry in document["table"]:
        entry["imbalance_rate"] = None
        for part in entry["measures"].values():
            part["improvement"] = None
            for value in (v for row in part["rows"] for v in row["values"]):
                value |= {"mean": None, "std": None, "n": 0, "best": False}
    document |= {"findings": [], "baseline": None, "target": None, "settings": {}, "hardware": {}}
    page = page_of(document, tmp_path)
    assert set(page.tables[0][1][1:]) == {"–"} and not page.bold
    assert (tmp_path / "figures" / "fid-over-ir.pdf").stat().st_size > 1000


def test_csv_round_trip(written):
    document, out = written[:2]
    with (out / "compare.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == len(document["cells"])
    for row, cell in zip(rows, document["cells"], strict=True):
        assert row["ir"] == "" and row["reason"] == ""
        assert float(row["fid"]) == cell["fid"] and int(row["n_real"]) == cell["n_real"]
        assert (row["method"], int(row["seed"]), row["class"]) == (cell["method"], cell["seed"], cell["class"])


def test_names_show_as_text(hostile):
    document, out, _ = hostile
    text = (out / "compare.html").read_text(encoding="utf-8")
    page = Page(text)
    assert EVIL not in text and "script" not in page.tags and WHY not in text
    assert page.tables[0][5][0] == EVIL and page.tables[0][0][2].startswith(f"majority ({EVIL} 0)")
    assert f"Comparison on {EVIL}" in page.text
    with (out / "compare.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["class"]) for r in rows] == [(c["method"], c["class"]) for c in document["cells"]]
    assert {r["reason"] for r in rows if r["status"] == "failed"} == {WHY}


@pytest.mark.parametrize("which", ["written", "hostile"])
def test_the_page_loads_nothing(which, request):
    out = request.getfixturevalue(which)[1]
    text = (out / "compare.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.addresses and all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert page.tags.count("svg") == len(list(out.glob("figures/*.pdf")))
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_several_rates(hostile):
    document, out, paths = hostile
    names = {p.name for p in paths}
    assert {"fid-over-ir.pdf", "fid-ir1.png", "ssim-ir100.pdf", "samples-ir5.png"} <= names
    assert "fid.png" not in names
    page = Page((out / "compare.html").read_text(encoding="utf-8"))
    for words in ("Effect of the imbalance rate", "Imbalance rate 1 ", "Imbalance rate 100", "Table 9.", "Figure 7."):
        assert words in page.text
    assert "Table 10." not in page.text and "Figure 8." not in page.text
    assert [row[:3] for row in page.tables[9][1:]] == [
        [run["method"], str(run["seed"]), f"{run['ir']:.0f}"] for run in document["runs"]
    ]


def test_one_rate_has_no_lines(written):
    assert "Effect of the imbalance rate" not in written[3].text
    assert "Imbalance rate 8.5 (unmodified data)" in written[3].text


def test_many_classes(hostile):
    document = hostile[0]
    columns = document["table"][2]["measures"]["fid"]["columns"]
    counts = document["train_counts"][2]["counts"]
    chosen = [columns[i]["title"] for i in shown_columns(document, columns, counts)]
    assert chosen[0] == "minority average" and chosen[1].startswith("majority")
    assert sorted(chosen[2:]) == sorted(sorted(counts, key=counts.get)[:6])
    page = Page((hostile[1] / "compare.html").read_text(encoding="utf-8"))
    assert "the 6 smallest of 15 classes" in page.text
    assert len(page.tables[0][0]) == 1 + 16  # the tables show all


def test_a_very_wide_table_is_continued(tmp_path):
    page = page_of(make_document(["dcgan", "sgbgan"], seeds=(0,), classes=30), tmp_path)
    assert [len(table[0]) - 1 for table in page.tables[:3]] == [16, 15, 16]
    assert "Table 1 (2 of 2)." in page.text and page.tables[0][0][1:] != page.tables[1][0][1:]
    assert page.tables[6][0][0] == "Method"  # six parts of three tables, then the runs


def test_charts_show_what_the_table_says():
    document = make_document(failed=("cwgan-gp", (0, 1)))
    found = draw_charts(document)
    assert [(f.kind, f.measure, f.stem) for f in found] == [("bars", m, m) for m in ("fid", "kid", "ssim")]
    axes = [draw_panels([bars_panel(document, document["table"][0], m)]).axes[0] for m in ("fid", "kid")]
    rows = document["table"][0]["measures"]["kid"]["rows"]
    bars = [[b.get_height() for b in group] for group in axes[1].containers if hasattr(group, "patches")]
    assert bars[0] == pytest.approx([1000 * value["mean"] for value in rows[0]["values"]])
    assert np.isnan(bars[2]).all() and axes[1].get_title() == "KID × 10³, lower is better"
    assert [len(line.get_xdata()) for line in axes[1].lines if line.get_marker() == "x"] == [0, 0, 5, 0, 0]
    colours = [group[0].get_facecolor()[:3] for group in axes[0].containers if hasattr(group, "patches")]
    assert len(set(colours)) == 5


def test_a_method_keeps_its_colour():
    assert method_colour({"methods": METHODS}, "bagan") == SERIES[1]


def test_lines_stand_at_their_rates():
    document = make_document(["dcgan"], seeds=(0,), irs=(100.0, None, 1.0))
    axis = draw_panels([lines_panel(document, "fid")]).axes[0]
    line = axis.lines[0]
    assert line.get_xdata() == pytest.approx([1, 8.5, 100]) and axis.get_xscale() == "log"
    means = {e["imbalance_rate"]: e["measures"]["fid"]["rows"][0]["values"][0]["mean"] for e in document["table"]}
    assert line.get_ydata() == pytest.approx([means[1.0], means[8.5], means[100.0]])


def test_sheets_are_continued_below():
    images = np.zeros((40, 3, 16, 16), np.uint8)
    images[36:] = 255
    figure = draw_samples(None, [("real", images), ("dcgan", images)], [(f"class {k}", 4) for k in range(10)])
    assert len(figure.pieces) == 3 and all(piece.width <= SHEET_WIDTH for piece in figure.pieces)
    with Image.open(io.BytesIO(figure.files["png"])) as image:
        assert image.height == sum(piece.height for piece in figure.pieces) + 2 * 14
        assert image.width == max(piece.width for piece in figure.pieces)
    big = draw_samples(5.0, [("real", np.zeros((2, 1, 256, 256), np.uint8))], [("a", 2)])
    assert big.stem == "samples-ir5" and big.pieces[0].width < 400


def test_the_numbers_are_safe_when_a_drawing_fails(tmp_path):
    document = make_document(["dcgan"])
    sheet = SampleSheet(None, [("real", np.zeros((3, 3, 16, 16), np.uint8))], [("zero", 2)])
    with pytest.raises(ValueError, match="span"):
        write_comparison(document, [sheet], tmp_path)
    assert json.loads((tmp_path / "compare.json").read_text(encoding="utf-8")) == document
    assert (tmp_path / "compare.csv").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError) as caught:
        write_comparison(make_document(["dcgan"]), [], tmp_path / "file" / "out")
    assert caught.value.hint


def test_no_number_that_json_lacks(tmp_path):
    document = make_document(["dcgan"])
    document["cells"][0]["fid"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_comparison(document, [], tmp_path)
