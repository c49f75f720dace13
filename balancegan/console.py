"""What people see: tables, bars, progress; and the one JSON document that scripts get.

Results go to stdout, everything else to stderr. On a terminal progress is a live bar, elsewhere plain lines.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from balancegan.data.scan import printable
from balancegan.errors import BalanceGANError, StoppedError

PLAIN_EVERY = 10.0  # seconds between plain progress lines


class Console:
    """Output of one command. `as_json` leaves stdout to the document alone."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False, no_color: bool = False):
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self.out = RichConsole(no_color=no_color or None, highlight=False, emoji=False)
        self.err = RichConsole(stderr=True, no_color=no_color or None, highlight=False, emoji=False)

    def result(self, document: dict[str, Any], show: Callable[[Console, dict[str, Any]], None]) -> None:
        """Print the command's result: the JSON document, or what `show` makes of it."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=True, allow_nan=False) + "\n")
        else:
            show(self, document)

    def print(self, *things: Any) -> None:
        """Print to stdout; text may hold rich markup and is wrapped on terminals only."""
        self.out.print(*things, soft_wrap=not self.out.is_terminal and all(isinstance(t, str) for t in things))

    def note(self, text: str) -> None:
        """One line about what is going on."""
        if not self.quiet:
            self.err.print(printable(text), markup=False, soft_wrap=True)

    def fail(self, error: BalanceGANError) -> None:
        """What happened and what to do, one line each; with --json also as the document on stdout."""
        message, hint = printable(error.message), printable(error.hint)
        word = "[bold yellow]stopped[/]" if isinstance(error, StoppedError) else "[bold red]error:[/]"
        self.err.print(f"{word} {escape(message)}", soft_wrap=True)
        if hint:
            self.err.print(escape(hint), soft_wrap=True)
        if self.as_json:
            body = {"message": message, "hint": hint, "exit_code": error.exit_code}
            sys.stdout.write(json.dumps({"schema_version": 1, "error": body}) + "\n")

    @contextmanager
    def progress(self) -> Iterator[ProgressView]:
        """A view that shows stages as they are reported; use it as a `Progress` and as a training `Monitor`."""
        view = ProgressView(self)
        try:
            yield view
        finally:
            view.close()


class ProgressView:
    """Shows progress calls: `view(stage, done, total)`, and the training loop's step, tick and note."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: RichProgress | None = None
        self._live: Live | None = None
        self._line = Text(style="dim")  # losses, under the bar
        if console.err.is_terminal and not console.quiet:
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            speed = TextColumn("{task.fields[speed]}")
            self._bars = RichProgress(TextColumn("{task.description}"), *columns, speed)
            self._live = Live(Group(self._bars, self._line), console=console.err, transient=True)
            self._live.start()
        self._task: Any = None
        self._stage = ""
        self._last = 0.0
        self._started: tuple[float, int] = (0.0, 0)

    def close(self) -> None:
        """Take the bar away."""
        if self._live:
            self._live.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` (0: not known) parts of a stage are done."""
        if self.console.quiet:
            return
        if self._bars:
            self._bar(stage, done, total)
        elif stage != self._stage or (total and done == total) or time.monotonic() - self._last > PLAIN_EVERY:
            if total and done != total and stage != self._stage:
                self._stage, self._last = stage, time.monotonic()
                return  # short stages get one line, at their end
            self._stage, self._last = stage, time.monotonic()
            self.console.note(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))

    def _bar(self, stage: str, done: int, total: int, speed: str | None = None) -> None:
        assert self._bars
        if stage != self._stage:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(escape(stage), total=total or None, completed=done, speed="")
            self._stage = stage
            self._line.plain = ""
        self._bars.update(self._task, completed=done, total=total or None)
        if speed is not None:
            self._bars.update(self._task, speed=speed)

    def step(self, stage: str, step: int, total: int) -> None:
        """Every training step."""
        if self._bars:
            self._bar(stage, step, total)

    def tick(self, row: dict[str, Any]) -> None:
        """Every few training steps: losses, speed, time left."""
        if self.console.quiet:
            return
        losses = " ".join(
            f"{key.removeprefix('loss/')}={value:.3g}" for key, value in row.items() if key.startswith("loss/")
        )
        speed = f"{row['images_per_second']:.0f} img/s"
        if self._bars:
            self._bar(row["stage"], row["stage_step"], row["stage_total"], speed)
            self._line.plain = losses
            return
        now, done, total = time.monotonic(), row["stage_step"], row["stage_total"]
        if row["stage"] != self._stage:
            self._stage, self._started, self._last = row["stage"], (now, done), 0.0
        if now - self._last > PLAIN_EVERY or done == total:
            self._last = now
            since, first = self._started
            left = ""
            if done > first:  # stages differ in speed: what is left of this one is all that can be told
                left = f", {human_time((total - done) * (now - since) / (done - first))} left"
            self.console.note(f"{row['stage']} {done:,}/{total:,}, {speed}{left}: {losses}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.note(text)


def human_time(seconds: float) -> str:
    """`48 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bar(share: float, width: int = 30) -> str:
    """A bar of block characters for a share between 0 and 1; never empty for a share above 0."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the columns named in `right` are aligned right."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def shown(text: str) -> str:
    """A name from disk made safe for the terminal and for rich's markup."""
    return escape(printable(text))


# What each command shows ---------------------------------------------------------------------------------------------


