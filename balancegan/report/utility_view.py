"""The document's utility arranged as the page shows it; every missing key counts as not measured."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from balancegan.core.documents import Json
from balancegan.report.class_charts import SHAPES, Chart, Mark, difference_lane, lane_chart

WIDE_CLASSES = 6
"""With more classes the recalls get a table of their own, with a row per class."""

MANY_CLASSES = 12
"""With more classes the confusion matrices are folded away, and charts show the two arms of the verdict only."""

VERDICTS = {
    "use": ("good", "✓", "Use these images"),
    "no difference": ("note", "=", "No difference shown"),
    "do not use": ("warning", "✕", "Do not use these images"),
    None: ("unknown", "?", "Not measured: do these images help?"),
}
"""Verdict -> (tone, sign, title)."""

TEST_SETS = {
    "test": "the data set's test split",
    "val": "the data set's validation split",
    "holdout": "images held out from the generator's training",
    "splits": "repeated stratified splits of the real images",
}

_EMPTY: Json = {
    "measured": False, "verdict": None, "headline": "", "rule": "", "note": "", "warnings": [], "baseline": None,
    "candidate": None, "test": None, "seeds": None, "updates": None, "batch_size": None, "image_size": None,
    "flips": None, "flips_note": "", "arms": [], "differences": [], "classes": [], "unfiltered_verdict": None,
}  # fmt: skip
_TONES = {
    "real only": "a3",
    "oversampling": "a0",
    "balanced softmax": "a4",
    "real + synthetic": "a1",
    "real + synthetic, unfiltered": "a5",
    "synthetic only": "a2",
}


def utility_view(document: Json) -> Json:
    """What the section on usefulness shows: the document's utility, completed, with its charts."""
    utility = {**_EMPTY, **(document.get("utility") or {})}
    names = [row["name"] for row in document["classes"]]
    arms = utility["arms"] or []
    tested = [name for name in names if any(name in (arm.get("recall") or {}) for arm in arms)]
    verdict = utility["verdict"] if utility["verdict"] in VERDICTS else None
    tone, sign, title = VERDICTS[verdict]
    if utility["measured"] and verdict is None:
        title = "No verdict"
    differences = [row.get("difference") for row in utility["classes"]]
    summary = _summary(utility)
    reach = _reach([*differences, *(row["difference"] for row in summary)])
    return {
        **utility,
        "tone": tone,
        "sign": sign,
        "title": title,
        "tested": tested,
        "wide": len(tested) <= WIDE_CLASSES,
        "confusions": _confusions(utility, names, tested),
        "chart": _recall_chart(utility, tested),
        "lanes": [_lane(difference, reach) for difference in differences],
        "summary": [{**row, "lane": _lane(row["difference"], reach)} for row in summary],
        "reach": reach,
        "test_name": TEST_SETS.get((utility["test"] or {}).get("kind", ""), "real images"),
    }


def _recall_chart(utility: Json, tested: Sequence[str]) -> Chart | None:
    arms = [arm for arm in utility["arms"] if arm.get("recall")]
    if len(tested) > MANY_CLASSES:
        arms = [arm for arm in arms if arm["name"] in (utility["baseline"], utility["candidate"])]
    looks = [(_TONES.get(arm["name"], "ink"), SHAPES[k % len(SHAPES)]) for k, arm in enumerate(arms)]
    lanes = []
    for name in tested:
        marks = []
        for k, (arm, (tone, shape)) in enumerate(zip(arms, looks, strict=True)):
            found = arm["recall"].get(name) or {}
            if found.get("value") is not None:
                low, high = (None if found.get(key) is None else 100 * found[key] for key in ("low", "high"))
                marks.append(Mark(100 * found["value"], tone, shape, row=k, low=low, high=high))
        lanes.append((name, marks))
    key = [(tone, shape, arm["title"]) for arm, (tone, shape) in zip(arms, looks, strict=True)]
    return lane_chart("Recall per class, with intervals", lanes, key, domain=(0.0, 100.0), suffix="%")


def _reach(differences: Sequence[Json | None]) -> float:
    """How far the axis of differences goes to both sides, as a share, in steps of 5 points."""
    values = [abs(d[key]) for d in differences if d for key in ("value", "low", "high") if d.get(key) is not None]
    return max(1, -(-max(values, default=0.0) // 0.05)) * 0.05


def _lane(difference: Json | None, reach: float) -> Markup:
    found = difference or {}
    return difference_lane(found.get("value"), found.get("low"), found.get("high"), reach)


def _summary(utility: Json) -> list[Json]:
    """The differences over all classes between the two arms of the verdict."""
    for row in utility["differences"]:
        if (row["arm"], row["against"]) == (utility["candidate"], utility["baseline"]):
            titles = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}
            return [{"key": k, "title": t, "difference": row[k]} for k, t in titles.items() if row.get(k)]
    return []


def _confusions(utility: Json, names: Sequence[str], tested: Sequence[str]) -> list[Json]:
    """The matrices of the verdict's two arms with the classes of their rows, where these are known."""
    arms = {arm["name"]: arm for arm in utility["arms"]}
    found = []
    for name in (utility["baseline"], utility["candidate"]):
        matrix = arms.get(name, {}).get("confusion")
        labels = next((labels for labels in (names, tested) if matrix and len(labels) == len(matrix)), None)
        if labels:
            found.append(
                {"title": arms[name]["title"], "rows": list(zip(labels, matrix, strict=True)), "names": labels}
            )
    return found
