"""The type of JSON documents."""

from typing import Any

Json = dict[str, Any]
"""A document, or a part of one, as it is written to disk and printed."""

REFERENCES = {"holdout": "held-out", "train": "training", "real": "real"}
"""What the images that a class is compared with are called."""
