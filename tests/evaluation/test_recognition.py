import numpy as np

from balancegan.evaluation.recognition import RECOGNITION, measure_recognition, no_recognition
from balancegan.verdict.material import ClassImages


class Brightness:
    """Takes an image for class 0, 1 or 2 by its brightness."""

    def logits(self, images):
        return np.eye(3)[np.minimum(images.mean(axis=(1, 2, 3)).astype(int) // 80, 2)]


def shades(*values):
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)


def of_class(name, fake, held=(), **more):
    none = shades()[:0]
    images = {"fake": shades(*fake) if fake else none, "real_holdout": shades(*held) if held else none}
    return ClassImages(name=name, real_train=none, real=0, generated=len(fake), **images, **more)


def measured(*classes):
    return measure_recognition(classes, Brightness(), seed=0)


def test_shares_and_the_class_that_takes_the_others():
    dark, grey, light = measured(
        of_class("dark", [10] * 3 + [100] * 5 + [200] * 2, [10] * 19 + [100]),
        of_class("grey", [100] * 10, [100] * 6),
        of_class("light", [200] * 9, [200] * 4),
    )
    assert (dark["recognised"], dark["recognised_real"], dark["recognised_less"]) == (0.3, 0.95, True)
    assert dark["taken_for"] == {"name": "grey", "share": 0.5}
    assert (grey["recognised"], grey["recognised_less"], grey["taken_for"]) == (1.0, False, None)
    assert light["recognised_real"] is None and "4 held-out real" in light["reasons"]["recognised_real"]
    assert light["recognised_less"] is False


def test_chance_is_not_called_less():
    row, *_ = measured(of_class("dark", [10] * 4 + [100], [10] * 5), of_class("b", []), of_class("c", []))
    assert row["recognised"] == 0.8 and not row["recognised_less"]


def test_images_set_apart_stand_for_held_out_ones():
    row, *_ = measured(of_class("dark", [10] * 5, [200] * 5, apart=shades(*[10] * 6)), of_class("b", []))
    assert row["recognised_real"] == 1.0 and row["recognised_real_n"] == 6


def test_no_synthetic_images_and_nothing_asked():
    row, _ = measured(of_class("dark", [], [10] * 9), of_class("b", [1]))
    assert set(row) == {*RECOGNITION, "reasons"} and row["recognised"] is None and row["reasons"]["recognised"]
    assert no_recognition("why")["reasons"]["recognised"] == "why"
