"""Parsers of option values: class counts, class names, seeds, imbalance rates."""

from __future__ import annotations

import csv
import re

from balancegan.core.errors import UsageError

MOST_SEEDS = 10_000
MOST_SEED_COUNT = 100


def parse_counts(text: str | None) -> dict[str, int]:
    """Parse `ring=500,schizont=300` into a dict; names with commas are quoted as in CSV."""
    result: dict[str, int] = {}
    for part in parse_names(text):
        name, _, number = part.rpartition("=")
        if not name.strip() or not re.fullmatch("[0-9]{1,12}", number.strip()):
            raise UsageError(f"--counts {part!r} is not class=number", "write e.g. --counts ring=500,schizont=300")
        if name.strip() in result:
            raise UsageError(f"--counts names {name.strip()!r} twice", "name each class once")
        result[name.strip()] = int(number.strip())
    return result


def parse_names(text: str | None) -> tuple[str, ...]:
    """Parse `ring,schizont` into a tuple; names with commas are quoted as in CSV."""
    try:
        fields = next(csv.reader([text], skipinitialspace=True), []) if text else []
    except csv.Error as error:
        raise UsageError(f"{text!r} is not a list of names ({error})", "write e.g. ring,schizont") from None
    return tuple(dict.fromkeys(name.strip() for name in fields if name.strip()))


def parse_seeds(text: str) -> list[int]:
    """Parse `0-3,7` into [0, 1, 2, 3, 7]."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or len(seeds) + last - first >= MOST_SEEDS:
            hint = f"write e.g. --seeds 0-15 or --seeds 3,7,20-29; at most {MOST_SEEDS:,}"
            raise UsageError(f"--seeds {text[:60]!r} is not a list of seeds", hint)
        seeds.extend(range(first, last + 1))
    return seeds


def parse_seed_count(text: str) -> tuple[int, ...]:
    """Parse a number (`3`: seeds 0, 1, 2) or a list (`0,5,7`, `0-4`); `5,` is a list of one."""
    if re.fullmatch("[0-9]+", text.strip()):  # int() knows fewer spaces than strip()
        text = text.strip()
        if len(text) > 18 or int(text) > MOST_SEED_COUNT:
            raise UsageError(f"--seeds {text.strip()[:20]} is above {MOST_SEED_COUNT}", "write e.g. --seeds 3")
        return tuple(range(int(text)))
    return tuple(dict.fromkeys(parse_seeds(text.rstrip().removesuffix(","))))


def parse_rates(text: str | None) -> tuple[float, ...]:
    """Parse `1,5,100` into (1.0, 5.0, 100.0)."""
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(","))) if text else ()
    except ValueError:
        raise UsageError(f"--ir {text!r} is not a list of imbalance rates", "write e.g. --ir 1,5,20,50,100") from None
