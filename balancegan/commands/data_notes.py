"""What `train` says of its data before it starts."""

from __future__ import annotations

from balancegan.core.options import AUTO, NONE
from balancegan.core.text import plural, printable
from balancegan.data.training_set import TrainingSet


def data_notes(data: TrainingSet) -> list[str]:
    """Return what was left out, what was kept together, and how much was held out."""
    notes = [*data.folder.warnings, *data.store.notes]
    if bad := data.store.bad_files:
        notes.append(
            f"{len(bad)} files cannot be read and are skipped (first: {printable(bad[0].path)}: {bad[0].reason})."
        )
    if data.holdout_wanted:
        notes += _group_notes(data)
    elif data.group_by not in (AUTO, NONE) and (known := len(data.unseen_rows) - len(data.independent_rows)):
        notes.append(
            f"Test images in groups that also have training images: {known:,} of {len(data.unseen_rows):,}. "
            "The report's verdict will leave them out."
        )
    if len(data.holdout_rows):
        notes.append(
            f"{len(data.holdout_rows)} of {len(data.holdout_rows) + len(data.train_rows)} images are held out "
            "for the quality report; no network sees them."
        )
    return notes


def _group_notes(data: TrainingSet) -> list[str]:
    notes, grouped = [], data.grouped
    if grouped["number"]:
        notes.append(
            f"{grouped['images']:,} of {plural(len(data.split_rows), 'image has', 'images have')} siblings "
            f"({plural(grouped['number'], 'group')}, largest {grouped['largest']:,}): each group stays on one side of "
            "the split."
        )
    of_one_group = data.of_one_group
    for name in data.without_holdout:
        why = "its groups are too large"
        if name in of_one_group:
            why = "all of them belong to one group, so no honest test of this class is possible"
        notes.append(f"no images of {printable(name)} are held out: {why}.")
    if data.group_by == AUTO and {*of_one_group} & {*data.without_holdout}:
        notes.append("if they show different objects, name the groups by --group-by FILE.csv, or use --group-by none.")
    return notes
