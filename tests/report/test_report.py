import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from balancegan.core.errors import DiskError
from balancegan.evaluation.document import ReportInput, compute_report
from balancegan.evaluation.findings import MIN_REFERENCE, NOT_ASKED
from balancegan.report.loss_charts import loss_curves
from balancegan.report.pictures import draw_pictures, sheet
from balancegan.report.render import render_html
from balancegan.report.write import write_report
from balancegan.verdict.material import ClassImages

EVIL = "<script>alert(1)</script>"


def report(inp, out):
    """The document, computed and written."""
    document = compute_report(inp, PixelMeans())
    write_report(document, inp, out)
    return document


class PixelMeans:
    """A fast extractor: means over a coarse grid."""

    name = "own"
    comparable = False
    note = "These numbers compare only with each other, inside this report."
    dim = 16
    persistent = False
    key = "0"

    def __call__(self, images):
        n, c, h, w = images.shape
        return images.reshape(n, c, 4, h // 4, 4, w // 4).mean(axis=(1, 3, 5)).reshape(n, 16).astype(np.float32)


def blobs(n, channels=3, side=16, seed=0):
    """Smooth random images."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, channels, 4, 4), dtype=np.uint8)
    return coarse.repeat(side // 4, axis=2).repeat(side // 4, axis=3)


def one_class(name="cat", train=40, holdout=12, fake=30, channels=3, **changes):
    """A class of `fake` random synthetic images, or with these synthetic images."""
    images = blobs(fake, channels, seed=3) if isinstance(fake, int) else fake
    fields = {
        "name": name,
        "real_train": blobs(train, channels, seed=1),
        "real_holdout": blobs(holdout, channels, seed=2),
        "fake": images,
        "real": train,
        "generated": len(images),
        "rejected": 3,
        "requested": len(images),
    }
    return ClassImages(**(fields | changes))


def report_input(*classes, **changes):
    fields = {
        "title": "Balanced cats",
        "method": "sgbgan",
        "run": "00000-sgbgan-cats",
        "data": "data/cats",
        "classes": classes,
        "ir_before": 50.0,
        "ir_after": 1.0,
        "complete": True,
        "history": [
            {
                "step": s,
                "stage": "gan",
                "seconds": 0.1 * s,
                "loss/g": 1.0 + s,
                "loss/d": float("nan") if s == 3 else 0.5,
            }
            for s in range(9)
        ],
        "settings": {"lr": 2e-4, "net": {"width": 64, "attention": None}},
        "balancegan_version": "0.1.0",
    }
    return ReportInput(**(fields | changes))


def texts(document, name=None):
    return [f["text"] for f in document["findings"] if f["class"] == name]


class Loads(HTMLParser):
    """Every address that the page would load, and the tags it consists of."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.images, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[key] for key in ("src", "href", "srcset", "data") if key in found]
        if tag == "img":
            self.images.append(found)

    def handle_data(self, data):
        self.text.append(data)


def parse(page):
    parser = Loads()
    parser.feed(page)
    return parser


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    inp = report_input(
        one_class(EVIL),
        one_class("dog", fake=0, requested=0, rejected=0, real=500),
        one_class("rare", train=6, holdout=1, requested=100),
        complete=False,
        warnings=["File format alone tells. Use `--format match`."],
    )
    out = tmp_path_factory.mktemp("report")
    return out, report(inp, out)


def test_both_files_are_written_and_nothing_else(written):
    out, document = written
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == document


def test_document_keys(written):
    _, document = written
    assert document["schema_version"] == 1
    assert document["imbalance_rate_before"] == 50.0 and document["complete"] is False
    assert {"name", "comparable", "note"} <= document["extractor"].keys()
    keys = {"name", "real", "synthetic", "rejected", "requested", "n_real", "n_fake", "reference", "fid", "fid_floor"}
    keys |= {
        "fid_floor_size",
        "ssim",
        "ssim_within_real",
        "ssim_within_fake",
        "copy_rate",
        "nearest_fake",
        "spread_fake",
        "reasons",
    }
    for row in document["classes"]:
        assert keys <= row.keys()
    assert {"fid", "fid_floor", "n_real", "n_fake"} <= document["overall"].keys()
    assert document["utility"]["measured"] is False
    assert document["num_real"] == 546 and document["num_synthetic"] == 60
    json.dumps(document, allow_nan=False)


def test_a_measured_class(written):
    row = written[1]["classes"][0]
    assert (row["reference"], row["n_real"], row["n_fake"], row["fid_floor_size"]) == ("holdout", 12, 30, None)
    assert row["fid"] > 0 and row["copy_rate"] <= 0.1 and "50 are needed" in row["reasons"]["fid_floor"]
    assert -1 <= row["ssim"] <= 1
    assert len(row["pairs"]) == 8
    assert [p["chosen"] for p in row["pairs"]] == ["closest"] * 4 + ["just above"] * 2 + ["random"] * 2
    assert row["pairs"][0]["distance"] == pytest.approx(row["nearest_fake"]["min"])


def test_a_class_without_synthetic_images_is_null_with_reasons(written):
    row = written[1]["classes"][1]
    for key in ("fid", "ssim", "copy_rate", "nearest_fake"):
        assert row[key] is None and row["reasons"][key] == "No synthetic images were needed."


def test_a_class_too_small_to_measure_says_so(written):
    row = written[1]["classes"][2]
    assert row["reference"] == "train" and row["fid"] is None and "Too few" in row["reasons"]["fid"]
    assert row["ssim"] is not None
    found = " ".join(texts(written[1], "rare"))
    assert "too few for a meaningful value" in found
    assert "30 of 100 synthetic images were delivered" in found


def test_the_page_loads_nothing(written):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    parsed = parse(page)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in parsed.addresses)
    assert not {"link", "iframe", "object", "embed"} & set(parsed.tags)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and parsed.tags.count("script") == 1
    assert not re.search(r"url\(|@import|https?://", page)
    assert parsed.images and all(image["alt"] for image in parsed.images)


