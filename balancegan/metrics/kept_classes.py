"""Measures which changes of images keep their class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.data.variations import TILT, Changes
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Images

KEPT = 0.9  # a change is harmless if it keeps at least this fraction of a classifier's accuracy
LOOK = 50  # images per class that suffice to decide
FEW = 20  # answers of a class, below which a change is refused for less
ASIDE = 5  # one image in so many is set aside to look at

Labels = NDArray[np.integer]


def _tilted(images: Images, degrees: float) -> Images:
    from scipy.ndimage import rotate

    return np.asarray(rotate(images, degrees, axes=(3, 2), reshape=False, order=1, mode="reflect"))


MIRRORED = "their mirror images"
TURNED, TILTED = "images turned by quarters", f"images tilted by {TILT:g} degrees"
_CHANGED: Mapping[str, Sequence[Callable[[Images], Images]]] = {
    MIRRORED: (lambda images: images[..., ::-1],),
    TURNED: tuple(lambda images, k=k: np.rot90(images, k, axes=(2, 3)) for k in (1, 2, 3)),  # type: ignore[misc]
    TILTED: tuple(lambda images, sign=sign: _tilted(images, sign * TILT) for sign in (-1, 1)),  # type: ignore[misc]
}


@dataclass(frozen=True)
class Finding:
    """Whether a change keeps the classes of images, and what was found, to complete a sentence."""

    kept: bool
    found: str


def kept_classes(
    images: tuple[Images, Images],
    labels: tuple[Labels, Labels],
    classes: int,
    device: str,
    changes: Sequence[str] = (MIRRORED,),
) -> list[Finding]:
    """Train a classifier and compare its accuracy on other images with that on the same images, changed.

    Args:
        images: to train on and to look at, uint8 (N, C, S, S) each; at least one each.
        labels: their classes (N,) each.
        classes: number of classes.
        device: a torch device name.
        changes: which of `MIRRORED`, `TURNED` and `TILTED` to try.
    """
    classifier = OwnExtractor.fit(images[0], labels[0], classes, device=device)
    upright = classifier.logits(images[1]).argmax(1) == labels[1]
    found = []
    for name in changes:
        answers = [
            classifier.logits(np.ascontiguousarray(change(images[1]))).argmax(1) == labels[1]
            for change in _CHANGED[name]
        ]
        found.append(_finding(name, np.tile(upright, len(answers)), np.concatenate(answers), labels[1]))
    return found


def _finding(name: str, upright: NDArray[np.bool_], changed: NDArray[np.bool_], labels: Labels) -> Finding:
    labels = np.resize(labels, len(upright))  # repeated for every form of the change
    spoilt = [k for k in np.unique(labels) if _loses(upright[labels == k], changed[labels == k])]
    before, after = (float(np.mean([of[labels == k].mean() for k in np.unique(labels)])) for of in (upright, changed))
    found = f"a classifier recognises {before:.0%} of the original images and {after:.0%} of {name}"
    if spoilt:
        where = "one class" if len(spoilt) == 1 else f"{len(spoilt)} classes"
        found += f", and recall clearly falls in {where}"
    learned = before > 1.5 / len(np.unique(labels))  # otherwise nothing is known
    return Finding(bool(learned and not spoilt and after >= KEPT * before), found)


def _loses(upright: NDArray[np.bool_], changed: NDArray[np.bool_]) -> bool:
    """Whether a change lowers a class's recall: by three standard deviations of the changed answers, or by one if few.

    Few images cannot lose by three, but a rare class is the one whose labels must not be spoilt.
    """
    lost, won = int((upright & ~changed).sum()), int((changed & ~upright).sum())
    clear = 3 if len(upright) >= FEW else 1
    return bool(lost - won > clear * np.sqrt(lost + won) and changed.sum() < KEPT * upright.sum())


def divided(images: Sequence[Images]) -> tuple[tuple[Images, Images], tuple[Labels, Labels]] | None:
    """Divide each class's first images (n, C, S, S) into those to train on and to look at; None if too few."""
    few = [of_class[: ASIDE * LOOK] for of_class in images]
    labels = np.repeat(np.arange(len(few)), [len(of_class) for of_class in few])
    aside = np.concatenate([np.arange(len(of_class)) % ASIDE == ASIDE - 1 for of_class in few])
    if not aside.any():
        return None
    every = np.concatenate(few)
    return (every[~aside], every[aside]), (labels[~aside], labels[aside])


def safe_changes(images: Sequence[Images]) -> Changes:
    """Return which changes keep the classes of these images, uint8 (n, C, S, S) for each class.

    Runs on the CPU, where it gives the same answer every time; about 15 seconds on one core.
    """
    parts = divided(images)
    if parts is None or len(np.unique(parts[1][1])) < sum(len(of_class) > 0 for of_class in images):
        return Changes()  # nothing is known of a class without an image to look at
    found = kept_classes(*parts, len(images), "cpu", (MIRRORED, TURNED, TILTED))
    return Changes(*(finding.kept for finding in found))
