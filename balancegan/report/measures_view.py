"""The document's measures arranged as the page shows them; every missing key counts as not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balancegan.core.documents import Json
from balancegan.report.class_charts import Chart, Mark, lane_chart

_DISTANCES = ("fid", "fid_floor", "fid_floor_size", "kid", "kid_std", "kid_size", "kid_floor", "kid_floor_std")
_SHARES = ("precision", "recall", "density", "coverage")
_ROW = (
    *_DISTANCES, *_SHARES, "prdc_k", "ssim", "ssim_within_fake", "ssim_within_real", "spread_fake", "spread_real",
    "copy_rate", "near_rate", "near_rate_real", "near_rate_real_of", "copy_threshold",
    "nearest_fake", "nearest_holdout", "nearest_train",
)  # fmt: skip
_OVERALL = (
    *_DISTANCES, *_SHARES, "n_real", "n_fake", "reference", "reason", "inception_score", "inception_score_std",
    "inception_score_splits", "inception_score_n", "inception_score_reason",
)  # fmt: skip


def complete_row(row: Mapping[str, Any]) -> Json:
    """A class of the document with every key that the page reads."""
    return {**dict.fromkeys(_ROW), "reasons": {}, **row}


def complete_overall(overall: Mapping[str, Any]) -> Json:
    """The document's values over all classes with every key that the page reads."""
    return {**dict.fromkeys(_OVERALL), **overall}


def reasons(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Why these measures of a class are missing, each reason once."""
    return list(dict.fromkeys(row["reasons"][key] for key in keys if row["reasons"].get(key)))


def distance_charts(rows: Sequence[Json]) -> list[Chart]:
    """FID and KID per class as bars, with real against real as a mark."""
    charts = []
    for key, title, fold in (
        ("fid", "FID per class, lower is better", 1.0),
        ("kid", "KID × 10³ per class, lower is better", 1e3),
    ):
        lanes = []
        for row in rows:
            marks = []
            if row[key] is not None:
                std = row["kid_std"] if key == "kid" else None
                low, high = (None, None) if std is None else (fold * (row[key] - std), fold * (row[key] + std))
                marks.append(Mark(fold * row[key], "fake", "bar", low=low, high=high))
            if row[f"{key}_floor"] is not None:
                marks.append(Mark(fold * row[f"{key}_floor"], "ink", "tick"))
            if marks:
                lanes.append((row["name"], marks))
        what = [("fake", "bar", "synthetic against real"), ("ink", "tick", "real against real")]
        charts.append(lane_chart(title, lanes, what))
    return [chart for chart in charts if chart is not None]
