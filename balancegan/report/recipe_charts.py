"""Shows how the generated share of the synthetic images was chosen: the search's table and its chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancegan.core.documents import Json
from balancegan.report.charts import INK, MARKERS, SERIES, SOFT, Panel, short

_NAMED = 4  # classes of a group that are named; the others are counted
_ASIDE, _ROOM = 2.4, 8.0  # per cent: between two groups' points at the same share, and room for all of these
_RIGHT = 17  # per cent: from the largest share to the point where each group has its own
_NONE: Json = {"share": 0.0, "score": 0.0, "score_low": None, "score_high": None}


def recipe_view(document: Json) -> Json | None:
    """The document's `recipe` arranged for the page, or None if there is nothing to show.

    `groups` are the titles of the groups of classes, that of all classes first. `rows` has a row per share, with a cell
    for each group (None if not measured). The first is share 0, with which all others are compared; the last may have
    the share None: each group has its own.
    """
    recipe = document.get("recipe")
    if not recipe or not (recipe.get("why") or recipe.get("rows")):
        return None
    found = [row for row in recipe.get("rows") or [] if row["score"] is not None]
    groups = list(dict.fromkeys(tuple(row["group"]) for row in found))
    groups.sort(key=len, reverse=True)  # all classes first; of equal ones, in the document's order
    cells = {(row["share"], tuple(row["group"])): row for row in found}
    for group in groups:
        chosen = any(row["chosen"] for row in found if tuple(row["group"]) == group)
        cells[0.0, group] = _NONE | {"chosen": not chosen}
    shares = sorted({share for share, _ in cells}, key=lambda share: (share is None, share or 0.0))
    return {
        "why": recipe.get("why") or "",
        "how": recipe.get("how") or "",
        "groups": [_title(group, groups[0]) for group in groups],
        "rows": [{"share": share, "cells": [cells.get((share, group)) for group in groups]} for share in shares],
    }


def _title(group: Sequence[str], every: Sequence[str]) -> str:
    if len(group) == 1:
        return group[0]
    if group == every:
        return f"all {len(group):,} classes to fill"
    more = len(group) - _NAMED
    return ", ".join(group[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def gains(document: Json) -> list[Panel]:
    """The gain in log loss by generated share: a line with intervals for each group of classes."""
    view = recipe_view(document)
    if view is None or not view["rows"]:
        return []
    shares = [row["share"] for row in view["rows"]]
    places = {share: 100 * share for share in shares if share is not None}
    if None in shares:
        places[None] = max(places.values()) + _RIGHT
    aside = min(_ASIDE, _ROOM / len(view["groups"]))

    def draw(axis: Any) -> None:
        axis.axhline(0, color=SOFT, linewidth=0.8)
        rings = []
        for k, title in enumerate(view["groups"]):
            mine = [row["cells"][k] for row in view["rows"] if row["cells"][k]]
            apart = aside * (k - (len(view["groups"]) - 1) / 2)
            xs = [places[cell["share"]] + (apart if cell["share"] else 0) for cell in mine]
            look = {"color": SERIES[(k - 1) % len(SERIES)] if k else INK, "marker": MARKERS[k % len(MARKERS)]}
            _line(axis, mine, xs, label=short(title), **look)
            rings += [(x, cell["score"]) for x, cell in zip(xs, mine, strict=True) if cell["chosen"]]
        axis.plot(*zip(*rings, strict=True), "o", markersize=9.5, markerfacecolor="none", markeredgecolor=INK,
                  label="chosen", zorder=3)  # fmt: skip
        if None in shares:
            axis.axvline(places[None] - _RIGHT / 2, color=SOFT, linewidth=0.6, linestyle=(0, (2, 3)))
        names = ["own" if share is None else f"{share:.0%}" for share in shares]
        axis.set_xticks([places[share] for share in shares], names)
        axis.set(xlabel="generated share of the synthetic images", ylabel="gain in nats; above zero is better")
        axis.locator_params(axis="y", nbins=6)
        axis.grid(axis="y")

    return [Panel("Gain in log loss by generated share", draw, 3.0)]


def _line(axis: Any, cells: Sequence[Json], xs: Sequence[float], *, color: str, marker: str, label: str) -> None:
    """Draw a group's gains, joined where they have a share, and their intervals."""
    placed = list(zip(xs, cells, strict=True))
    known = [(x, c["score_low"], c["score_high"]) for x, c in placed if None not in (c["score_low"], c["score_high"])]
    if known:
        where, *ends = zip(*known, strict=True)
        axis.vlines(where, *ends, color=color, linewidth=1.2)
        for end in ends:
            axis.plot(where, end, "_", color=color, markersize=5)
    joined = [(x, cell["score"]) for x, cell in placed if cell["share"] is not None]
    axis.plot(*zip(*joined, strict=True), color=color, linewidth=1.1)
    points = [(x, cell["score"]) for x, cell in placed if cell["share"] != 0]
    axis.plot(*zip(*points, strict=True), color=color, linestyle="none", marker=marker, markersize=4.5, label=label)
