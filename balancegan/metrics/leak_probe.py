"""Are test images suspiciously near to training images? A probe for siblings on both sides of a split.

Frames of one film or photographs of one object are much nearer to each other than images of different objects are. If
the test images have siblings in training, many of them are nearer to a training image than training images of
different groups ever are to each other. Both distances are to the nearest of about equally many images of the same
class. Images of a group may all be near or all far, so the tests count groups rather than images.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancegan.core.documents import Json
from balancegan.core.rows import blocks, rows_by_class
from balancegan.metrics.memorisation import pixel_features
from balancegan.metrics.multiple_tests import holm

Features = NDArray[np.float32]
Ids = NDArray[np.integer]

PERCENTILE = 5.0
"""A test image is called near if it is nearer to a training image than this percentile of the distances between
training images of different groups."""

SIGNIFICANCE = 0.001
"""Level of the tests, shared among all classes and the test of all together (Holm 1979)."""

LEAK = 3.0
"""A leak is reported only if this many times more test images than expected are near."""

SHARED = 0.01
"""A leak is also reported if more than this share of the test images are known to have siblings in training."""

MIN_TEST = 10
"""Minimum number of test images of a class for a test of its own."""

MIN_GROUPS = 20
"""Minimum number of training groups of a class. With fewer, the least of their distances stands for the percentile,
and test images are nearer than that far more often than 5% of the time."""

MOST_QUERIES = 2000
"""Maximum number of test, and of training, images per class whose nearest image is searched."""

_BLOCK = 512


def steady_features(images: NDArray[np.uint8]) -> Features:
    """Pixels without exposure: shrunk grey images with mean 0 and norm 1, whatever their brightness and contrast.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        float32 (N, d); 0 for an image of one colour.
    """
    n, channels = images.shape[:2]
    coloured = pixel_features(images)
    features = coloured.reshape(n, channels, coloured.shape[1] // channels).mean(axis=1) * np.sqrt(channels)
    features -= features.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.where(norms > 1e-3, features / np.maximum(norms, 1e-3), 0).astype(np.float32)


@dataclass(frozen=True)
class _Found:
    """One class: which of the queried test images, and which of the training images, are near; and their groups."""

    name: str
    test: NDArray[np.bool_]
    train: NDArray[np.bool_]
    groups_test: Ids | None
    groups: Ids


def leak_probe(
    *,
    feats_test: Features,
    feats_train: Features,
    labels_test: Ids,
    labels_train: Ids,
    groups: Ids | None,
    groups_test: Ids | None = None,
    names: Sequence[str],
    seed: int = 0,
) -> Json:
    """Compare the distances of test images to training images with those between training images of different groups.

    Args:
        feats_test: (n, d) from `steady_features`.
        feats_train: (N, d).
        labels_test: (n,) classes, as indices into `names`.
        labels_train: (N,).
        groups: (N,) any integers; siblings share one. None makes every image a group of its own, which finds test
            images with near-copies in training only if training images rarely have some.
        groups_test: (n,) of the test images; None takes their groups to be as large as those in training.
        names: of the classes.
        seed: for the choice of images.

    Returns:
        `measured`, `leak`, `text`, `shared` (number of test images whose group has images in training, if they are
        more than 1%), and unless nothing was measured: `n` test images, `closer_share` of them near
        (`expected_share` without a leak), `p_value` of all classes together, `classes` with a significant leak.
    """
    grouped = groups is not None
    groups = np.arange(len(labels_train)) if groups is None else groups
    found = []
    sides = [rows_by_class(labels, len(names)) for labels in (labels_test, labels_train)]
    for name, tested, trained in zip(names, *sides, strict=True):
        if len(tested) and len(np.unique(groups[trained])) >= MIN_GROUPS:
            known = None if groups_test is None else groups_test[tested]
            found.append(_near(name, feats_test[tested], feats_train[trained], known, groups[trained], seed))
    shared = _shared(labels_test, groups_test, groups, names) if grouped else {}
    if shared:
        return _summary(found, grouped) | shared if found else {"measured": False, **shared}
    if not found:
        why = f"no class has test images and training images of {MIN_GROUPS} groups."
        return {"measured": False, "leak": False, "text": f"Leaks between training and test were not measured: {why}"}
    return _summary(found, grouped)


def _shared(labels_test: Ids, groups_test: Ids | None, groups: Ids, names: Sequence[str]) -> Json:
    """What is known of test images whose group has images in training; nothing if they are few."""
    if groups_test is None or not len(groups_test):
        return {}
    known = np.isin(groups_test, groups)
    if known.mean() <= SHARED:
        return {}
    counts = np.bincount(labels_test[known], minlength=len(names))
    most = ", ".join(f"{names[k]} {counts[k]:,}" for k in np.argsort(-counts, kind="stable")[:5] if counts[k])
    further = " and more" if (counts > 0).sum() > 5 else ""
    text = (
        f"{known.sum():,} of {len(known):,} test images {'has' if known.sum() == 1 else 'have'} siblings among the "
        f"training images ({most}{further}), so results on them are too good; the verdict leaves them out. Others may "
        "have gone unnoticed: keep all images of one object or film in one split."
    )
    return {"leak": True, "shared": int(known.sum()), "text": text}


def _near(name: str, test: Features, train: Features, groups_test: Ids | None, groups: Ids, seed: int) -> _Found:
    rng = np.random.default_rng(seed)
    queries, own = (np.sort(rng.permutation(len(side))[:MOST_QUERIES]) for side in (test, train))
    between = _nearest_other(train[own], train, groups[own], groups)
    # A training image is not compared with its own group, so a test image is not compared with one either.
    left_out = groups[rng.integers(len(train), size=len(queries))]
    to_train = _nearest_other(test[queries], train, left_out, groups)
    cut = np.percentile(between, PERCENTILE)
    known = None if groups_test is None else groups_test[queries]
    return _Found(name, to_train < cut, between < cut, known, groups[own])


def _nearest_other(query: Features, reference: Features, own: Ids, groups: Ids) -> NDArray[np.float64]:
    """Distance (N,) of each query to the nearest reference that is not in its `own` group."""
    found = np.empty(len(query))
    half = 0.5 * np.square(reference).sum(axis=1)
    for some in blocks(len(query), _BLOCK):
        score = query[some] @ reference.T - half  # the highest is the nearest
        score[own[some, None] == groups[None]] = -np.inf
        best = reference[score.argmax(axis=1)]
        found[some] = np.linalg.norm(query[some] - best, axis=1)
    return found


def _summary(found: list[_Found], grouped: bool) -> Json:
    tests = [of for of in found if len(of.test) >= MIN_TEST]
    values = [_p_value([of]) for of in tests]
    whole = _p_value(found)
    share, expected = _share(found), PERCENTILE / 100
    significant = holm([whole, *values], SIGNIFICANCE)
    leaking = [of for of, low in zip(tests, significant[1:], strict=True) if low and _share([of]) > LEAK * expected]
    everywhere = significant[0] and share > LEAK * expected
    return {
        "measured": True,
        "n": sum(len(of.test) for of in found),
        "closer_share": share,
        "expected_share": expected,
        "p_value": whole,
        "classes": [of.name for of in leaking],
        "leak": bool(leaking or everywhere),
        "text": _text(found if everywhere or not leaking else leaking, bool(leaking or everywhere), grouped),
    }


def _share(found: list[_Found]) -> float:
    """Share of near images among the test images."""
    return float(np.concatenate([of.test for of in found]).mean())


def _text(found: list[_Found], leak: bool, grouped: bool) -> str:
    """The result in a few sentences, with the share of near images in these classes."""
    expected = PERCENTILE / 100
    where = f" of {', '.join(of.name for of in found[:5])}{' and more' if found[5:] else ''}" if leak else ""
    measured = (
        f"{_share(found):.0%} of the test images{where} are nearer to a training image than the nearest {expected:.0%} "
        f"of training images are to {'one of another group' if grouped else 'another one'}; about {expected:.0%} is "
        "expected"
    )
    if leak:
        return (
            f"Test images probably have siblings in training, so results on them are too good: {measured}. Group "
            "images of one object or film with `--group-by`."
        )
    hidden = "" if grouped else " Siblings that are also among the training images themselves would not show here."
    return f"No sign that test images have siblings in training: {measured}.{hidden}"


def _p_value(found: list[_Found]) -> float:
    """One-sided test of whether more test than training images are near, classes together.

    Fisher's exact test on the counts, divided by the design effect that grouping has if the images of a group are all
    near or all far (Kish 1965, Survey Sampling, section 5.4): the mean size of the group that an image is in.
    """
    from scipy.stats import fisher_exact

    effect = _group_size([of.groups for of in found])
    effect_test = _group_size([of.groups if of.groups_test is None else of.groups_test for of in found])
    table = []
    for sides, divisor in (([of.test for of in found], effect_test), ([of.train for of in found], effect)):
        near = np.concatenate(sides)
        size = max(1, round(len(near) / divisor))
        hits = min(size, round(float(near.mean()) * size))
        table.append([hits, size - hits])
    return float(fisher_exact(table, alternative="greater").pvalue)


def _group_size(groups: list[Ids]) -> float:
    sizes = np.concatenate([np.unique(of_class, return_counts=True)[1] for of_class in groups])
    return float(np.square(sizes).sum() / sizes.sum())
