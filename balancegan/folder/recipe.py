"""What the small classes are filled with: how many images each gets, and which part of them is generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from balancegan.core.documents import Json
from balancegan.core.errors import UsageError
from balancegan.core.options import Fill, Filter, require_range
from balancegan.data.imbalance import to_add
from balancegan.data.training_set import TrainingSet
from balancegan.data.variations import Changes
from balancegan.metrics.features import Images
from balancegan.metrics.kept_classes import safe_changes
from balancegan.verdict.material import ClassImages

LOOK = 64  # generated images of each class in the first look
SEARCHED, MOST_SEARCHED = 500, 5000  # of each class in the search, and of all together
PER_REAL = 3  # generated images beside the folder for each real one, at most
TRIES = 10  # samples for each generated image that is wanted, at most; the rest of a class is filled otherwise


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
        target_ir: fill each class to ceil(majority / target_ir); None means 1.
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
    return {name: n if name in (classes or counts) else 0 for name, n in missing.items()}


def require_share(fill: Fill, share: float | None) -> None:
    """Raise `UsageError` for a share that is impossible or contradicts the fill."""
    require_range("share", share, 0, 1)
    if share is not None and fill != "auto":
        raise UsageError(f"--share does not apply to --fill {fill}", "leave one of them out")


@dataclass(frozen=True)
class Recipe:
    """Which part of each class's synthetic images is generated; the others are transformed real images.

    `shares` (K,). `filter` is that of the generated images. `why` says in a sentence how the shares were chosen, `how`
    which images decided (empty if none did). `rows` is the table of the search, and `hopeless` whether the first look
    ended it.
    """

    shares: tuple[float, ...]
    changes: Changes = field(default_factory=Changes)
    why: str = ""
    how: str = ""
    rows: tuple[Json, ...] = ()
    hopeless: bool = False
    filter: Filter = "copies"

    def to_json(self) -> Json:
        """Return the fields, for a record on disk."""
        return {**asdict(self), "shares": list(self.shares), "rows": list(self.rows)}

    @classmethod
    def from_json(cls, found: Json) -> Recipe:
        """Read what `to_json` returned."""
        known = {name: found[name] for name in ("why", "how", "hopeless", "filter")}
        return cls(tuple(found["shares"]), Changes.from_json(found["changes"]), rows=tuple(found["rows"]), **known)


@dataclass(frozen=True)
class Amounts:
    """Synthetic images of one class: in the folder by kind, and generated ones beside it."""

    generated: int
    transformed: int
    beside: int = 0

    @property
    def fill(self) -> int:
        """Images in the folder."""
        return self.generated + self.transformed


def amounts(recipe: Recipe, fill: Sequence[int], real: Sequence[int], *, beside: bool) -> list[Amounts]:
    """Return what each class gets (K,); `beside`: deliver generated images that the folder does not take."""
    found = []
    for share, n, images in zip(recipe.shares, fill, real, strict=True):
        generated = round(share * n)
        most = LOOK if recipe.hopeless else searched(fill)
        found.append(Amounts(generated, n - generated, min(n - generated, PER_REAL * images, most) if beside else 0))
    return found


def searched(fill: Sequence[int]) -> int:
    """Generated images of each class in the search."""
    return max(LOOK, min(SEARCHED, MOST_SEARCHED // max(1, sum(n > 0 for n in fill))))


def given_recipe(data: TrainingSet, fill: Fill, share: float | None) -> Recipe | None:
    """Return the recipe that the user named, or None if it is to be measured."""
    size = len(data.class_names)
    if fill == "generated":
        return Recipe((1.0,) * size, why="The classes are filled with generated images alone, as you asked.")
    if fill == "transformed":
        why = "The classes are filled with transformed real images alone, as you asked."
        return Recipe((0.0,) * size, class_keeping_changes(data), why)
    if share is not None:
        rest = "; the rest are transformed real images" if share < 1 else ""
        why = f"{share:.0%} of the synthetic images are to be generated, as you asked{rest}."
        return Recipe((share,) * size, class_keeping_changes(data), why)
    return None


def class_keeping_changes(data: TrainingSet) -> Changes:
    """Return the changes of an image that keep its class, as classifiers of the training images find."""
    return safe_changes([data.store.images[rows] for rows in data.by_class(data.train_rows)])


def recipe_json(recipe: Recipe, classes: Sequence[ClassImages], fill: Fill = "auto") -> Json:
    """Return the recipe as part of the report's document; `fill` is what the user asked for."""
    share = overall_share(classes)
    return {"fill": fill, "share": share, "rows": list(recipe.rows), "why": recipe.why, "how": recipe.how}


def overall_share(classes: Sequence[ClassImages]) -> float:
    """Return the generated part of all synthetic images; 0 without any."""
    return sum(c.generated for c in classes) / max(1, sum(c.synthetic for c in classes))


def first_of(images: Sequence[Images], label: int, n: int) -> Images:
    """Return the first n images of a class; with the images of every class, it serves as `Drawn`."""
    return images[label][:n]


def mixed_classes(
    classes: Sequence[ClassImages], recipe: Recipe, fill: Sequence[int], *, more: bool
) -> list[ClassImages]:
    """Return the classes as a folder filled by the recipe would hold them; `more`: more images could be generated."""
    parts = amounts(recipe, fill, [c.real for c in classes], beside=False)
    made = [of.generated if more else min(of.generated, len(c.fake)) for c, of in zip(classes, parts, strict=True)]
    return [
        replace(c, generated=n, transformed=of.fill - n, requested=of.fill)
        for c, of, n in zip(classes, parts, made, strict=True)
    ]


def closing_lines(recipe: Recipe, result: dict[str, Any]) -> list[str]:
    """Say in plain words what went in, what was left out, and what that means for training."""
    synthetic = sum(c["synthetic"] for c in result["classes"])
    if not synthetic:
        return []
    generated = sum(c["generated"] for c in result["classes"])
    lines = [recipe.why]
    if generated == 0 and any(recipe.shares):
        lines.append("None could be made that passes the filter.")
    if generated == 0:
        text = f"The {synthetic:,} synthetic images are variations of real training images ({recipe.changes})"
        if result["imbalance_rate_after"] == 1:
            text += ": since all classes are equally large now, training on the folder is like oversampling"
        lines.append(f"{text}.")
    elif generated < synthetic:
        lines.append(
            f"Of {synthetic:,} synthetic images, {generated:,} are generated and {synthetic - generated:,} are "
            f"variations of real training images ({recipe.changes})."
        )
    if result["generated_folder"]:
        left = sum(c["beside"] for c in result["classes"])
        lines.append(
            f"{left:,} generated images that the folder does not use are in {result['generated_folder']}. To fill the "
            "classes with generated images all the same, use --fill generated and a new --out."
        )
    return lines
