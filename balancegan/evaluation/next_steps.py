"""What to do next, derived from a report's evidence: how to train, what to change, what to gather."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from balancegan.core.documents import Json
from balancegan.core.text import printable
from balancegan.verdict.rule import DO_NOT_USE, NO_DIFFERENCE, USE, better_real_arm

FEW = 50  # real images; a generator of fewer mostly repeats them
MANY_COPIES = 0.2
ALTERNATIVES = {"edm": "sgbgan"}  # a method -> what to compare it with; all others with edm
_NAMED = 3  # classes
_RECIPES = {
    "real only": "on the real images as they are, without balancing",
    "oversampling": "on the real images, drawing every class equally often",
    "balanced softmax": "on the real images without balancing, with the balanced softmax loss",
    "oversampling with TrivialAugment": "on the real images, drawing every class equally often, with TrivialAugment",
    "Mixup": "on the real images with Mixup, giving rare classes more weight in the last fifth of training",
    "real + transformed": "on the real images and transformed ones (`--fill transformed`), drawing every class equally "
    "often",
    "real + synthetic": "on the real and synthetic images together, drawing every class equally often",
}


def next_steps(document: Json) -> list[str]:
    """Sentences with commands in backticks, in the order in which to follow them.

    Args:
        document: the report's document, with its `utility`, `classes`, `settings` and `history`.
    """
    return [*_training(document), *_change(document), *_gather(document)]


def _training(document: Json) -> Iterator[str]:
    """The best way found to train a classifier, also when it uses no synthetic image."""
    utility = document["utility"]
    if not utility["arms"]:
        return
    accuracy = {row["name"]: row["balanced_accuracy"]["value"] for row in utility["arms"] if row["name"] in _RECIPES}
    candidate, verdict = utility["candidate"], utility["verdict"]
    beaten = better_real_arm(utility["differences"]) is not None
    folder = bool(document.get("recipe")) and document["delivered"]  # made to be no worse than the real images
    useful = not beaten and (verdict == USE or (folder and verdict != DO_NOT_USE))
    others = {name: value for name, value in accuracy.items() if name != candidate}
    best = candidate if useful else max(others, key=others.__getitem__)
    how = f"{_RECIPES[best]}, with {utility['augmentation']}"
    text = f"Train your classifier {how}: {accuracy[best]:.1%} balanced accuracy"
    if useful and verdict != USE:
        text += f", no clear difference to oversampling the real images ({accuracy[utility['baseline']]:.1%})"
    elif not useful:
        ours = f"{accuracy[candidate]:.1%} with the synthetic images"
        text += f", against {ours}; leave those out" if verdict == DO_NOT_USE else f", and {ours}"
    yield f"{text}."


def _change(document: Json) -> Iterator[str]:
    """What to change about the generator or the split."""
    utility, settings = document["utility"], document["settings"]
    data, run = shlex.quote(printable(document["data"])), printable(document["run"])
    probe = document["leak_probe"]
    if probe and probe.get("shared"):
        yield "Move all images of one object or film into one split; `balancegan inspect` lists those in several."
    elif probe and probe["leak"]:
        regroup = f": `balancegan train {data} --group-by auto`, or name the groups" if run else ""
        yield f"Split the data anew, so that all images of one object are on one side{regroup}."
    if not run or utility["verdict"] == USE:
        return
    method = settings.get("method", "")
    copied = [row["name"] for row in document["classes"] if (row["copy_rate"] or 0) > MANY_COPIES]
    poor = [
        row["name"]
        for row in document["classes"]
        if row.get("recognised_less") or (row.get("detail") or {}).get("lacking")
    ]
    step = max((row.get("step", 0) for row in document["history"]), default=0) - settings.get("pretrain_steps", 0)
    if copied:
        yield f"Do not train longer on {_names(copied)}: many synthetic images there copy real ones."
    elif poor and step > 0:
        more = f" --steps {2 * step}" if settings.get("steps", 0) < 2 * step else ""
        yield (
            f"Train longer, because the images of {_names(poor)} do not show enough yet: "
            f"`balancegan train {data} --method {method} --resume {run}{more}`."
        )
    if utility["measured"] and method:
        other = ALTERNATIVES.get(method, "edm")
        yield f"Try another method: `balancegan compare {data} --methods {method},{other}`."


def _gather(document: Json) -> Iterator[str]:
    """Which images are missing."""
    utility = document["utility"]
    settle = utility.get("to_settle") or {}
    if settle.get("images") and utility["verdict"] in (None, NO_DIFFERENCE):
        wanted = dict(sorted(settle["images"].items(), key=lambda item: -item[1]))
        shown = ", ".join(f"{n:,} of {printable(name)}" for name, n in list(wanted.items())[:_NAMED])
        rest = f" and {len(wanted) - _NAMED} more classes" if len(wanted) > _NAMED else ""
        yield (
            f"To tell a difference of {settle['points']:g} points from none, about {sum(wanted.values()):,} more real "
            f"test images are needed: {shown}{rest}."
        )
    few = [f"{printable(row['name'])} ({row['real']})" for row in document["classes"] if 0 < row["real"] < FEW]
    if few:
        yield f"Gather more real images of {_names(few)}: a generator can do little more than repeat so few."


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
