"""The papers' table from single measurements, by hand-made numbers."""

import math

import pytest
import scipy.stats

from balancegan.commands.compare.table import findings, table

CLASSES = ("a", "b", "c")


def cell(method, seed, name, fid, status="done", ir=None):
    kid, ssim = (None, None) if fid is None else (fid / 1000, fid / 100)
    head = {"ir": ir, "method": method, "seed": seed, "class": name, "status": status}
    return {**head, "fid": fid, "kid": kid, "ssim": ssim, "copy_rate": ssim}


def cells_of(method, *seeds):
    """One tuple of FIDs, by class, per seed."""
    pairs = [(seed, *pair) for seed, fids in enumerate(seeds) for pair in zip(CLASSES, fids, strict=True)]
    return [cell(method, seed, name, fid) for seed, name, fid in pairs]


CELLS = [
    *cells_of("old", (10, 20, 30), (20, 40, 60)),
    *cells_of("new", (6, 15, 12), (8, 45, 14)),
    cell("new", 0, "a", 999.0, ir=5.0),  # another rate must not get in
]


def made(cells=CELLS, pair=("new", "old"), methods=("old", "new")):
    return table(cells, ir=None, methods=methods, classes=CLASSES, majority="b", pair=pair)


def test_minority_average_is_the_mean_over_seeds_of_the_mean_over_classes():
    old, new = (row["values"] for row in made()["fid"]["rows"])
    assert old[0]["mean"] == pytest.approx((20 + 40) / 2) and old[0]["n"] == 2
    assert old[0]["std"] == pytest.approx(math.sqrt(200))  # of 20 and 40, with n - 1
    assert new[0]["mean"] == pytest.approx((9 + 11) / 2)
    assert old[1]["mean"] == 30 and new[1]["mean"] == 30  # the majority, b
    assert [v["mean"] for v in old[2:]] == [15, 45]  # the others, a and c


def test_best_is_the_lowest_distance_and_the_highest_similarity():
    best = {m: [row["values"][0]["best"] for row in part["rows"]] for m, part in made().items()}
    assert best == {"fid": [False, True], "kid": [False, True], "ssim": [True, False], "copy_rate": [False, True]}


def test_improvement_is_positive_when_better_whatever_the_direction():
    part = made()
    assert part["fid"]["improvement"]["of"] == "new" and part["fid"]["improvement"]["over"] == "old"
    assert part["fid"]["improvement"]["values"][0] == pytest.approx((30 - 10) / 30)
    assert part["ssim"]["improvement"]["values"][0] == pytest.approx((0.1 - 0.3) / 0.3)
    assert made(pair=None)["fid"]["improvement"] is None


def test_published_improvement_is_reproduced():
    """SGBGAN's Table 4, ring: 159.12 to 122.38 is 23.09%; SSIM 0.561 to 0.622 is 10.81% (of rounded numbers)."""
    cells = [cell("old", 0, "a", 159.12), cell("new", 0, "a", 122.38)]
    cells[0]["ssim"], cells[1]["ssim"] = 0.561, 0.622
    part = made(cells)
    assert part["fid"]["improvement"]["values"][2] == pytest.approx(0.2309, abs=1e-4)
    assert part["ssim"]["improvement"]["values"][2] == pytest.approx(0.1081, abs=1e-3)


def test_one_seed_has_no_deviation_and_a_failed_cell_is_counted():
    cells = [cell("old", 0, name, 5.0) for name in CLASSES] + [cell("old", 1, name, None, "failed") for name in CLASSES]
    (row, other) = made(cells)["fid"]["rows"]
    assert row["values"][0] == {"mean": 5.0, "std": None, "n": 1, "best": False}
    assert (row["finished"], row["failed"]) == (1, 1)
    assert (other["finished"], other["failed"]) == (0, 0) and other["values"][0]["mean"] is None


def test_a_negative_or_missing_baseline_gives_no_improvement():
    cells = [cell("old", 0, "a", 1.0), cell("new", 0, "a", 2.0), cell("new", 0, "c", 2.0)]
    cells[0]["kid"] = -0.001
    part = made(cells)
    assert part["kid"]["improvement"]["values"][2] is None and part["fid"]["improvement"]["values"][3] is None


def document(cells, **changes):
    seeds = sorted({c["seed"] for c in cells})
    return {
        "runs": [],
        "cells": cells,
        "seeds": seeds,
        "classes": [{"name": "a", "reference": "holdout"}],
        "extractor": {"comparable": True, "note": "a note"},
        "table": [{"ir": None, "imbalance_rate": 2.0, "measures": made(cells)}],
        **changes,
    }


def texts(found):
    return " ".join(f["text"] for f in found)


def test_findings_say_whether_the_difference_is_more_than_that_of_seeds():
    two = texts(findings(document(CELLS)))  # 20 and 40 against 9 and 11: two seeds cannot tell
    p = scipy.stats.ttest_ind([20, 40], [9, 11], equal_var=False).pvalue
    assert "the difference is not significant" in two and f"p = {p:.2g}" in two
    clear = [cell(m, s, n, f + s) for m, f in (("old", 50.0), ("new", 10.0)) for s in (0, 1, 2) for n in CLASSES]
    assert "new (11), then old (51); the difference is significant" in texts(findings(document(clear)))
    assert "with one seed" in texts(findings(document([c for c in clear if c["seed"] == 0])))


def test_findings_name_methods_that_repeat_their_training_images():
    found = findings(document(CELLS))  # "copy rates" of old: 0.3 on average, of new: 0.1
    (warning,) = (f for f in found if f["level"] == "warning")
    assert warning["text"].startswith("old: 30% of its minority images") and "new" not in warning["text"]


def test_findings_name_classes_that_had_to_be_walked_to():
    walked = [{**c, "n_walked": 5 if (c["method"], c["class"]) == ("new", "b") else 0} for c in CELLS]
    assert "new rarely generates b: some images were found by Langevin sampling" in texts(findings(document(walked)))
    assert "rarely generates" not in texts(findings(document(CELLS)))


def test_without_any_deviation_the_lower_mean_is_the_better():
    same = [cell(m, s, n, f) for m, f in (("old", 5.0), ("new", 4.0)) for s in (0, 1) for n in CLASSES]
    assert "new (4), then old (5); the difference is significant" in texts(findings(document(same)))


def test_an_average_is_over_the_same_classes_for_every_method_and_seed():
    cells = cells_of("old", (10, 20, 30), (None, 40, 60)) + cells_of("new", (6, 15, None), (8, 45, 14))
    old, new = (row["values"][0] for row in made(cells)["fid"]["rows"])
    assert (old["mean"], old["n"]) == (20, 1) and (new["mean"], new["n"]) == (11, 1)
    nobody = cells_of("old", (10, 20, None)) + cells_of("new", (6, 15, None))  # c is too small to be measured
    assert [row["values"][0]["mean"] for row in made(nobody)["fid"]["rows"]] == [10, 6]


def test_findings_name_failures_small_references_and_private_features():
    found = findings(
        document(
            CELLS,
            runs=[{"method": "old", "seed": 3, "ir": 5.0, "status": "failed", "reason": "it diverged"}],
            classes=[{"name": "tiny", "reference": "train"}],
            extractor={"comparable": False, "note": "only with each other"},
        )
    )
    assert found[0] == {"level": "warning", "text": "old, seed 3, IR 5 has no result: it diverged"}
    assert "tiny" in texts(found) and "only with each other" in texts(found) and "three or more" in texts(found)
