"""Holm's procedure by hand, and by simulation."""

import numpy as np
from scipy.stats import norm

from balancegan.metrics.multiple_tests import holm


def test_holm_rejects_in_turn():
    assert holm([0.01, 0.04, 0.03], 0.05).tolist() == [True, False, False]  # 0.03 > 0.05 / 2
    assert holm([0.04, 0.01, 0.025], 0.05).tolist() == [True, True, True]
    assert holm([0.017, 0.001, 0.9], 0.05).tolist() == [True, True, False]
    assert holm([0.02, 0.02, 0.02], 0.05).tolist() == [False] * 3  # stops at the first
    assert holm([], 0.05).tolist() == []


def test_holm_holds_the_level_of_the_family():
    rng = np.random.default_rng(0)
    false = [holm(norm.sf(rng.normal((0, 0, 0, 0, 3, 4))), 0.05)[:4].any() for _ in range(3000)]
    assert 0.03 < np.mean(false) < 0.06
