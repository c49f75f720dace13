"""The papers' table from single measurements: methods by classes, mean and standard deviation over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from balancegan.commands.compare.measure import MEASURES
from balancegan.core.documents import Json

HIGHER_IS_BETTER = {"ssim"}
FEW_SEEDS = 3
SIGNIFICANT = 0.05
MANY_COPIES = 0.1


def table(
    cells: Sequence[Json],
    *,
    ir: float | None,
    methods: Sequence[str],
    classes: Sequence[str],
    majority: str,
    pair: tuple[str, str] | None,
) -> Json:
    """Return every measure's rows of methods: minority average, majority, and each minority class, over the seeds.

    Args:
        cells: measurements of all rates: `ir, method, seed, class, status` and the measures (null where not measured).
        ir: the rate whose cells to use.
        methods: the rows.
        classes: all classes.
        majority: the largest class; all others are minority classes.
        pair: `(of, over)`: the last row shows the improvement of `of` over `over`.
    """
    mine = [cell for cell in cells if cell["ir"] == ir]
    minority = [name for name in classes if name != majority]
    columns = [("minority average", "minority", minority), (f"majority ({majority})", "majority", [majority])]
    columns += [(name, "class", [name]) for name in minority]
    measures = {}
    for measure in MEASURES:
        rows = []
        measured = {cell["class"] for cell in mine if cell[measure] is not None}
        for method in methods:
            of_method = [cell for cell in mine if cell["method"] == method]
            status = {cell["seed"]: cell["status"] for cell in of_method}
            rows.append(
                {
                    "method": method,
                    "finished": sum(s == "done" for s in status.values()),
                    "failed": sum(s == "failed" for s in status.values()),
                    "values": [_over_seeds(of_method, measure, measured & set(names)) for _, _, names in columns],
                }
            )
        _mark_best(rows, measure)
        measures[measure] = {
            "columns": [{"title": title, "kind": kind} for title, kind, _ in columns],
            "rows": rows,
            "improvement": _improvement(rows, measure, pair),
        }
    return measures


def _over_seeds(cells: Sequence[Json], measure: str, names: set[str]) -> Json:
    """Return mean and deviation over seeds of each seed's class mean; seeds that lack a class are skipped."""
    of_seed: dict[int, list[float]] = {}
    for cell in cells:
        if cell["class"] in names and cell[measure] is not None:
            of_seed.setdefault(cell["seed"], []).append(cell[measure])
    return {**mean_std([statistics.fmean(v) for v in of_seed.values() if len(v) == len(names)]), "best": False}


def mean_std(values: Sequence[float]) -> Json:
    """Return mean, sample standard deviation and number of values; None where there are too few."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def _mark_best(rows: Sequence[Json], measure: str) -> None:
    sign = -1 if measure in HIGHER_IS_BETTER else 1
    for column in zip(*(row["values"] for row in rows), strict=True):
        there = [value for value in column if value["mean"] is not None]
        if len(there) > 1:
            min(there, key=lambda value: sign * value["mean"])["best"] = True


def _improvement(rows: Sequence[Json], measure: str, pair: tuple[str, str] | None) -> Json | None:
    """Return the gain as a share of the baseline's value, positive if better, as in SGBGAN's Table 4."""
    if pair is None:
        return None
    by_method = {row["method"]: row["values"] for row in rows}
    sign = 1 if measure in HIGHER_IS_BETTER else -1
    values = []
    for mine, base in zip(by_method[pair[0]], by_method[pair[1]], strict=True):
        known = mine["mean"] is not None and base["mean"] is not None and base["mean"] > 0
        values.append(sign * (mine["mean"] - base["mean"]) / base["mean"] if known else None)
    return {"of": pair[0], "over": pair[1], "values": values}


def findings(document: Json) -> list[Json]:
    """Return what a reader should know before the numbers, in plain sentences."""
    found = []
    failed = [run for run in document["runs"] if run["status"] == "failed"]
    for run in failed:
        where = f"{run['method']}, seed {run['seed']}" + (f", IR {run['ir']:g}" if run["ir"] else "")
        found.append(("warning", f"{where} has no result: {run['reason']}"))
    found += [("note", text) for block in document["table"] for text in _verdicts(block)]
    found += [("warning", text) for block in document["table"] for text in _copies(block)]
    found += [("note", text) for text in _walked(document)]
    if few := ", ".join(c["name"] for c in document["classes"] if c["reference"] == "train"):
        text = f"Fewer than ten held-out images of {few}: compared with training images, on which copies score best."
        found.append(("warning", text))
    if (seeds := len(document["seeds"])) < FEW_SEEDS:
        some = (
            "One seed gives no standard deviation"
            if seeds == 1
            else f"The standard deviation of {seeds} seeds is rough"
        )
        found.append(("note", f"{some}: use three or more."))
    if not document["extractor"]["comparable"]:
        found.append(("note", document["extractor"]["note"]))
    return [{"level": level, "text": text} for level, text in found]


def _verdicts(block: Json) -> list[str]:
    """Return which method has the lowest minority FID, and whether the next differs significantly."""
    rows = [
        (r["method"], r["values"][0]) for r in block["measures"]["fid"]["rows"] if r["values"][0]["mean"] is not None
    ]
    if len(rows) < 2:
        return []
    (best, a), (second, b), *_ = sorted(rows, key=lambda row: row[1]["mean"])
    where = "" if block["ir"] is None else f" at imbalance rate {block['ir']:g}"
    text = f"Lowest FID on the minority classes{where}: {best} ({a['mean']:.3g}), then {second} ({b['mean']:.3g})"
    if a["std"] is None or b["std"] is None:
        return [text + "; with one seed, the order may be due to chance."]
    p = _welch(a, b)
    if p < SIGNIFICANT:
        return [text + f"; the difference is significant across seeds (Welch's t-test, p = {p:.2g})."]
    return [text + f"; the difference is not significant across seeds (Welch's t-test, p = {p:.2g})."]


def _copies(block: Json) -> list[str]:
    """Return warnings about methods whose minority images are often copies of training images."""
    where = "" if block["ir"] is None else f" at imbalance rate {block['ir']:g}"
    rates = [(row["method"], row["values"][0]["mean"]) for row in block["measures"]["copy_rate"]["rows"]]
    return [
        f"{method}: {rate:.0%} of its minority images{where} are copies of training images, which may be why its other "
        "measures look good."
        for method, rate in rates
        if rate is not None and rate > MANY_COPIES
    ]


def _walked(document: Json) -> list[str]:
    """Return notes on classes that a method rarely generates."""
    walked: dict[str, set[str]] = {}
    for cell in document["cells"]:
        if cell.get("n_walked"):
            walked.setdefault(cell["method"], set()).add(cell["class"])
    return [
        f"{method} rarely generates {', '.join(sorted(names))}: some images were found by Langevin sampling."
        for method, names in walked.items()
    ]


def _welch(a: Json, b: Json) -> float:
    """Return the p-value of Welch's t-test for a difference of means over seeds."""
    from scipy.stats import ttest_ind_from_stats

    if not a["std"] and not b["std"]:
        return 0.0 if a["mean"] != b["mean"] else 1.0
    sides = (value[key] for value in (a, b) for key in ("mean", "std", "n"))
    return float(ttest_ind_from_stats(*sides, equal_var=False).pvalue)
