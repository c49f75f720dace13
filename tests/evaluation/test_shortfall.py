"""What the report says of a class with fewer images than were asked for."""

import pytest

from balancegan.evaluation.findings import _shortfall


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"transformed": 3, "rejected": 9}, "its real images have no more variations that differ"),
        ({"transformed": 0, "rejected": 9}, "9 samples were rejected before the attempts ran out"),
        ({"transformed": 0, "rejected": 1}, "too few samples were of this class before the attempts ran out"),
    ],
)
def test_the_reason_fits_what_the_class_is_filled_with(row, said):
    assert _shortfall({**row, "synthetic": 3, "requested": 1200}) == (
        f"3 of 1,200 synthetic images were delivered: {said}."
    )
