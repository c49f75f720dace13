"""The README.md of a balanced folder: a dataset card as the Hugging Face Hub shows it, and plain Markdown elsewhere.

It is made from what is given; nothing is read or written here. What comes from the data (class names, the folder's
name) is quoted, so that it can be neither YAML nor Markdown nor a command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from balancegan.core.text import plural, printable
from balancegan.core.version import __version__


def copies_line(document: dict[str, Any] | None) -> str:
    """What the card says of copies."""
    if document is None:
        return ""
    if flagged := [f"{row['name']} {row['copy_rate']:.1%}" for row in document["classes"] if row["copy_rate"]]:
        return f"Near-copies of training images, beyond what is usual among real ones: {', '.join(flagged)}."
    return "Not more near-copies of training images were found than are usual among real ones."


SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The Hub's names for numbers of images below the bound."""

REMOVAL = """\
import csv
from pathlib import Path

root = Path(".").resolve()  # the folder of this README.md
for table in [*root.glob("metadata.csv"), *root.glob("*/metadata.csv")]:
    with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    for row in rows:
        path = table.parent / row["file_name"]
        if row["synthetic"] == "true" and root in path.resolve().parents:  # nothing outside the folder
            path.unlink(missing_ok=True)
    with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(row for row in rows if row["synthetic"] != "true")
(root / ".balancegan.json").unlink(missing_ok=True)  # the folder is no longer what augment made
"""
"""Python that takes the synthetic files and their rows in metadata.csv out of a balanced folder."""


@dataclass(frozen=True)
class Card:
    """What the card says. Class names and the folder's name may hold any characters."""

    source: str  # the source folder's name, not its path
    method: str
    paper: str
    run: str  # name of the run
    number: str  # the run's number, as in the names of synthetic files
    checkpoint_sha256: str
    counts: Mapping[str, tuple[int, int]]  # class -> real and synthetic images of the training part
    imbalance_rates: tuple[float, float]  # before, after
    image_size: str  # of the synthetic images, e.g. "64x64" or "those of the real images of their class"
    model_size: int  # px, at which the generator works
    split_dirs: tuple[str, ...] = ()  # folders of the splits, the training one first; empty without splits
    untouched: int = 0  # images of val and test
    real_included: bool = True
    short: tuple[str, ...] = ()  # classes with fewer synthetic images than were asked for
    verdict: str = ""  # whether the images help a classifier, in a sentence; empty: not measured
    copies: str = ""  # how many copies of training images there are, in a sentence; empty: not measured
    notes: Sequence[str] = ()  # further sentences on limits
    report: bool = True  # whether report.html lies beside it


def dataset_card(card: Card) -> str:
    """The whole README.md: YAML front matter, origin, counts, limits, and how to remove the synthetic files again."""
    parts = [
        f"---\n{_front_matter(card)}---",
        f"# {_escaped(card.source)}, balanced with synthetic images",
        _summary(card),
        "## Origin",
        _origin(card),
        "## Images per class",
        _table(card),
        "## Which files are synthetic",
        _which(card),
        "## Known limits",
        "\n".join(f"- {line}" for line in _limits(card)),
        "## Removing the synthetic files again",
        _removal(card),
    ]
    return "\n\n".join(parts) + "\n"


def removal_command(number: str) -> str:
    """The shell command that deletes the synthetic images of the run with this number, but no row of metadata.csv."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", f"syn_{number}_")
    return f"find . -type f -name {shlex.quote(pattern + '*')} -delete"


def _front_matter(card: Card) -> str:
    total = sum(map(sum, card.counts.values())) + card.untouched
    document = {
        "pretty_name": f"{printable(card.source)}, balanced with synthetic images",
        "license": "unknown",  # a name that the Hub knows
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "class-balancing", "balancegan"],
        "size_categories": [next((name for bound, name in SIZE_CATEGORIES if total < bound), "n>10M")],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)


def _summary(card: Card) -> str:
    synthetic = sum(fake for _, fake in card.counts.values())
    before, after = card.imbalance_rates
    return (
        f"Images in {plural(len(card.counts), 'class', 'classes')}, of which {plural(synthetic, 'image')} of the "
        f"training part came out of a generator. They bring the imbalance rate (largest class / smallest class) from "
        f"{before:.4g} to {after:.4g}."
    )


def _origin(card: Card) -> str:
    lines = [
        f"- Real images: the folder {_escaped(card.source)}"
        + ("." if card.real_included else "; they were left out here (`--real none`)."),
        f"- Synthetic images: made by balancegan {__version__} with {_escaped(card.method)} ({_escaped(card.paper)}), "
        f"run {_escaped(card.run)}, checkpoint SHA-256 `{card.checkpoint_sha256[:16]}…`.",
        "- Licence: unknown. balancegan cannot see under which terms the real images were given; those terms may "
        "reach the synthetic images too, which were learnt from them. Fill in `license` above before you pass this on.",
    ]
    return "\n".join(lines)


def _table(card: Card) -> str:
    lines = ["| class | real | synthetic | together |", "|:--|--:|--:|--:|"]
    rows = [*((_escaped(name), real, fake) for name, (real, fake) in card.counts.items())]
    rows.append(("**all**", sum(real for real, _ in card.counts.values()), sum(f for _, f in card.counts.values())))
    lines += [f"| {name} | {real:,} | {fake:,} | {real + fake:,} |" for name, real, fake in rows]
    if card.split_dirs:
        train, *others = map(_escaped, card.split_dirs)
        lines += ["", f"This counts the training part ({train})."]
        if others:
            lines[-1] += f" {' and '.join(others)}, {plural(card.untouched, 'image')}, are as they were: all real."
    return "\n".join(lines)


def _which(card: Card) -> str:
    where = "`metadata.csv` in each split's folder" if card.split_dirs else "`metadata.csv`"
    return (
        f"The column `synthetic` of {where} is `true` for them, and their files are named `syn_<run>_<seed>`. The "
        "same table gives a synthetic image's run, seed and checkpoint, and a real image's source. Loaders that go by "
        "folders alone (torchvision's `ImageFolder`) do not tell the two apart."
    )


def _limits(card: Card) -> list[str]:
    verdict = _escaped(card.verdict) or "Whether these images help a classifier was not measured."
    copies = _escaped(card.copies) or "Copies of training images among the synthetic ones were not measured."
    report = " All measures are in `report.html`." if card.report else ""
    lines = [
        verdict + report,
        copies,
        f"The generator works at {card.model_size}x{card.model_size} pixels: synthetic images show no finer detail. "
        f"The size of their files: {_escaped(card.image_size)}.",
        "Never evaluate on synthetic images: keep them out of validation and test data. What they show of a class was "
        "learnt from its few real images, with all the gaps and biases of those.",
        "Choosing a classifier by its results on this training part tells nothing; use real images that no generator "
        "was trained on.",
    ]
    if card.short:
        names = ", ".join(map(_escaped, card.short))
        lines.append(f"These classes got fewer synthetic images than were asked for: {names}.")
    return [*lines, *map(_escaped, card.notes)]


def _removal(card: Card) -> str:
    return (
        f"In Python, with the rows of `metadata.csv`:\n\n```python\n{REMOVAL}```\n\n"
        "Or in a shell, in this folder. The rows in `metadata.csv` stay, which Hugging Face's loader then "
        "stumbles over; other loaders do not look at them. A real file of that name would go too.\n\n"
        f"```sh\n{removal_command(card.number)}\n```"
    )


def _escaped(text: str) -> str:
    """Text as one line of Markdown that shows as it is, also in a table and where HTML is allowed."""
    line = printable(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~$#!])", r"\\\1", line)
