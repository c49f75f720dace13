"""The document's measures and utility arranged as the page and the charts show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancegan.core.documents import Json

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


class Measured(dict[str, Any]):
    """A part of a document, in which every missing key counts as not measured: None."""

    def __missing__(self, key: str) -> None:
        return None


def reasons(row: Json, keys: Sequence[str]) -> list[str]:
    """Why these measures of a class are missing, each reason once."""
    given = row["reasons"] or {}
    return list(dict.fromkeys(given[key] for key in keys if given.get(key)))


def utility_view(document: Json) -> Json:
    """What the section on usefulness shows: the document's utility, completed."""
    utility = Measured(document.get("utility") or {})
    utility |= {key: utility[key] or [] for key in ("arms", "classes", "differences", "warnings")}
    names = [row["name"] for row in document["classes"]]
    tested = [name for name in names if any(name in (arm.get("recall") or {}) for arm in utility["arms"])]
    verdict = utility["verdict"] if utility["verdict"] in VERDICTS else None
    tone, sign, title = VERDICTS[verdict]
    if utility["measured"] and verdict is None:
        title = "No verdict"
    summary = _summary(utility)
    utility |= {
        "tone": tone,
        "sign": sign,
        "title": title,
        "tested": tested,
        "wide": len(tested) <= WIDE_CLASSES,
        "confusions": _confusions(utility, names, tested),
        "summary": summary,
        "reach": _reach([row.get("difference") for row in [*utility["classes"], *summary]]),
        "test_name": TEST_SETS.get((utility["test"] or {}).get("kind", ""), "real images"),
    }
    return utility


def _reach(differences: Sequence[Json | None]) -> float:
    """How far the axis of differences goes to both sides, as a share, in steps of 5 points."""
    values = [abs(d[key]) for d in differences if d for key in ("value", "low", "high") if d.get(key) is not None]
    return max(1, -(-max(values, default=0.0) // 0.05)) * 0.05


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
