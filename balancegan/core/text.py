"""Human-readable numbers, times and names, for the terminal and for pages."""

from __future__ import annotations

import re

from balancegan.core.errors import UsageError

SCALE = {"fid": 1.0, "kid": 1000.0, "ssim": 1.0, "copy_rate": 100.0}
"""Display factors of the measures: KID in thousandths, copies in percent."""


def printable(text: str) -> str:
    """Make a file name fit for one line of a message: control characters and undecodable bytes become escapes."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def human_time(seconds: float) -> str:
    """Format a time: `48 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def significant(value: float) -> str:
    """Format a number in about three digits without exponents: `1,234`, `56.7`, `8.90`, `0.123`, `0.0012`."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
    return f"{value:,.{digits}f}"


def plural(count: int, one: str, many: str = "") -> str:
    """Format a count: `1 image`, `1,200 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def parse_time(text: str) -> float:
    """Parse `90s`, `60m` or `1h30m` into seconds. Raises `UsageError`, also for a number without a unit."""
    text, number = text.strip().lower(), r"(\d+(?:\.\d+)?)"
    if re.fullmatch(number, text, re.ASCII):
        raise UsageError(f"{text} has no unit", f"write {text}s or {text}m")
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text, re.ASCII)
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a duration", "write 90s, 60m or 1h30m")
    hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return 3600 * hours + 60 * minutes + seconds
