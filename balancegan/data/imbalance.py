"""An imbalanced copy of a data set: how the papers make their training sets, from files instead of arrays."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from balancegan.data.inspect import imbalance_rate
from balancegan.data.regular import copy_regular
from balancegan.data.scan import ImageFile, ImageFolder, plural, printable, scan
from balancegan.errors import DiskError, UsageError
from balancegan.files import require_space
from balancegan.progress import Progress, silent

SCHEMES = ("step", "exp")
_MARGIN = 16 << 20
_NEAR = 1.25
T = TypeVar("T")


@dataclass(frozen=True)
class ImbalanceResult:
    """What was copied; counts are of the training split, `scheme` is "counts" when they were given one by one."""

    src: str
    dst: str
    scheme: str
    ir: float | None
    seed: int
    counts_before: dict[str, int]
    counts_after: dict[str, int]
    copied_files: int
    imbalance_rate: float

    def to_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {"schema_version": 1, **asdict(self), "notes": list(self.notes())}

    def notes(self) -> Iterator[str]:
        """Where the result is not what was probably meant."""
        if self.ir is not None and abs(self.imbalance_rate / self.ir - 1) > 0.05:
            yield (
                f"the imbalance rate is {self.imbalance_rate:.4g}, not {self.ir:g}: the source is imbalanced itself or "
                "has too few images; --majority names the class that stays full, --counts sets every class"
            )
        small = [printable(name) for name, n in self.counts_after.items() if 0 < n < 5]
        if small:
            yield f"fewer than 5 images are left of {', '.join(small[:5])}: too few to learn from"


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
        _known(majority, counts)
        names = [majority, *(n for n in names if n != majority)]
    first, last = counts[names[0]], max(1, len(names) - 1)
    powers = [min(i, 1) if scheme == "step" else i / last for i in range(len(names))]
    kept = {name: min(counts[name], _whole(first * ir**-power)) for name, power in zip(names, powers, strict=True)}
    return {name: kept[name] for name in counts if name in kept}


def _whole(number: float) -> int:
    return max(1, math.floor(number + 1e-9))  # 4500 / 100 must not become 44


def _known(name: str, counts: Mapping[str, int]) -> None:
    if not counts.get(name):
        have = ", ".join(printable(n) for n in list(counts)[:10])
        raise UsageError(f"no training images of a class named '{printable(name)}'", f"classes: {have}")


def make_imbalanced(
    src: str | Path,
    dst: str | Path,
    *,
    scheme: str = "step",
    ir: float = 100.0,
    counts: Mapping[str, int] | None = None,
    majority: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ImbalanceResult:
    """Copy a random part of the training images byte for byte, and every other split whole, under the same names.

    `counts` gives numbers for some classes (the others stay whole) instead of a scheme. Which images are kept
    depends on the seed, the class's name and its file names only. `dst` appears at once when everything is
    copied. Raises UsageError, DatasetError, DiskError.
    """
    source, target = Path(src).absolute(), Path(dst).absolute()
    _check_places(source, target)
    folder = scan(source, progress=progress)
    before = folder.counts()
    if counts is None:
        after = plan_counts(before, scheme, ir, majority)
    else:
        if majority is not None:
            raise UsageError("a majority class has no meaning beside counts", "give one or the other")
        after = _checked_counts(before, counts)
    files = _choose(folder, after, seed)
    _copy_all(folder, files, target, progress)
    after = {name: after.get(name, 0) for name in before}
    by_counts = counts is not None
    return ImbalanceResult(
        src=str(source),
        dst=str(target),
        scheme="counts" if by_counts else scheme,
        ir=None if by_counts else ir,
        seed=seed,
        counts_before=before,
        counts_after=after,
        copied_files=len(files),
        imbalance_rate=imbalance_rate(after),
    )


def _check_places(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        raise UsageError(f"no such folder: {source}", "check the path")
    real, real_target = source.resolve(), target.resolve()
    if real == real_target or real in real_target.parents:
        raise UsageError(
            f"{target} is inside the source folder", "the source is never written to: choose another place"
        )
    if real_target in real.parents:
        raise UsageError(f"{target} contains the source folder", "choose an empty or new folder")
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError(f"{target} exists and is no folder", "choose another name")
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty", "choose an empty or new folder; nothing is overwritten")


def _checked_counts(before: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    for name, n in wanted.items():
        _known(name, before)
        if n < 1:
            raise UsageError(f"'{printable(name)}' would keep {n} images", "every class keeps at least one")
        if n > before[name]:
            raise UsageError(
                f"'{printable(name)}' has {before[name]:,} training images, {n:,} were asked for",
                f"ask for {before[name]:,} or fewer",
            )
    return {name: wanted.get(name, n) for name, n in before.items() if n}


def _choose(folder: ImageFolder, keep: Mapping[str, int], seed: int) -> list[ImageFile]:
    """Training images to keep, and all others; one generator per class, so that classes do not affect each other."""
    chosen = [f for f in folder.files if f.split != "train"]
    for label, name in enumerate(folder.classes):
        files = sorted((f for f in folder.files if f.split == "train" and f.label == label), key=folder.inner)
        chosen += _draw(files, keep.get(name, 0), name, seed)
    return sorted(chosen, key=lambda f: f.rel)


def _draw(members: list[T], n: int, name: str, seed: int) -> list[T]:
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
    return {name: _draw(members[name], n, name, seed) for name, n in kept.items()}


def _copy_all(folder: ImageFolder, files: list[ImageFile], target: Path, progress: Progress) -> None:
    """Copy into a temporary folder beside the target, then rename it."""
    temporary = target.parent / f".{target.name}.tmp-{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_space(target.parent, files)
        temporary.mkdir()
        progress("copy", 0, len(files))
        for done, f in enumerate(files, 1):
            to = temporary / f.rel
            to.parent.mkdir(parents=True, exist_ok=True)
            copy_regular(folder.path(f), to)
            shutil.copystat(folder.path(f), to)
            if done % 256 == 0 or done == len(files):
                progress("copy", done, len(files))
        with contextlib.suppress(FileNotFoundError):
            target.rmdir()  # empty, as checked; a rename over it fails on some systems
        temporary.rename(target)
    except OSError as e:
        raise DiskError(f"cannot write {target}: {e.strerror or e}", "check permissions and free space") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_space(where: Path, files: list[ImageFile]) -> None:
    block = 4096  # small files take whole blocks
    need = sum(-(-f.size // block) * block for f in files) + _MARGIN
    hint = "free some space or choose a folder on another disk"
    require_space(where, need, f"{plural(len(files), 'file')} need", hint)
