"""Terminal output: tables, bars and progress for people, one JSON document for scripts.

Results go to stdout, everything else to stderr. Progress is a live bar on a terminal and plain lines elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from balancegan.cli.tables import matrix_table
from balancegan.commands.compare.matrix import Matrix
from balancegan.core.errors import BalanceGANError, QualityGateError, StoppedError
from balancegan.core.text import human_time, printable

PLAIN_EVERY = 10.0  # seconds between plain progress lines


class _Output(RichConsole):
    """A stdout whose reader may close it early, as `head` does; that is not an error."""

    def on_broken_pipe(self) -> None:
        """Called by rich; ends the command with exit code 0 (`registrar.registrar`)."""
        raise BrokenPipeError


class Console:
    """Output of one command. `as_json` reserves stdout for the document."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False, no_color: bool = False):
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self.out = _Output(no_color=no_color or None, highlight=False, emoji=False)
        self.err = RichConsole(stderr=True, no_color=no_color or None, highlight=False, emoji=False)

    def result(self, document: dict[str, Any], show: Callable[[Console, dict[str, Any]], None]) -> None:
        """Print the command's result as JSON, or with `show`."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=True, allow_nan=False) + "\n")
        else:
            show(self, document)

    def print(self, *things: Any) -> None:
        """Print to stdout; text may contain rich markup and is wrapped on terminals only."""
        self.out.print(*things, soft_wrap=not self.out.is_terminal and all(isinstance(t, str) for t in things))

    def note(self, text: str) -> None:
        """Print one line of information on stderr, unless quiet."""
        if not self.quiet:
            self._tell(printable(text), markup=False)

    def _tell(self, text: str, *, markup: bool = True) -> None:
        """Write a line to stderr; a closed stderr must not end the work."""
        with contextlib.suppress(OSError, SystemExit):  # rich exits when a pipe is closed
            self.err.print(text, markup=markup, soft_wrap=True)

    def fail(self, error: BalanceGANError) -> None:
        """Print what happened and what to do, one line each; with --json also as a document on stdout."""
        message, hint = printable(error.message), printable(error.hint)
        word = "[bold yellow]stopped[/]" if isinstance(error, StoppedError) else "[bold red]error:[/]"
        self._tell(f"{word} {escape(message)}")
        if hint:
            self._tell(escape(hint))
        if self.verbose and error.__cause__ is not None:
            self._tell("".join(traceback.format_exception(error.__cause__)), markup=False)
        if self.as_json:
            with contextlib.suppress(OSError):  # standard output may be what failed
                print_error(error)

    def gate(self, passed: dict[str, Any] | None) -> None:
        """Exit with the quality gate's code if `--fail-under` was given and not reached.

        The result has been printed by then, so a script gets one document that includes the reason.
        """
        if passed and not passed["passed"]:
            self.err.print(f"[bold red]below --fail-under:[/] {escape(passed['reason'])}", soft_wrap=True)
            raise SystemExit(QualityGateError.exit_code)

    @contextmanager
    def progress(self) -> Iterator[ProgressView]:
        """Yield a progress view, which is a `Progress`, a training `Monitor` and a comparison's `Board`."""
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
        self._above = Group()  # a comparison's table
        if console.err.is_terminal and not console.quiet:
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            speed = TextColumn("{task.fields[speed]}")
            self._bars = RichProgress(TextColumn("{task.description}"), *columns, speed)
            self._live = Live(Group(self._above, self._bars, self._line), console=console.err, transient=True)
            self._live.start()
        self._task: Any = None
        self._stage = ""
        self._cells: Any = None
        self._last = 0.0
        self._started: tuple[float, int] = (0.0, 0)

    def close(self) -> None:
        """Remove the bar."""
        if self._live:
            self._live.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of a stage's `total` parts (0: unknown) are done."""
        if self.console.quiet:
            return
        if self._bars:
            self._bar(stage, done, total)
        elif stage != self._stage or (total and done == total) or time.monotonic() - self._last > PLAIN_EVERY:
            if total and done != total and stage != self._stage:
                self._stage, self._last = stage, time.monotonic()
                return  # short stages get one line, when they end
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
        """Show a training step; called for every step."""
        if self._bars:
            self._bar(stage, step, total)

    def tick(self, row: dict[str, Any]) -> None:
        """Show losses, speed and time left; called every few training steps."""
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
            if done > first:  # stages differ in speed, so this is the time left in this one
                left = f", {human_time((total - done) * (now - since) / (done - first))} left"
            self.console.note(f"{row['stage']} {done:,}/{total:,}, {speed}{left}: {losses}")

    def note(self, text: str) -> None:
        """Print a line that stays on screen."""
        self.console.note(text)

    def matrix(self, matrix: Matrix) -> None:
        """Show a comparison's state: a table above the bar, or a line whenever a cell begins or ends."""
        if self.console.quiet:
            return
        over, total = matrix.position
        left = matrix.seconds_left()
        head = f"{over} of {total} training runs" + (
            f", about {human_time(left)} left" if left and over < total else ""
        )
        if self._bars:
            self._above.renderables[:] = [Text(head, style="bold"), matrix_table(matrix), Text()]
            return
        running = next((cell for cell, state in matrix.states.items() if state.status == "running"), None)
        if (over, running) != self._cells:
            self._cells = (over, running)
            self.console.note(head + (f": {running.label}" if running else ""))


def print_error(error: BalanceGANError) -> None:
    """Print an error as the one JSON document on stdout."""
    body = {"message": printable(error.message), "hint": printable(error.hint), "exit_code": error.exit_code}
    sys.stdout.write(json.dumps({"schema_version": 1, "error": body}) + "\n")
