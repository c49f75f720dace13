"""Every failure a user can meet, with the exit code that scripts rely on.

A `BalanceGANError` carries two lines: what happened and what to do. The command line prints them and exits
with `exit_code`; a traceback is shown for our own bugs only (exit code 1).
"""

from __future__ import annotations

from typing import Any, ClassVar


class BalanceGANError(Exception):
    """Base of the family: `message` says what happened, `hint` what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BalanceGANError):
    """An option is invalid, or a path does not exist."""

    exit_code = 2


class DatasetError(BalanceGANError):
    """The image folder cannot be used: no images, one class, bad files under --strict."""

    exit_code = 3


class TrainingDivergedError(BalanceGANError):
    """Losses stayed non-finite after every allowed roll-back."""

    exit_code = 4


class OutOfMemoryError(BalanceGANError):
    """Not even the smallest batch fits in the device's memory."""

    exit_code = 5


class DiskError(BalanceGANError):
    """Not enough space, or a folder that cannot or must not be written."""

    exit_code = 6


class WeightsMissingError(BalanceGANError):
    """A metric network's weights are not on this machine."""

    exit_code = 7


class CheckpointError(BalanceGANError):
    """A checkpoint or run directory is damaged or does not fit this data or version."""

    exit_code = 8


class QualityGateError(BalanceGANError):
    """The work is done, but its quality is below `--fail-under`; in Python, `result` holds the full result."""

    exit_code = 9

    def __init__(self, message: str, hint: str = "", result: Any = None) -> None:
        super().__init__(message, hint)
        self.result = result


class RankLostError(BalanceGANError):
    """Another of several cooperating processes has ended."""

    exit_code = 10


class StoppedError(BalanceGANError):
    """Stopped by a signal after saving the state; 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, message: str, hint: str = "", signum: int = 2) -> None:
        super().__init__(message, hint)
        self.signum = signum
        self.exit_code = 128 + signum  # type: ignore[misc]