def test_a_class_name_shows_as_text(written):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    assert EVIL not in page
    assert any(EVIL in text for text in parse(page).text)


def test_the_page_says_what_was_not_measured(written):
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    text = " ".join(" ".join(parse(page).text).split())
    assert "do not show that they do" in text
    assert "compare only with each other" in text
    assert "private" not in text.lower()
    assert "<code>--format match</code>" in page
    assert "net.attention" in text


def test_notes_and_settings_are_escaped():
    document = compute_report(report_input(one_class(), notes=[EVIL], settings={EVIL: EVIL}), PixelMeans())
    pictures = draw_pictures(report_input(one_class()), document)
    document["findings"].append({"level": "note", "class": None, "text": f"`{EVIL}`"})
    assert EVIL not in render_html(document, pictures)


@pytest.mark.parametrize(
    "case",
    [
        one_class(channels=1),
        one_class(train=0, holdout=0),
        one_class(holdout=0),
        one_class(train=1, holdout=1, fake=1),
        one_class(train=0, holdout=15),
        one_class(train=3, holdout=9, fake=2),
        one_class(fake=0, requested=20),
    ],
    ids=["grey", "no real", "no held-out", "one each", "no training", "few", "none delivered"],
)
def test_every_shape_of_class_gives_a_page(tmp_path, case):
    document = report(report_input(case, history=[], settings={}), tmp_path / "new" / "folder")
    json.dumps(document, allow_nan=False)
    row = document["classes"][0]
    assert all(row[key] is not None or row["reasons"].get(key) for key in ("fid", "fid_floor", "ssim", "copy_rate"))
    assert "<h1>" in (tmp_path / "new" / "folder" / "report.html").read_text(encoding="utf-8")


