"""Damage GAN's Table 4 over the seeds: how much of each class unconditional methods generate."""

from __future__ import annotations

from collections.abc import Sequence

from balancegan.commands.compare.matrix import Cell
from balancegan.commands.compare.table import mean_std
from balancegan.core.documents import Json

KINDS = ("synthetic", "perfect")


def distribution_table(results: dict[Cell, Json], methods: Sequence[str], ir: float) -> Json | None:
    """Return two rows of class ratios per method that assigns classes: its own and a perfect generator's.

    A ratio is a class's share of the samples over its share of the training images.

    Args:
        results: results of all cells; `distribution` is that of `class_assignment.distribution_json`.
        methods: methods in table order.
        ir: the imbalance rate; 0 for the unthinned data.

    Returns:
        `samples`, `classes`, `train_counts` and `rows` of `method`, `kind`, one value per class, `mean` and
        `mean_deviation`, each with mean, std and n over the seeds. None if no method assigns classes.
    """
    rows, found = [], []
    for method in methods:
        mine = [r.get("distribution") for cell, r in results.items() if (cell.method, cell.ir) == (method, ir)]
        of_seeds = [distribution for distribution in mine if distribution]
        found += of_seeds
        rows += [_row(method, kind, [d[kind] for d in of_seeds]) for kind in KINDS if of_seeds]
    if not found:
        return None
    return {**{name: found[0][name] for name in ("samples", "classes", "train_counts")}, "rows": rows}


def _row(method: str, kind: str, seeds: Sequence[Json]) -> Json:
    return {
        "method": method,
        "kind": kind,
        "values": [_known(values) for values in zip(*(seed["ratios"] for seed in seeds), strict=True)],
        **{name: _known([seed[name] for seed in seeds]) for name in ("mean", "mean_deviation")},
    }


def _known(values: Sequence[float | None]) -> Json:
    return mean_std([value for value in values if value is not None])
