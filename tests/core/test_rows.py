import numpy as np
import pytest

from balancegan.core.rows import rows_by_class


@pytest.mark.parametrize("n", [0, 1, 500])
def test_rows_are_those_of_a_search_for_every_class(n):
    labels = np.random.default_rng(0).integers(-1, 7, n)
    found = rows_by_class(labels, 9)
    assert len(found) == 9
    for k, rows in enumerate(found):
        np.testing.assert_array_equal(rows, np.flatnonzero(labels == k))
