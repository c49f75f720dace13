"""Plan how many synthetic images every class gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from balancegan.core.errors import UsageError
from balancegan.core.text import printable
from balancegan.data.imbalance import to_add

PER_REAL = 3
"""Maximum number of synthetic images per real image of a class if the user requests no amount: more of them, of poor
quality, would swamp the real ones (docs/quality.md).
"""


def targets(
    counts: Mapping[str, int],
    *,
    totals: Mapping[str, int] | None = None,
    target_ir: float | None = None,
    classes: Sequence[str] = (),
) -> dict[str, int]:
    """Return how many synthetic images each class gets.

    Args:
        counts: real images of each class.
        totals: total images to reach, by class; cannot be combined with the other two.
        target_ir: fill each class to ceil(majority / target_ir). None means 1, but at most `PER_REAL` images for each
            real one.
        classes: only these get images; empty means all.

    Raises:
        UsageError: for impossible amounts or unknown names.
    """
    totals = totals or {}
    if totals and (classes or target_ir is not None):
        raise UsageError("--counts cannot be combined with --target-ir or --classes", "use one or the other")
    missing = to_add(counts, 1.0 if target_ir is None else target_ir)
    for name in (*totals, *classes):
        if name not in counts:
            raise UsageError(f"this run has no class {name!r}", f"its classes: {', '.join(counts)}")
    for name, total in totals.items():
        if total < counts[name]:
            raise UsageError(
                f"--counts {name}={total} is less than the class's {counts[name]} real images",
                "real images are never dropped",
            )
    if totals:
        return {name: totals.get(name, n) - n for name, n in counts.items()}
    need = {name: n if name in (classes or counts) else 0 for name, n in missing.items()}
    return need if target_ir is not None else {name: min(n, PER_REAL * counts[name]) for name, n in need.items()}


def capped_note(counts: Mapping[str, int], need: Mapping[str, int], classes: Sequence[str] = ()) -> str | None:
    """Return a note naming the classes that `PER_REAL` keeps from being filled, or None if there are none."""
    everything = targets(counts, target_ir=1.0, classes=classes)
    capped = [printable(name) for name, n in need.items() if n < everything[name]]
    if not capped:
        return None
    more = "Adding more lowered accuracy in our tests; `--target-ir 1` fills every class."
    return f"{', '.join(capped)}: limited to {PER_REAL} synthetic images for each real one. {more}"
