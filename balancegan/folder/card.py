"""Build the README.md of a balanced folder: a dataset card on the Hugging Face Hub, and plain Markdown elsewhere.

Nothing is read or written here. Text from the data (class names, the folder's name) is escaped, so that it cannot act
as YAML, Markdown or a command.
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
    """Return the card's sentence on copies, empty without a document."""
    if document is None:
        return ""
    if flagged := [f"{row['name']} {row['copy_rate']:.1%}" for row in document["classes"] if row["copy_rate"]]:
        return f"More near-copies of training images than is usual among real images: {', '.join(flagged)}."
    return "Near-copies of training images are not more common than among real images."


SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""Upper bounds on the number of images, and the Hub's names for the ranges."""

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
(root / ".balancegan.json").unlink(missing_ok=True)  # the folder is no longer augment's result
"""
"""Python code that removes the synthetic files and their rows in metadata.csv from a balanced folder."""


@dataclass(frozen=True)
class Card:
    """The content of the card. Class names and the folder's name may contain any characters."""

    source: str  # the source folder's name, not its path
    method: str
    paper: str
    run: str  # name of the run
    number: str  # the run's number, as in the names of synthetic files
    checkpoint_sha256: str
    counts: Mapping[str, tuple[int, int, int]]  # class -> real, generated, transformed images of the training part
    imbalance_rates: tuple[float, float]  # before, after
    image_size: str  # of the synthetic images, e.g. "64x64" or "those of the real images of their class"
    model_size: int  # px, side of the generated images
    changes: str = ""  # what transformed images show
    split_dirs: tuple[str, ...] = ()  # folders of the splits, the training one first; empty without splits
    untouched: int = 0  # images of val and test
    real_included: bool = True
    short: tuple[str, ...] = ()  # classes with fewer synthetic images than requested
    verdict: str = ""  # whether the images help a classifier, in a sentence; empty: not measured
    copies: str = ""  # how many copies of training images there are, in a sentence; empty: not measured
    notes: Sequence[str] = ()  # further sentences on limits
    report: bool = True  # whether the folder contains report.html


def dataset_card(card: Card) -> str:
    """Return the whole README.md: YAML front matter, origin, counts, limits, and how to remove the synthetic files."""
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
        "## Removing the synthetic files",
        _removal(card),
    ]
    return "\n\n".join(parts) + "\n"


def removal_command(number: str) -> str:
    """Return the shell command that deletes the synthetic images, but no row of metadata.csv."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", f"syn_{number}_")
    return f"find . -type f \\( -name {shlex.quote(pattern + '*')} -o -name 'aug_*' \\) -delete"


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
    synthetic = sum(generated + transformed for _, generated, transformed in card.counts.values())
    before, after = card.imbalance_rates
    return (
        f"Images in {plural(len(card.counts), 'class', 'classes')}. The training part contains "
        f"{plural(synthetic, 'synthetic image')}, which change the imbalance rate (largest class / smallest class) "
        f"from {before:.4g} to {after:.4g}."
    )


def _origin(card: Card) -> str:
    changes = f"- Transformed images: variations of real training images ({_escaped(card.changes)})."
    generated = (
        f"- Generated images: made by balancegan {__version__} with {_escaped(card.method)} ({_escaped(card.paper)}), "
        f"run {_escaped(card.run)}, checkpoint SHA-256 `{card.checkpoint_sha256[:16]}…`."
    )
    kinds = zip((generated, changes), (1, 2), strict=True)
    synthetic = [line for line, kind in kinds if any(counts[kind] for counts in card.counts.values())]
    lines = [
        f"- Real images: the folder {_escaped(card.source)}"
        + ("." if card.real_included else "; they are not included here (`--real none`)."),
        *synthetic,
        "- Licence: unknown. balancegan cannot tell which terms apply to the real images; they may also apply to the "
        "synthetic images, which were learnt from them. Fill in `license` above before you share this data set.",
    ]
    return "\n".join(lines)


def _table(card: Card) -> str:
    lines = ["| class | real | generated | transformed | total |", "|:--|--:|--:|--:|--:|"]
    rows = [(_escaped(name), *kinds) for name, kinds in card.counts.items()]
    rows.append(("**all**", *(sum(kind) for kind in zip(*card.counts.values(), strict=True))))
    lines += [f"| {name} | {r:,} | {g:,} | {t:,} | {r + g + t:,} |" for name, r, g, t in rows]
    if card.split_dirs:
        train, *others = map(_escaped, card.split_dirs)
        lines += ["", f"The table counts the training part ({train})."]
        if others:
            lines[-1] += (
                f" Unchanged, with only real images: {' and '.join(others)} ({plural(card.untouched, 'image')})."
            )
    return "\n".join(lines)


def _which(card: Card) -> str:
    where = "`metadata.csv` in each split's folder" if card.split_dirs else "`metadata.csv`"
    return (
        f"The column `synthetic` of {where} is `true` for them, and their files are named `syn_<run>_<seed>` "
        "if they are generated and `aug_<seed>_<source>` if they are transformed real images (column `kind`). The "
        "same table gives a synthetic image's run, seed and checkpoint, and a real image's source; `split` is "
        "`holdout` for real images that the generator never saw. Loaders that use only the folders (torchvision's "
        "`ImageFolder`) cannot tell real and synthetic images apart."
    )


def _limits(card: Card) -> list[str]:
    verdict = _escaped(card.verdict) or "Whether these images help a classifier was not measured."
    copies = _escaped(card.copies) or "Whether generated images copy training images was not measured."
    report = " All measurements are in `report.html`." if card.report else ""
    lines = [
        verdict + report,
        *_generated_limits(card, copies),
        f"The sizes of synthetic files: {_escaped(card.image_size)}.",
        "Never evaluate on synthetic images: keep them out of validation and test data. They come from the few real "
        "images of their class and share all their gaps and biases.",
        "Do not choose a classifier by its results on this training part; use real images that no generator was "
        "trained on.",
    ]
    if card.short:
        names = ", ".join(map(_escaped, card.short))
        lines.append(f"These classes got fewer synthetic images than requested: {names}.")
    return [*lines, *map(_escaped, card.notes)]


def _generated_limits(card: Card, copies: str) -> list[str]:
    """Limits of generated images, if the folder has any."""
    if not any(generated for _, generated, _ in card.counts.values()):
        return []
    side = card.model_size
    return [
        copies,
        f"The generator makes images of {side}x{side} pixels; generated images show no finer detail.",
    ]


def _removal(card: Card) -> str:
    return (
        f"In Python, including the rows of `metadata.csv`:\n\n```python\n{REMOVAL}```\n\n"
        "Or in a shell, in this folder. This keeps the rows in `metadata.csv`, on which Hugging Face's loader then "
        "fails; other loaders ignore them. It also deletes real files with such names.\n\n"
        f"```sh\n{removal_command(card.number)}\n```"
    )


def _escaped(text: str) -> str:
    """Escape text to one line of Markdown that is shown literally, also in a table and where HTML is allowed."""
    line = printable(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~$#!])", r"\\\1", line)
