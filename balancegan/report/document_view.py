"""Arranges a document's measures and utility for the page and the charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancegan.core.documents import Json

WIDE_CLASSES = 6
"""With more classes than this, the recalls get a separate table with one row per class."""

MANY_CLASSES = 12
"""With more classes than this, confusion matrices are folded, and charts show only the verdict's two arms."""

VERDICTS = {
    "use": ("good", "✓", "Use these images"),
    "no difference": ("note", "=", "No clear difference"),
    "do not use": ("warning", "✕", "Do not use these images"),
    None: ("unknown", "?", "Usefulness not measured"),
}
"""Verdict -> (tone, sign, title)."""

TEST_SETS = {
    "test": "the data set's test split",
    "val": "the data set's validation split",
    "holdout": "images held out from the generator's training",
    "splits": "repeated stratified splits of the real images",
}


class Measured(dict[str, Any]):
    """Part of a document; missing keys count as not measured and return None."""

    def __missing__(self, key: str) -> None:
        return None


def reasons(row: Json, keys: Sequence[str]) -> list[str]:
    """The distinct reasons why these measures of a class are missing."""
    given = row["reasons"] or {}
    return list(dict.fromkeys(given[key] for key in keys if given.get(key)))


def level_title(level: str) -> str:
    """Title of a level of detail: "Detail of 2–4 px" for "2-4"."""
    low, _, high = level.rstrip("+").partition("-")
    return f"Detail of {low}–{high} px" if high else f"Detail above {low} px"


def utility_view(document: Json) -> Json:
    """The document's `utility`, completed with what the usefulness section shows."""
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
    """Half-width of the differences axis as a share, rounded up to steps of 5 points."""
    values = [abs(d[key]) for d in differences if d for key in ("value", "low", "high") if d.get(key) is not None]
    return max(1, -(-max(values, default=0.0) // 0.05)) * 0.05


def _summary(utility: Json) -> list[Json]:
    """The overall differences between the verdict's two arms."""
    for row in utility["differences"]:
        if (row["arm"], row["against"]) == (utility["candidate"], utility["baseline"]):
            titles = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}
            return [{"key": k, "title": t, "difference": row[k]} for k, t in titles.items() if row.get(k)]
    return []


def _confusions(utility: Json, names: Sequence[str], tested: Sequence[str]) -> list[Json]:
    """The confusion matrices of the verdict's two arms, with their class names, if available."""
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
