"""Arranges a document's measures and utility for the page and the charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from balancegan.core.documents import Json
from balancegan.verdict.arms import TRANSFORMED
from balancegan.verdict.scores import MIN_TEST

AT_A_GLANCE = 4
"""The overview shows images of this many classes."""

RAREST = 5
"""The areas under the ROC and the precision-recall curve are shown for this many classes."""

MANY_CLASSES = 12
"""With more classes than this, confusion matrices are folded."""

VERDICTS = {
    "use": ("good", "✓", "Use these images"),
    "no difference": ("note", "=", "No clear difference"),
    "do not use": ("warning", "✕", "Do not use these images"),
    None: ("unknown", "?", "Too few test images to tell"),
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


def class_rows(document: Json) -> list[Measured]:
    """The classes' rows; those of an older version, and of other folders, count all synthetic images as generated."""
    return [Measured({"generated": row["synthetic"], "transformed": 0, **row}) for row in document["classes"]]


def made_by(document: Json) -> str:
    """What to call the images that are measured: generated, if other synthetic images are transformed real ones."""
    return "generated" if any(row["transformed"] for row in class_rows(document)) else "synthetic"


def unused(document: Json) -> str:
    """Which of the measured images the folder leaves out: all, some or none."""
    rows = class_rows(document)
    if not any((row["n_fake"] or 0) > row["generated"] for row in rows):
        return "none"
    return "some" if any(row["generated"] for row in rows) else "all"


def reasons(row: Json, keys: Sequence[str]) -> list[str]:
    """The distinct reasons why these measures of a class are missing."""
    given = row["reasons"] or {}
    return list(dict.fromkeys(given[key] for key in keys if given.get(key)))


def worst_first(document: Json) -> list[Json]:
    """The findings by level; of equal ones, those on all images before those on one class.

    A folder that is complete is no success unless its images are to be used. The note that nothing was measured stands
    in the place of the verdict.
    """
    utility = Measured(document.get("utility") or {})
    found = [f for f in document["findings"] if f["text"] != utility["note"]]
    if utility["verdict"] != "use":
        found = [f | {"level": "note"} if f["level"] == "good" else f for f in found]
    return sorted(found, key=lambda f: (("warning", "note", "good").index(f["level"]), f["class"] is not None))


def at_a_glance(document: Json) -> list[int]:
    """The classes whose images the overview shows, worst first; only those that have synthetic images."""
    rows = [Measured(row) for row in document["classes"]]
    warned = Counter(f["class"] for f in document["findings"] if f["level"] == "warning")
    judged = (document.get("utility") or {}).get("classes") or []
    harmed = {row["name"] for row in judged if row["verdict"] == "do not use"}
    shown = [k for k, row in enumerate(rows) if row["n_fake"]]
    return sorted(
        shown, key=lambda k: (rows[k]["name"] not in harmed, -warned[rows[k]["name"]], -rows[k]["synthetic"])
    )[:AT_A_GLANCE]


def level_title(level: str) -> str:
    """Title of a level of detail: "Detail of 2–4 px" for "2-4"."""
    low, _, high = level.rstrip("+").partition("-")
    return f"Detail of {low}–{high} px" if high else f"Detail above {low} px"


def utility_view(document: Json) -> Json:
    """The document's `utility`, completed with what the usefulness section shows."""
    utility = Measured(document.get("utility") or {})
    utility |= {key: utility[key] or [] for key in ("arms", "classes", "differences", "warnings", "first_pass")}
    utility["arms"] = [Measured(arm) for arm in utility["arms"]]
    names = [row["name"] for row in document["classes"]]
    tested = [name for name in names if any(name in (arm["recall"] or {}) for arm in utility["arms"])]
    verdict = utility["verdict"] if utility["verdict"] in VERDICTS else None
    tone, sign, title = VERDICTS[verdict]
    if not utility["measured"]:
        title = "Usefulness not measured"
    unlearned = [utility["learned_note"]] if utility["learned"] is False else []
    beyond = _difference(utility, utility["candidate"], TRANSFORMED)
    summary = _summary(utility, beyond)
    utility |= {
        "tone": tone,
        "sign": sign,
        "title": title,
        "tested": tested,
        "rare": _rarest(utility["arms"], document["classes"]),
        "warnings": [{"level": "warning", "class": None, "text": text} for text in [*unlearned, *utility["warnings"]]],
        "classes": [
            row | {"reason": _why_not_judged(row, document), "beyond": beyond and beyond["recall"].get(row["name"])}
            for row in utility["classes"]
        ],
        "confusions": _confusions(utility, names, tested),
        "summary": summary,
        "beyond": beyond,
        "reach": _reach([row.get("difference") for row in [*utility["classes"], *summary]]),
        "test_name": TEST_SETS.get((utility["test"] or {}).get("kind", ""), "real images"),
    }
    return utility


def _rarest(arms: Sequence[Json], classes: Sequence[Json]) -> list[str]:
    """The classes with the fewest real images whose probabilities were scored."""
    scored = [row for row in classes if any((arm["auroc"] or {}).get(row["name"]) is not None for arm in arms)]
    return [row["name"] for row in sorted(scored, key=lambda row: row["real"])[:RAREST]]


def _why_not_judged(row: Json, document: Json) -> str | None:
    """Why the row of a class has no verdict, or None if it has one."""
    if row["verdict"]:
        return None
    if any(found["name"] == row["name"] and not found["synthetic"] for found in document["classes"]):
        return "no synthetic images"
    few = row["n_test"] is not None and row["n_test"] < MIN_TEST
    return f"fewer than {MIN_TEST} test images" if few else "too few test images to tell"


def _reach(differences: Sequence[Json | None]) -> float:
    """Half-width of the differences axis as a share, rounded up to steps of 5 points."""
    values = [abs(d[key]) for d in differences if d for key in ("value", "low", "high") if d.get(key) is not None]
    return max(1, -(-max(values, default=0.0) // 0.05)) * 0.05


def _difference(utility: Json, arm: str, against: str) -> Json | None:
    """The paired differences of two arms, if both were trained."""
    pairs = {(row["arm"], row["against"]): row for row in utility["differences"]}
    return pairs.get((arm, against))


def _summary(utility: Json, beyond: Json | None) -> list[Json]:
    """The overall differences between the verdict's two arms, and between the judged arm and transformed images."""
    row = _difference(utility, utility["candidate"], utility["baseline"])
    titles = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"} if row else {}
    return [
        {"key": key, "title": title, "difference": row[key], "beyond": beyond and beyond.get(key)}
        for key, title in titles.items()
        if row and row.get(key)
    ]


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
