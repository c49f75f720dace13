"""What to say of files that hold more than the one picture that was read."""

from __future__ import annotations

from collections.abc import Sequence

from balancegan.core.text import plural, printable


def remarks(files: Sequence[tuple[str, int, bool]]) -> list[str]:
    """Sentences on files (name, number of pages, whether only a preview was read)."""
    notes = []
    if several := [(rel, pages) for rel, pages, _ in files if pages > 1]:
        rel, pages = several[0]
        notes.append(
            f"{plural(len(several), 'file has', 'files have')} several pages, channels or frames, of which one is read "
            f"(e.g. {printable(rel)}: {pages:,}); --page chooses another than the first"
        )
    if previews := [rel for rel, _, preview in files if preview]:
        notes.append(
            f"of {plural(len(previews), 'raw camera image')} only the small preview is read (e.g. "
            f"{printable(previews[0])}): develop raw images to TIFF or PNG"
        )
    return notes