def test_no_classes_and_no_pictures():
    document = compute_report(report_input(), PixelMeans())
    assert document["overall"]["fid"] is None and document["overall"]["reason"]
    assert "<h1>" in render_html(document, [])


def test_the_reference_is_held_out_when_there_are_enough():
    exact = compute_report(report_input(one_class(holdout=MIN_REFERENCE)), PixelMeans())
    fewer = compute_report(report_input(one_class(holdout=MIN_REFERENCE - 1)), PixelMeans())
    assert exact["classes"][0]["reference"] == "holdout"
    assert fewer["classes"][0]["reference"] == "train"
    assert "The reference is the training images" in " ".join(texts(fewer, "cat"))


def test_copies_are_flagged():
    case = one_class()
    document = compute_report(report_input(one_class(fake=case.real_train[:30])), PixelMeans())
    assert document["classes"][0]["copy_rate"] == 1.0
    (finding,) = [f for f in document["findings"] if f["text"].startswith("Copies")]
    assert finding["level"] == "warning" and "100.0%" in finding["text"]


def test_one_repeated_image_is_flagged_as_collapse():
    document = compute_report(report_input(one_class(fake=blobs(1, seed=9).repeat(30, axis=0))), PixelMeans())
    assert any(text.startswith("Mode collapse") for text in texts(document, "cat"))


def test_one_image_under_noise_is_flagged_as_low_diversity():
    noise = np.random.default_rng(0).normal(0, 30, (30, 3, 32, 32))
    repeated = np.clip(blobs(1, side=32, seed=9) + noise, 0, 255).astype(np.uint8)
    case = one_class(fake=repeated, real_train=blobs(40, side=32, seed=1), real_holdout=blobs(12, side=32, seed=2))
    document = compute_report(report_input(case), PixelMeans())
    row = document["classes"][0]
    assert row["spread_fake"] < 0.5 * row["spread_real"]
    assert any(text.startswith("Low diversity") for text in texts(document, "cat"))


def test_spread_is_the_rms_distance_of_pairs():
    row = compute_report(report_input(one_class(fake=blobs(5))), PixelMeans())["classes"][0]
    images = blobs(5) / 255.0
    squares = [((images[i] - images[j]) ** 2).mean() for i in range(5) for j in range(i)]
    assert row["spread_fake"] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)


def test_noise_among_like_images_is_flagged():
    rng = np.random.default_rng(0)
    alike = np.clip(blobs(1).astype(int) + rng.normal(0, 4, (40, 3, 16, 16)), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (30, 3, 16, 16), dtype=np.uint8)
    case = one_class(fake=noise, real_train=alike, real_holdout=alike[:12])
    assert any("look for noise" in text for text in texts(compute_report(report_input(case), PixelMeans()), "cat"))


def test_caps_are_kept_and_pairs_still_point_to_their_images():
    case = one_class(train=50, fake=60)
    document = compute_report(report_input(case), PixelMeans(), max_images=20)
    row = document["classes"][0]
    assert (row["n_real"], row["n_fake"]) == (12, 20) and document["limits"]["max_images"] == 20
    for pair in row["pairs"]:
        difference = (case.fake[pair["fake"]] / 255.0 - case.real_train[pair["train"]] / 255.0) ** 2
        assert pair["distance"] == pytest.approx(np.sqrt(difference.mean()), abs=1e-5)


def test_the_same_seed_gives_the_same_numbers():
    first, again = (compute_report(report_input(one_class()), PixelMeans(), seed=5) for _ in range(2))
    assert first["classes"] == again["classes"] and first["overall"] == again["overall"]


def test_overall_uses_the_same_mix_of_classes_on_both_sides():
    rows = one_class("a", holdout=12, fake=40), one_class("b", holdout=30, fake=10)
    overall = compute_report(report_input(*rows), PixelMeans())["overall"]
    assert overall["n_real"] == overall["n_fake"] == 22
    assert overall["fid"] is not None and overall["reference"] == "holdout"


