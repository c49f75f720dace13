"""Why a file cannot be used as an image."""

from __future__ import annotations


class ImageError(Exception):
    """A file cannot be decoded; `reason` says why in plain words, without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def no_such_page(pages: int, page: int) -> str:
    """The reason for refusing an image that has too few pages."""
    return f"it has {pages} page{'' if pages == 1 else 's'}, and page {page} was asked for"


def too_large(limit: int, what: str = "too many pixels") -> str:
    """The reason for refusing an image because of its size."""
    return f"{what}, more than the limit of {limit:,} against decompression bombs (--max-pixels raises it)"
