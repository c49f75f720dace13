"""What people see: progress on a terminal and in a log, names that try to be markup."""

import io

from rich.console import Console as RichConsole

from balancegan.cli.console import Console
from balancegan.cli.tables import bar
from balancegan.core.text import human_time

ROW = {
    "step": 40,
    "stage_step": 40,
    "stage_total": 100,
    "stage": "adversarial",
    "images_per_second": 123.4,
    "loss/d/real": 0.5,
    "loss/g/fake": 2.0,
}


def console(terminal: bool, **options) -> tuple[Console, io.StringIO]:
    made, text = Console(**options), io.StringIO()
    made.err = RichConsole(file=text, force_terminal=terminal, width=80, highlight=False, emoji=False)
    return made, text


def test_a_terminal_shows_stage_step_speed_time_and_losses():
    made, text = console(terminal=True)
    with made.progress() as view:
        view("decode", 5, 10)  # too short to be drawn
        view.step("adversarial", 39, 100)
        view.tick(ROW)
        view.note("[red]kept as it is[/]")
    shown = text.getvalue()
    for word in ("adversarial", "40/100", "123 img/s", "d/real=0.5", "g/fake=2", "[red]kept"):
        assert word in shown, word


def test_a_log_gets_plain_lines_now_and_then(monkeypatch):
    from balancegan.cli import console as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    made, text = console(terminal=False)
    with made.progress() as view:
        for step in range(1, 101):
            clock[0] += 1
            view.step("adversarial", step, 100)
            view.tick({**ROW, "step": step, "stage_step": step})
    lines = text.getvalue().splitlines()
    assert 8 <= len(lines) <= 12 and "adversarial 1/100" in lines[0] and "100/100" in lines[-1]
    assert "88 s left" in lines[1] and "d/real=0.5" in lines[1] and "\x1b" not in text.getvalue()


def test_quiet_shows_no_progress():
    made, text = console(terminal=True, quiet=True)
    with made.progress() as view:
        view("decode", 5, 10)
        view.tick(ROW)
        view.note("hello")
    assert text.getvalue() == ""


def test_bars_and_times():
    assert bar(0) == "" and bar(1e-6) == "▏" and bar(1, 4) == "████" and bar(0.5, 3) == "█▌"
    assert [human_time(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]
