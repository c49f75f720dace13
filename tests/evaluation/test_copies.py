import numpy as np

from balancegan.evaluation.copies import MARGIN, SHOWN_ABOVE, look_at, measure_copies
from balancegan.verdict.material import ClassImages


def blobs(n, seed):
    return np.random.default_rng(seed).integers(40, 200, (n, 1, 4, 4), dtype=np.uint8).repeat(4, 2).repeat(4, 3)


TRAIN, HELD = blobs(100, 1), blobs(60, 2)
THRESHOLD = look_at(TRAIN, HELD).threshold


def measured(fake):
    images = ClassImages("a", TRAIN, HELD, fake, real=100, generated=len(fake))
    return measure_copies(images, np.arange(len(fake)), {}, seed=0)


def shifted(images, distance):
    return (images + int(np.ceil(255 * distance))).astype(np.uint8)


def test_brightened_copies_just_above_the_threshold_are_counted_and_shown():
    found = measured(np.concatenate([blobs(40, 3), shifted(TRAIN[:10], 1.05 * THRESHOLD)]))
    assert found["copy_rate"] == 0 and found["just_above_unusual"] and found["just_above"] >= 10
    assert [p["chosen"] for p in found["pairs"]].count("just above") == SHOWN_ABOVE
    shown = [p["distance"] for p in found["pairs"] if p["chosen"] != "random"]
    assert shown == sorted(shown) and all(THRESHOLD <= d < MARGIN * THRESHOLD for d in shown)


def test_new_images_and_plain_copies_are_not_just_above():
    new, copied = measured(blobs(50, 3)), measured(TRAIN[:50])
    assert not new["just_above_unusual"] and new["just_above"] < 10
    assert copied["copy_rate"] == 1 and copied["just_above"] == 0 and not copied["just_above_unusual"]


def test_copies_on_both_sides_of_the_threshold_count_together():
    """Neither three near-copies nor a few images just above the threshold are significant alone."""
    found = measured(np.concatenate([blobs(60, 3), TRAIN[:2], shifted(TRAIN[2:9], 1.05 * THRESHOLD)]))
    assert found["copy_rate"] == 0 and found["just_above_unusual"]
