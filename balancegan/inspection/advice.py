"""Advice on findings, in plain words: what they mean for balancing, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from balancegan.compute.machine import has_gpu
from balancegan.core.text import plural, printable
from balancegan.data.decode import is_colour_mode, is_deep_mode
from balancegan.inspection.resolution import inspection_note
from balancegan.methods import RECOMMENDED_ON_GPU, WHY_RECOMMENDED

if TYPE_CHECKING:
    from balancegan.inspection.findings import Group, Inspection


CLOSE_TO_BALANCED = 1.5
STRONG = 10.0
HOPELESS = 5
FEW = 50
SMALL_SIDE = 16
MOST_BY_DEFAULT = 20_000  # images; in larger sets, siblings are searched for only on request
TOO_MANY = (
    f"more than {MOST_BY_DEFAULT:,} images: only exact duplicates were searched for; `--duplicates near` also finds "
    "siblings"
)
_NAMED = 5


def advise(i: Inspection) -> Iterator[str]:
    """Yield one or two sentences per finding, the most important first."""
    yield from _balance(i)
    yield from _classes(i)
    yield from _broken(i)
    yield from _twice(i)
    yield from _pictures(i)
    yield from _next(i)


def _balance(i: Inspection) -> Iterator[str]:
    if i.imbalance_rate is None:
        yield f"the {i.split} split has no readable images"
        return
    ir = f"IR {i.imbalance_rate:.4g}"
    big = f"{printable(i.majority.name)} has {i.majority.count:,} images"
    small = f"{printable(i.minority.name)} {i.minority.count:,}"
    if i.imbalance_rate <= CLOSE_TO_BALANCED:
        yield f"{ir}: close to balanced, nothing to do"
    elif i.imbalance_rate < STRONG:
        yield f"{ir}: moderately imbalanced ({big}, {small}); plain oversampling with flips may be enough"
    else:
        yield f"{ir}: strongly imbalanced ({big}, {small}); a classifier will tend to overlook the small classes"


def _classes(i: Inspection) -> Iterator[str]:
    empty = [c.name for c in i.classes if c.count == 0]
    if empty:
        yield f"no {i.split} images in {_names(empty)}: left out of the IR; nothing can be learned from an empty class"
    for c in sorted((c for c in i.classes if 0 < c.count < FEW), key=lambda c: c.count)[:_NAMED]:
        has = f"{printable(c.name)} has {plural(c.count, 'image')}"
        if c.count < HOPELESS:
            yield f"{has}: too few to hold any out or to learn from; a generator can only repeat them, so gather more"
        else:
            yield f"{has}: expect near-copies; gather more if you can, and keep `--filter copies`"
    rest = sum(0 < c.count < FEW for c in i.classes) - _NAMED
    if rest > 0:
        yield f"{plural(rest, 'more class has', 'more classes have')} fewer than {FEW} images: the same applies to them"


def _broken(i: Inspection) -> Iterator[str]:
    if i.bad_files:
        first = i.bad_files[0]
        yield (
            f"{plural(len(i.bad_files), 'file')} cannot be used (e.g. {printable(first.path)}: {first.reason}); "
            "training skips them; `--strict` makes them an error"
        )
    yield from i.warnings


def _twice(i: Inspection) -> Iterator[str]:
    if i.conflicts:
        yield (
            f"{plural(len(i.conflicts), 'image is', 'images are')} in more than one class "
            f"(e.g. {_example(i.conflicts[0])}): correct the labels first"
        )
    if i.leaks:
        yield (
            f"{plural(len(i.leaks), 'image is', 'images are')} in more than one split "
            f"(e.g. {_ends(i.leaks[0], '=')}): test results would be too good; keep only one copy of each"
        )
    if i.duplicates:
        extra = sum(len(g.paths) - 1 for g in i.duplicates)
        yield (
            f"{plural(extra, 'image is an exact copy', 'images are exact copies')} within a class "
            f"(e.g. {_example(i.duplicates[0])}): they count as images but add nothing"
        )
    yield from _siblings(i)
    yield from (note for note in i.notes if note == TOO_MANY)
    if i.duplicates_mode == "off":
        yield "only headers were read, so duplicates and files damaged after the header were not found"


def _siblings(i: Inspection) -> Iterator[str]:
    if i.siblings:
        sizes = [len(g.paths) for g in i.siblings]
        yield (
            f"{plural(sum(sizes), 'image has', 'images have')} siblings, which probably show the same object or scene "
            f"({plural(len(sizes), 'group')}, largest {max(sizes):,}, e.g. {_example(i.siblings[0], '~')}): "
            + (
                "the report's verdict leaves out test images with siblings in training"
                if "test" in i.splits or "val" in i.splits
                else "`train` keeps each group on one side of its split (`--group-by auto`, the default; "
                "`--group-by FILE.csv` where you know the groups)"
            )
        )
    if i.pattern:
        yield f"file names tell which images belong together: `--group-by '{i.pattern}'` groups by them alone"
    if across := i.sibling_leaks:
        yield (
            f"{plural(len(across), 'group of siblings spans', 'groups of siblings span')} more than one split "
            f"(e.g. {_ends(across[0], '~')}): check them, because testing on siblings of training images inflates "
            "every result; move each group into one split"
        )
    if i.of_one_group:
        each = "each of " if len(i.of_one_group) > 1 else ""
        yield (
            f"all images of {each}{_names([*i.of_one_group])} belong to one group: no honest test is possible; gather "
            "images of other objects"
        )


def _pictures(i: Inspection) -> Iterator[str]:
    sizes = i.image_sizes
    if sizes is None:
        return
    if min(sizes.min_width, sizes.min_height) < SMALL_SIDE:
        yield (
            f"the smallest width is {sizes.min_width} and the smallest height {sizes.min_height} pixels: "
            f"images below {SMALL_SIDE} pixels hold little to learn from"
        )
    ratios = [s.width / s.height for s in sizes.common]
    if max(ratios) / min(ratios) > 1.5:
        yield "aspect ratios differ: `--fit crop` or `--fit pad` keeps shapes; the default makes every image square"
    grey = sum(n for mode, n in i.modes.items() if not is_colour_mode(mode))
    if 0 < grey < i.num_images:
        yield (
            f"{grey:,} of {i.num_images:,} images are grey, the others in colour: "
            "check that this does not reveal the class"
        )
    deep = sum(n for mode, n in i.modes.items() if is_deep_mode(mode))
    if 0 < deep < i.num_images:
        yield f"{deep:,} images are 16-bit or float, the others 8-bit: their brightness is scaled separately"


def _next(i: Inspection) -> Iterator[str]:
    if i.split != "train" or i.imbalance_rate is None or i.imbalance_rate <= CLOSE_TO_BALANCED:
        return
    if i.image_sizes and (note := inspection_note(i.image_sizes.median_side)):
        yield note
    here, path = Path.cwd(), Path(i.root)
    root = printable(f"./{path.relative_to(here)}" if path != here and path.is_relative_to(here) else i.root)
    shown = f'"{root}"' if " " in root else root
    added = sum(c.to_add for c in i.classes if c.count)
    train, why = f"`balancegan train {shown}` (without a GPU: `--preset tiny`)", ""
    if has_gpu():
        train = f"`balancegan train {shown} --method {RECOMMENDED_ON_GPU}`"
        why = f"; this machine has a GPU, where `{RECOMMENDED_ON_GPU}` is recommended: {WHY_RECOMMENDED}"
    yield (
        f"next: {train}, then `balancegan augment --target-ir {i.target_ir:g}` adds "
        f"{plural(added, 'synthetic image')}: generated ones as far as they help, transformed real ones otherwise{why}"
    )


def _example(group: Group, sign: str = "=") -> str:
    return f" {sign} ".join(printable(p) for p in group.paths[:2])


def _ends(group: Group, sign: str) -> str:
    """The first and the last image of a group that spans several splits, which are in different ones."""
    return f"{printable(group.paths[0])} {sign} {printable(group.paths[-1])}"


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(n) for n in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
