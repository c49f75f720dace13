"""`imbalance`: an imbalanced copy of a data set."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from balancegan.core.errors import DiskError, UsageError
from balancegan.core.files import copy_regular, is_litter, require_space
from balancegan.core.options import PLAIN_DATA, DataOptions
from balancegan.core.progress import Progress, silent
from balancegan.core.text import plural, printable
from balancegan.data.imbalance import draw_members, imbalance_rate, plan_counts, require_class
from balancegan.data.scan import ImageFile, ImageFolder, scan

_MARGIN = 16 << 20


@dataclass(frozen=True)
class ImbalanceResult:
    """What was copied. Counts are of the training split; `scheme` is "counts" if they were given one by one."""

    src: str
    dst: str
    scheme: str
    ir: float | None
    seed: int
    counts_before: dict[str, int]
    counts_after: dict[str, int]
    copied_files: int
    imbalance_rate: float
    warnings: tuple[str, ...] = ()  # of how the source was read

    def to_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {"schema_version": 1, **asdict(self), "notes": list(self.notes())}

    def notes(self) -> Iterator[str]:
        """Yield notes on where the result may not be what was intended."""
        yield from self.warnings
        if self.ir is not None and abs(self.imbalance_rate / self.ir - 1) > 0.05:
            yield (
                f"the imbalance rate is {self.imbalance_rate:.4g}, not {self.ir:g}: the source is imbalanced itself or "
                "has too few images; --majority names the class that stays full, --counts sets every class"
            )
        small = [printable(name) for name, n in self.counts_after.items() if 0 < n < 5]
        if small:
            yield f"fewer than 5 images are left in {', '.join(small[:5])}: too few to learn from"


def make_imbalanced(
    src: str | Path,
    dst: str | Path,
    *,
    scheme: str = "step",
    ir: float = 100.0,
    counts: Mapping[str, int] | None = None,
    majority: str | None = None,
    seed: int = 0,
    how: DataOptions = PLAIN_DATA,
    progress: Progress = silent,
) -> ImbalanceResult:
    """Copy a random part of the training images byte for byte, and every other split whole, under the same names.

    `counts` gives numbers for some classes (the others stay whole) instead of a scheme. Which images are kept
    depends on the seed, the class's name and its file names only. `dst` appears only once everything is
    copied. Raises UsageError, DatasetError, DiskError.
    """
    source, target = Path(src).absolute(), Path(dst).absolute()
    _check_places(source, target)
    folder = scan(source, how, progress=progress)
    before = folder.counts()
    if counts is None:
        after = plan_counts(before, scheme, ir, majority)
    else:
        if majority is not None:
            raise UsageError("a majority class cannot be combined with counts", "give one or the other")
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
        warnings=folder.warnings,
    )


def _check_places(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        raise UsageError(f"no such folder: {source}", "check the path")
    real, real_target = source.resolve(), target.resolve()
    if real == real_target or real in real_target.parents:
        raise UsageError(f"{target} is inside the source folder", "choose another place; the source is never modified")
    if real_target in real.parents:
        raise UsageError(f"{target} contains the source folder", "choose an empty or new folder")
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError(f"{target} exists and is not a folder", "choose another name")
    if target.is_dir() and not all(is_litter(path.name) for path in target.iterdir()):
        raise UsageError(f"{target} is not empty", "choose an empty or new folder; nothing is overwritten")


def _checked_counts(before: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    for name, n in wanted.items():
        require_class(name, before)
        if n < 1:
            raise UsageError(f"'{printable(name)}' would keep {n} images", "keep at least one image of every class")
        if n > before[name]:
            raise UsageError(
                f"'{printable(name)}' has {before[name]:,} training images, but {n:,} were requested",
                f"request {before[name]:,} or fewer",
            )
    return {name: wanted.get(name, n) for name, n in before.items() if n}


def _choose(folder: ImageFolder, keep: Mapping[str, int], seed: int) -> list[ImageFile]:
    """Return the training images to keep and all other splits; each class has its own random generator."""
    chosen = [f for f in folder.files if f.split != "train"]
    for label, name in enumerate(folder.classes):
        files = sorted((f for f in folder.files if f.split == "train" and f.label == label), key=folder.inner)
        chosen += draw_members(files, keep.get(name, 0), name, seed)
    return sorted(chosen, key=lambda f: f.rel)


def _copy_all(folder: ImageFolder, files: list[ImageFile], target: Path, progress: Progress) -> None:
    """Copy into a temporary folder beside the target, then rename it."""
    temporary = target.parent / f".{target.name}.tmp-{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_space(target.parent, files)
        temporary.mkdir()
        progress("copy", 0, len(files))
        for done, f in enumerate(files, 1):
            to = temporary / (folder.place(f) if folder.labelled else f.rel)
            to.parent.mkdir(parents=True, exist_ok=True)
            copy_regular(folder.path(f), to)
            with contextlib.suppress(OSError):  # buckets, CIFS and exFAT refuse
                shutil.copystat(folder.path(f), to)
            if done % 256 == 0 or done == len(files):
                progress("copy", done, len(files))
        if target.is_dir():  # holds at most what file managers leave; some systems cannot rename over a folder
            for path in target.iterdir():
                path.rename(temporary / path.name)
            target.rmdir()
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