def test_values_that_json_lacks_become_null():
    inp = report_input(one_class(), ir_before=float("inf"), settings={"rate": np.float32(0.5), "bad": float("nan")})
    document = compute_report(inp, PixelMeans())
    assert document["imbalance_rate_before"] is None
    assert document["settings"] == {"rate": 0.5, "bad": None}
    assert document["history"][3]["loss/d"] is None


def test_progress_is_told():
    calls = []
    compute_report(report_input(one_class(), one_class("b")), PixelMeans(), progress=lambda *call: calls.append(call))
    assert calls == [("report", 1, 2), ("report", 2, 2)]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError) as caught:
        report(report_input(one_class()), tmp_path / "file" / "report")
    assert caught.value.hint


def test_curves_leave_out_what_is_not_finite():
    history = report_input().history
    curves = loss_curves([*history, {"step": 10, "stage": "pretrain", "loss/kl": 1.0}, {"loss/kl": None}])
    assert [(c.stage, c.name) for c in curves] == [("gan", "g"), ("gan", "d")]
    assert curves[0].points[[0, -1]].tolist() == [[0.0, 1.0], [8.0, 9.0]] and np.isfinite(curves[1].points).all()


def test_sheets():
    assert sheet(blobs(0)) is None
    grid = sheet(blobs(40, 1))
    assert grid.shown == 32 and (grid.width, grid.height) == (8 * 66 - 2, 4 * 66 - 2)
    assert sheet(blobs(2, side=256)).height == 96


@pytest.mark.parametrize(
    ("ssim", "spread", "words"),
    [
        (0.75, 0.5, "resemble each other far more"),
        (0.1, 0.1, "noisy in detail"),
        (0.55, 0.1, "differ far less"),
        (0.1, 0.5, "look for noise"),
    ],
)
def test_the_sentence_on_diversity_says_what_was_measured(ssim, spread, words):
    from balancegan.evaluation.findings import _diversity_findings

    row = {"name": "cat", "ssim_within_real": 0.5, "ssim_within_fake": ssim, "spread_real": 0.5, "spread_fake": spread}
    row |= {"precision": None, "recall": None, "prdc_n": None}
    (found,) = _diversity_findings(row)
    assert words in found["text"] and found["level"] == "warning"
    assert not _diversity_findings({**row, "ssim_within_fake": 0.5, "spread_fake": 0.5})


def test_a_fid_below_real_against_real_is_called_untellable():
    from balancegan.evaluation.findings import _size_findings

    row = {"name": "cat", "n_real": 60, "n_fake": 60, "n_holdout": 60, "reference": "holdout", "fid": 5.0}
    row |= dict.fromkeys(("detail", "swd", "recognised_less"))
    assert "too few images to tell" in _size_findings({**row, "fid_floor": 9.0})[0]["text"]
    assert "too few images to tell" not in _size_findings({**row, "fid_floor": 2.0})[0]["text"]


SOUND = {
    **dict.fromkeys(("fid", "ssim_within_real", "ssim_within_fake", "precision", "recall", "copy_rate", "near_rate")),
    **{
        "name": "ring",
        "n_fake": 60,
        "reasons": {"fid": NOT_ASKED},
        "reference": "holdout",
        "just_above_unusual": False,
    },
    **{"swd": {"2-4": 0.4, "4-8": 0.1, "8+": 0.1}, "detail": {"lacking": [], "noisy": []}},
    **{"recognised": 0.29, "recognised_real": 0.97, "recognised_less": False},
    "taken_for": {"name": "schizont", "share": 0.5},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"detail": {"lacking": ["2-4"], "noisy": []}}, "The synthetic images lack detail below 4 pixels."),
        ({"detail": {"lacking": ["4-8"], "noisy": ["2-4"]}}, "lack detail of 4 to 8 pixels and have too much detail "),
        (
            {"recognised_less": True},
            "29% are recognised as ring, but 97% of unseen real images are; 50% are taken for ",
        ),
        ({"detail": {"lacking": ["2-4"], "noisy": []}, "recognised_less": True}, "below 4 pixels; they often do not "),
    ],
)
def test_what_eyes_see_is_one_finding_in_words(changes, words):
    from balancegan.evaluation.findings import _class_findings

    found = _class_findings({**SOUND, **changes})
    assert [f["level"] for f in found] == ["warning"] * (words is not None)
    assert words is None or words in found[0]["text"]


