"""What the report says of a class with fewer images than were asked for."""

import pytest

from balancegan.evaluation.findings import _shortfall


@pytest.mark.parametrize(
    ("topped_up", "rejected", "said"),
    [
        (True, 9, "its real images have no more variations that differ"),
        (False, 9, "9 samples were rejected before the attempts ran out"),
        (False, 1, "too few samples were of this class before the attempts ran out"),
    ],
)
def test_the_reason_fits_what_the_class_is_filled_with(topped_up, rejected, said):
    row = {"synthetic": 3, "requested": 1200, "rejected": rejected}
    assert _shortfall(row, topped_up=topped_up) == f"3 of 1,200 synthetic images were delivered: {said}."
