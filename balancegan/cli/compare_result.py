"""What `compare` prints."""

from __future__ import annotations

from typing import Any

from balancegan.cli.console import Console
from balancegan.cli.tables import shown, table
from balancegan.core.text import SCALE, significant

SHOWN_CLASSES = 6  # most class columns of a table on the terminal; the page shows all
_CAPTIONS = {
    "fid": "FID (lower is better)",
    "kid": "KID x 1000 (lower is better)",
    "ssim": "SSIM to real images (higher is better, except for copies)",
    "copy_rate": "Copies of training images, in % (lower is better)",
}


def show_compare(console: Console, doc: dict[str, Any]) -> None:
    """Print the papers' table for every imbalance rate and measure, the findings, and the page's path."""
    for block in doc["table"]:
        where = f"imbalance rate {block['imbalance_rate']:.4g}"
        for measure, part in block["measures"].items():
            console.print(f"[bold]{_CAPTIONS[measure]}[/], {where}")
            console.print(_comparison_table(part, measure))
            if (more := len(part["columns"]) - 2 - SHOWN_CLASSES) > 0:
                console.print(f"[dim]{more} more classes on the page[/]")
            console.print("")
        if block["distribution"]:
            console.print(f"[bold]Share of samples / share of training set[/], {where}")
            console.print(_distribution(block["distribution"]))
            console.print("")
    for finding in doc["findings"]:
        console.print(f"• {finding['level']}: {shown(finding['text'])}")
    console.print(f"page: [bold]{shown(doc['page'])}[/]")


def _distribution(doc: dict[str, Any]) -> Any:
    """Return Damage GAN's Table 4."""
    classes = [shown(name) for name in doc["classes"][:SHOWN_CLASSES]]
    titles = [*classes, "mean", "mean distance from 1"]
    rows = table("method", *titles, right=tuple(titles))
    for row in doc["rows"]:
        values = [*row["values"][: len(classes)], row["mean"], row["mean_deviation"]]
        name = shown(row["method"]) if row["kind"] == "synthetic" else "[dim]  a perfect generator[/]"
        rows.add_row(name, *(_mean_std({**value, "best": False}, 1) for value in values))
    return rows


def _comparison_table(part: dict[str, Any], measure: str) -> Any:
    columns = part["columns"][: 2 + SHOWN_CLASSES]
    titles = [shown(c["title"]) for c in columns]
    rows = table("method", *titles, right=tuple(titles))
    for row in part["rows"]:
        values = [_mean_std(v, SCALE[measure]) for v in row["values"][: len(columns)]]
        failed = f" [red]({row['failed']} failed)[/]" if row["failed"] else ""
        rows.add_row(shown(row["method"]) + failed, *values)
    if gain := part["improvement"]:
        shares = ["–" if v is None else f"{v:+.1%}" for v in gain["values"][: len(columns)]]
        rows.add_row(f"[dim]gain over {shown(gain['over'])}[/]", *shares)
    return rows


def _mean_std(value: dict[str, Any], scale: float) -> str:
    if value["mean"] is None:
        return "–"
    mean = significant(scale * value["mean"])
    text = f"[bold]{mean}[/]" if value["best"] else mean
    if value["std"] is None:
        return text
    return text + f"\n[dim]±{significant(scale * value['std'])}[/]"  # on its own line, to keep columns narrow