def show_inspect(console: Console, doc: dict[str, Any]) -> None:
    """Counts with bars, what is wrong, what to do."""
    counts = table("class", "images", "share", "", "to add", right=("images", "share", "to add"))
    top = max((c["count"] for c in doc["classes"]), default=1) or 1
    for c in sorted(doc["classes"], key=lambda c: -c["count"]):
        counts.add_row(
            shown(c["name"]),
            f"{c['count']:,}",
            f"{c['share']:.1%}",
            f"[cyan]{bar(c['count'] / top)}[/]",
            f"{c['to_add']:,}" if c["count"] else "–",
        )
    rate = "unknown" if doc["imbalance_rate"] is None else f"{doc['imbalance_rate']:.4g}"
    console.print(f"[bold]{doc['num_images']:,} images, {doc['num_classes']} classes, imbalance rate {rate}[/]")
    console.print(counts)
    console.print("")
    if doc.get("normalised_entropy") is not None:
        console.print(f"normalised entropy {doc['normalised_entropy']:.3f} (1 is balanced)")
    for title, key in (
        ("unreadable files", "bad_files"),
        ("groups of exact duplicates", "duplicates"),
        ("label conflicts (equal images in several classes)", "conflicts"),
        ("leaks (equal images in several splits)", "leaks"),
    ):
        if doc.get(key):
            console.print(f"[yellow]{len(doc[key]):,} {title}[/]")
            for item in doc[key][: 20 if console.verbose else 3]:
                text = f"{item['path']}: {item['reason']}" if "path" in item else "  =  ".join(item["paths"])
                console.print(f"  {shown(text)}")
    for note in doc.get("notes", []) if console.verbose else []:
        console.print(f"note: {shown(note)}")
    console.print("")
    for line in doc["advice"]:
        console.print(f"• {shown(line)}")


def show_imbalance(console: Console, doc: dict[str, Any]) -> None:
    """Counts before and after."""
    rows = table("class", "before", "after", right=("before", "after"))
    for name, before in doc["counts_before"].items():
        rows.add_row(shown(name), f"{before:,}", f"{doc['counts_after'].get(name, 0):,}")
    console.print(rows)
    console.print(f"imbalance rate {doc['imbalance_rate']:.4g}; written to {shown(doc['dst'])}")
    for note in doc["notes"]:
        console.print(f"• {shown(note)}")


def show_train(console: Console, doc: dict[str, Any]) -> None:
    """Where the run is and how fast it was."""
    state = "finished" if doc["finished"] else "stopped; the same command goes on from here"
    console.print(f"[bold]{shown(doc['run'])}[/]")
    console.print(
        f"{state}: {doc['steps']:,} steps, {doc['images_seen']:,} images in {human_time(doc['seconds'])}"
        f" ({doc['images_per_second']:.0f} images/s) on {doc['device']}"
    )
    here, run = Path.cwd(), Path(doc["run"])
    name = shown(str(run.relative_to(here) if run.is_relative_to(here) else run))
    console.print(f"look at {name}/samples" + (f", then: balancegan augment {name}" if doc["steps"] else ""))


def show_dry_run(console: Console, doc: dict[str, Any]) -> None:
    """Configuration and cost."""
    rows = table("setting", "value")
    for key in ("method", "preset", "device"):
        rows.add_row(key, str(doc[key]))
    for key, value in doc["config"].items():
        rows.add_row(key, shown(str(value)))
    console.print(rows)
    networks = ", ".join(f"{name} {n:,}" for name, n in doc["parameters"].items())
    console.print(f"parameters: {networks}")
    console.print(f"images: {doc['images']:,}")
    console.print(
        f"estimate for this machine: {human_time(doc['seconds_estimated'])}, {doc['memory_gib']:.2g} GiB; "
        "nothing was trained"
    )


def show_augment(console: Console, doc: dict[str, Any]) -> None:
    """Counts, what fell short, where the folder and the report are."""
    rows = table("class", "real", "synthetic", "rejected", "total", right=("real", "synthetic", "rejected", "total"))
    for c in doc["classes"]:
        rows.add_row(
            shown(c["name"]),
            *(f"{n:,}" for n in (c["real"], c["synthetic"], c["rejected"], c["real"] + c["synthetic"])),
        )
    console.print(rows)
    console.print(f"imbalance rate {doc['imbalance_rate_before']:.4g} -> {doc['imbalance_rate_after']:.4g}")
    if not doc["complete"]:
        names = ", ".join(shown(n) for n in doc["short"])
        console.print(
            f"[yellow]incomplete: {names} could not be filled without copies.[/] Train longer, or use --filter none."
        )
    findings = doc.get("findings", [])
    for finding in findings:
        if finding["level"] == "warning" or console.verbose:
            name = f"{finding['class']}: " if finding["class"] else ""
            console.print(f"• {finding['level']}: {shown(name + finding['text'])}")
    if more := 0 if console.verbose else sum(f["level"] == "note" for f in findings):
        console.print(f"• {more} more notes in the report")
    for note in doc["notes"]:
        console.print(f"• {shown(note)}")
    console.print(f"folder: [bold]{shown(doc['out'])}[/]")
    if doc["report"]:
        console.print(f"report: [bold]{shown(doc['report'])}[/]")


def show_sample(console: Console, doc: dict[str, Any]) -> None:
    """Where the pictures are."""
    console.print(f"{doc['images']} images in {shown(doc['out'])}")


def show_methods(console: Console, doc: dict[str, Any]) -> None:
    """One row per method."""
    rows = table("method", "paper", "classes", "image sizes")
    for m in doc["methods"]:
        sizes = " ".join(map(str, m["image_sizes"]))
        rows.add_row(m["name"], shown(m["paper"]), "conditional" if m["conditional"] else "unconditional", sizes)
    console.print(rows)
