"""An imbalanced copy of a data set: how the papers make their training sets, from files instead of arrays."""

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
    """How many images each class keeps, at least one.

    `step` (SGBGAN 4.2): the first class in sorted order, or `majority`, stays whole with n images; every other
    keeps n / IR. `exp` (Cui et al. 2019, long-tailed CIFAR): n * IR^(-i/(K-1)) for the i-th class. Fractions are
    cut off, as in the papers' sets, and no class keeps more than it has (on a balanced set the result has exactly
    the asked IR). UsageError for an unknown class or scheme, or an IR below 1.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"scheme '{scheme}' is unknown", f"choose one of {', '.join(SCHEMES)}")
    if not math.isfinite(ir) or ir < 1:
        hint = f"did you mean {1 / ir:g}?" if 0 < ir < 1 else "an IR is majority / minority, 1 or more"
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
    """Raise `UsageError` unless a class has images."""
    if not counts.get(name):
        have = ", ".join(printable(n) for n in list(counts)[:10])
        raise UsageError(f"no training images of a class named '{printable(name)}'", f"classes: {have}")


def draw_members(members: list[T], n: int, name: str, seed: int) -> list[T]:
    """n members of a class, by the seed and the class's name."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big")).sample(members, n)


def thin(members: Mapping[str, list[T]], ir: float, seed: int) -> dict[str, list[T]]:
    """The members of each class that stay when a training set is thinned to an imbalance rate.

    The `step` scheme: the largest class (the first by name among equals) stays whole, of the others a 1/IR of its size
    is drawn by `seed`, at least one. UsageError where a class is much smaller than that already (data that are nearly
    balanced may miss the rate by a quarter): an imbalance rate does not fall by dropping images of the small classes.
    """
    counts = {name: len(group) for name, group in members.items()}
    majority = min(counts, key=lambda name: (-counts[name], name))
    kept = plan_counts(counts, "step", ir, majority)
    small = min(counts, key=lambda name: counts[name])
    if counts[majority] / counts[small] > _NEAR * ir:
        raise UsageError(
            f"an imbalance rate of {ir:g} cannot be reached by dropping images: '{printable(small)}' has "
            f"{counts[small]:,} to train on, '{printable(majority)}' {counts[majority]:,}",
            f"ask for {math.ceil(counts[majority] / counts[small])} or more",
        )
    return {name: draw_members(members[name], n, name, seed) for name, n in kept.items()}


def imbalance_rate(counts: Mapping[str, int]) -> float:
    """Majority / minority (SGBGAN Eq. 11) over classes with at least one image; ValueError when there is none."""
    present = [n for n in counts.values() if n > 0]
    if not present:
        raise ValueError("no class has images")
    return max(present) / min(present)


def to_add(counts: Mapping[str, int], target_ir: float) -> dict[str, int]:
    """Images each class needs to reach ceil(majority / target_ir); UsageError when `target_ir` is below 1."""
    if not math.isfinite(target_ir) or target_ir < 1:
        meant = f" (did you mean {1 / target_ir:g}?)" if 0 < target_ir < 1 else ""
        raise UsageError(
            f"--target-ir cannot be {target_ir:g}{meant}",
            "it is majority / minority: 1 makes all classes equal, 2 lets the largest be twice the smallest",
        )
    goal = math.ceil(max(counts.values(), default=0) / target_ir - 1e-9)  # 280 / 2.8 must not become 101
    return {name: max(0, goal - n) for name, n in counts.items()}


def normalised_entropy(counts: Mapping[str, int]) -> float | None:
    """Shannon entropy of the class shares over log(K): 1 is balanced, 0 means one class has everything."""
    total = sum(counts.values())
    if total == 0 or len(counts) < 2:
        return None
    shares = [n / total for n in counts.values() if n]
    return max(0.0, -sum(p * math.log(p) for p in shares) / math.log(len(counts)))
