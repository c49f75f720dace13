"""Tables and bars for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from balancegan.commands.compare.matrix import Matrix, State
from balancegan.core.text import printable


def bar(share: float, width: int = 30) -> str:
    """Return a bar of block characters for a share between 0 and 1; never empty for a share above 0."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return a plain table; the columns named in `right` are right-aligned."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def shown(text: str) -> str:
    """Make a name from disk safe for the terminal and for rich's markup."""
    return escape(printable(text))


def matrix_table(matrix: Matrix) -> Table:
    """Return a table of progress: one row per method, one column per seed (and imbalance rate)."""
    first = matrix.rows()[0][1]
    result = table("method", *(f"seed {c.seed}" + (f", IR {c.ir:g}" if c.ir else "") for c, _ in first))
    for method, cells in matrix.rows():
        result.add_row(method, *(_cell_text(state) for _, state in cells))
    return result


def _cell_text(state: State) -> str:
    if state.status == "running":
        return f"[cyan]{state.fraction:.0%}[/]"
    return {"waiting": "[dim]·[/]", "done": "[green]done[/]", "failed": "[red]failed[/]"}[state.status]