def test_images_just_above_the_copy_threshold_are_a_finding():
    from balancegan.evaluation.findings import _class_findings

    row = {**SOUND, "just_above_unusual": True, "just_above": 12, "just_above_rate_real": 0.01, "near_rate": 0.02}
    row |= {"copy_threshold": 0.08, "near_rate_real_of": "holdout", "nearest_fake": {"n": 60}}
    (found,) = _class_findings(row)
    assert "12 more synthetic images (20.0%)" in found["text"] and "0.080 to 0.100" in found["text"]


def test_a_leak_is_a_warning_and_its_absence_a_note():
    leak = {"measured": True, "leak": True, "text": "Siblings everywhere."}
    document = compute_report(report_input(one_class(), leak=leak), PixelMeans())
    assert "Siblings everywhere." in texts(document, None) and not document["notes"]
    document = compute_report(report_input(one_class(), leak={**leak, "leak": False, "text": "None."}), PixelMeans())
    assert document["notes"] == ["None."] and "None." not in texts(document, None)


def test_recognition_needs_a_classifier_and_two_classes():
    alone = compute_report(report_input(one_class()), PixelMeans())["classes"][0]
    assert alone["recognised"] is None and "two classes" in alone["reasons"]["recognised"]
    both = report_input(one_class(), one_class("dog"))
    assert "No classifier" in compute_report(both, PixelMeans())["classes"][0]["reasons"]["recognised"]
    told = replace(both, classifier=lambda: SimpleNamespace(logits=lambda images: np.eye(2)[[0] * len(images)]))
    cat, dog = compute_report(told, PixelMeans())["classes"]
    assert (cat["recognised"], dog["recognised"], dog["recognised_real"]) == (1.0, 0.0, 0.0)
    assert dog["taken_for"] == {"name": "cat", "share": 1.0} and cat["swd"].keys() == {"2-4", "4+"}


def test_many_rejected_samples_are_a_warning():
    from balancegan.evaluation.findings import _delivery

    row = {
        "name": "cat",
        "synthetic": 100,
        "generated": 100,
        "n_fake": 100,
        "requested": 100,
        "rejected": 900,
        "refused": 0,
    }
    document = {"classes": [row, {**row, "name": "dog", "rejected": 9}], "complete": True, "num_synthetic": 200}
    document["delivered"] = True
    warnings = [f for f in _delivery(document) if f["level"] == "warning"]
    assert len(warnings) == 1 and warnings[0]["class"] == "cat" and "90.0%" in warnings[0]["text"]


def test_the_distribution_over_the_classes_has_its_table(tmp_path):
    found = {
        "samples": 5120,
        "classes": ["cat", "dog"],
        "train_counts": [90, 10],
        "shares": [0.75, 0.25],
        "synthetic": {"ratios": [0.833, 2.5], "mean": 1.667, "mean_deviation": 0.833},
        "sampling": "sqrt",
        "perfect": {"ratios": [0.9, None], "mean": 0.9, "mean_deviation": 0.1},
    }
    report(report_input(one_class(), distribution=found), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "How often the generator makes each class" in page and "5,120 samples" in page
    for value in ("75.0%", "0.83", "2.5", "1.67", "–"):
        assert value in page, value
    assert json.loads((tmp_path / "report.json").read_text())["distribution"] == found
