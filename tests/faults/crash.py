"""Die somewhere, look at what is there, do the same again, and compare with what comes of it undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from check import UNTIDY, differences, state
from zygote import Child, Zygote

KILLED = -9
Broken = Callable[[Path], Iterable[str]]


def serious(problems: Iterable[str]) -> str:
    """Those after which a result is wrong, missing, or taken for whole when it is not."""
    return "\n".join(text for text in problems if UNTIDY not in text)


def untidy(problems: Iterable[str]) -> str:
    """The others: too many files."""
    return "\n".join(text for text in problems if UNTIDY in text)


MISSED = 2  # operations of a command that may not come


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something becomes true within that time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@dataclass
class Command:
    """A command whose results lie in `out`; `start` begins it there, `broken` says what a kill must not leave."""

    zygote: Zygote
    out: Path
    start: Callable[..., Child]
    broken: Broken
    expected: dict[str, Any] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def undisturbed(self) -> Command:
        """Do it once, and remember the result and every file operation."""
        record = self.out.with_name(f"{self.out.name}.operations")
        self.start(below=[self.out], record=record).document()  # what is imported or built at first use
        expected, self.points = state(self.out), record.read_text().splitlines()
        self.clear()
        began = time.monotonic()
        self.start().document()
        self.seconds = time.monotonic() - began
        self.expected = state(self.out)
        assert not differences(expected, self.expected)  # or there is nothing to compare with
        self.clear()
        return self

    def clear(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def every_kind(self) -> list[int]:
        """Numbers of operations, one of each kind, and the very last."""
        of_kind: dict[str, list[int]] = {}
        for number, kind in enumerate(self.points, 1):
            of_kind.setdefault(kind, []).append(number)
        return sorted({*(numbers[len(numbers) // 2] for numbers in of_kind.values()), len(self.points)})

    def everywhere(self) -> range:
        """Numbers of all operations."""
        return range(1, len(self.points) + 1)

    def kill_at(self, point: int | tuple[str, int]) -> bool:
        """Die just before the operation of that number, or that one of its kind; whether it came to that."""
        child = self.start(below=[self.out], kill_at=point)
        status = child.wait()
        assert status in (0, KILLED), child.output
        return status == KILLED

    def kill_after(self, seconds: float) -> bool:
        """Die that long after the start; whether it came to that."""
        child = self.start()
        if child.ended(seconds):
            child.document()
            return False
        child.kill()
        return child.wait() == KILLED

    def recover(self) -> list[str]:
        """What is wrong now, and what is wrong with the result after the same command."""
        problems = [f"at once: {text}" for text in self.broken(self.out)]
        for path in self.out.rglob(".tmp-*"):
            os.utime(path, (0, 0))  # as if the next call came much later
        child = self.start()
        if child.wait():
            return [*problems, f"again: ended with {child.status}: {child.output[-2000:]}"]
        return problems + [f"in the end: {text}" for text in differences(state(self.out), self.expected)]

    def crash_everywhere(self, numbers: Sequence[int]) -> list[str]:
        """Kill at each of these operations, every time from nothing; what went wrong.

        Threads that write files take turns as they like, so a run may have a few operations less than those counted.
        """
        problems: list[str] = []
        missed = 0
        for number in numbers:
            kind = self.points[number - 1]
            if not self.kill_at((kind, self.points[:number].count(kind))):
                missed += 1
                self.clear()
                continue
            where = f"killed before operation {number} ({kind})"
            problems += [f"{where}: {text}" for text in self.recover()]
            self.clear()
        assert missed <= MISSED
        return problems

    def crash_at_times(self, rng: random.Random, kills: int) -> tuple[list[str], list[float]]:
        """Kill after random times, every time from nothing; what went wrong, and how long each recovery took."""
        problems, recoveries = [], []
        while len(recoveries) < kills:
            after = rng.uniform(0, self.seconds)
            if self.kill_after(after):
                began = time.monotonic()
                problems += [f"killed after {after:.3f} s: {text}" for text in self.recover()]
                recoveries.append(time.monotonic() - began)
            self.clear()
        return problems, recoveries
