"""Measure imbalance, plan how to remove it, and create it as the papers do, from files instead of arrays."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from typing import TypeVar, get_args

from balancegan.core.errors import UsageError
from balancegan.core.options import Scheme
from balancegan.core.text import printable

SCHEMES = get_args(Scheme)
_NEAR = 1.25
T = TypeVar("T")


def plan_counts(counts: Mapping[str, int], scheme: str, ir: float, majority: str | None = None) -> dict[str, int]:
    """Return how many images each class keeps, at least one.

    `step` (SGBGAN 4.2): the first class in sorted order, or `majority`, keeps all its n images; every other class keeps
    n / IR. `exp` (Cui et al. 2019, long-tailed CIFAR): the i-th class keeps n * IR^(-i/(K-1)). Fractions are rounded
    down, as in the papers, and no class keeps more than it has (a balanced set gets exactly the requested IR).
    Raises UsageError for an unknown class or scheme, or an IR below 1.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"scheme '{scheme}' is unknown", f"choose one of {', '.join(SCHEMES)}")
    if not math.isfinite(ir) or ir < 1:
        hint = f"did you mean {1 / ir:g}?" if 0 < ir < 1 else "an imbalance rate is majority / minority, so at least 1"
        raise UsageError(f"the imbalance rate cannot be {ir:g}", hint)
    names = sorted(name for name, n in counts.items() if n)
    if majority is not None:
        require_class(majority, counts)
        names = [majority, *(n for n in names if n != majority)]
    first, last = counts[names[0]], max(1, len(names) - 1)
    powers = [min(i, 1) if scheme == "step" else i / last for i in range(len(names))]
    kept = {name: min(counts[name], _whole(first * ir**-power)) for name, power in zip(names, powers, strict=True)}
    return {name: kept[name] for name in counts if name in kept}


def _whole(number: float) -> int:
    return max(1, math.floor(number + 1e-9))  # 4500 / 100 must not become 44


def require_class(name: str, counts: Mapping[str, int]) -> None:
    """Raise `UsageError` unless the class has images."""
    if not counts.get(name):
        have = ", ".join(printable(n) for n in list(counts)[:10])
        raise UsageError(f"no class named '{printable(name)}' has training images", f"classes: {have}")


def draw_members(members: list[T], n: int, name: str, seed: int) -> list[T]:
    """Draw n members of a class at random, determined by the seed and the class's name."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big")).sample(members, n)


def thin(members: Mapping[str, list[T]], ir: float, seed: int) -> dict[str, list[T]]:
    """Return the members of each class that stay when a training set is thinned to an imbalance rate.

    Uses the `step` scheme: the largest class (the first by name among equals) keeps all its images; every other class
    keeps 1/IR of that number, at least one, drawn by `seed`. Raises UsageError if a class is already much smaller than
    that, because dropping its images cannot lower the imbalance rate (nearly balanced data may miss the rate by a
    quarter).
    """
    counts = {name: len(group) for name, group in members.items()}
    majority = min(counts, key=lambda name: (-counts[name], name))
    kept = plan_counts(counts, "step", ir, majority)
    small = min(counts, key=lambda name: counts[name])
    if counts[majority] / counts[small] > _NEAR * ir:
        raise UsageError(
            f"an imbalance rate of {ir:g} cannot be reached by dropping images: '{printable(small)}' has "
            f"{counts[small]:,} training images, '{printable(majority)}' has {counts[majority]:,}",
            f"choose {math.ceil(counts[majority] / counts[small])} or more",
        )
    return {name: draw_members(members[name], n, name, seed) for name, n in kept.items()}


def imbalance_rate(counts: Mapping[str, int]) -> float:
    """Return majority / minority (SGBGAN Eq. 11) over classes with at least one image; ValueError if there are none."""
    present = [n for n in counts.values() if n > 0]
    if not present:
        raise ValueError("no class has images")
    return max(present) / min(present)


def to_add(counts: Mapping[str, int], target_ir: float) -> dict[str, int]:
    """Return the images each class needs to reach ceil(majority / target_ir); UsageError if `target_ir` is below 1."""
    if not math.isfinite(target_ir) or target_ir < 1:
        meant = f" (did you mean {1 / target_ir:g}?)" if 0 < target_ir < 1 else ""
        raise UsageError(
            f"--target-ir cannot be {target_ir:g}{meant}",
            "the target is majority / minority: 1 makes all classes equal, 2 lets the largest be twice the smallest",
        )
    goal = math.ceil(max(counts.values(), default=0) / target_ir - 1e-9)  # 280 / 2.8 must not become 101
    return {name: max(0, goal - n) for name, n in counts.items()}


def normalised_entropy(counts: Mapping[str, int]) -> float | None:
    """Return the Shannon entropy of the class shares over log(K): 1 is balanced, 0 means one class has everything.

    None without images, or for a single class.
    """
    total = sum(counts.values())
    if total == 0 or len(counts) < 2:
        return None
    shares = [n / total for n in counts.values() if n]
    return max(0.0, -sum(p * math.log(p) for p in shares) / math.log(len(counts)))
