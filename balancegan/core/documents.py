"""The type of JSON documents."""

from typing import Any

Json = dict[str, Any]
"""A document, or a part of one, as written to disk and printed."""

REFERENCES = {"holdout": "held-out", "train": "training", "real": "real"}
"""Names for the images that a class is compared with."""
