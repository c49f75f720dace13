"""Labels that common readers of a table change."""

import csv
import io

import pytest

from balancegan.folder.metadata import COLUMNS, misread_labels, table_bytes


@pytest.mark.parametrize("name", ["NA", "nan", "None", "007", "N/A"])
def test_they_are_named_and_stay_text_in_the_table(name):
    assert repr(name) in misread_labels(["cat", name])
    row = dict.fromkeys(COLUMNS, "-") | {"label": name}
    assert next(csv.DictReader(io.StringIO(table_bytes([row]).decode())))["label"] == name


def test_others_are_not():
    assert misread_labels(["cat", "7", "0", "nano", "no one", "10"]) == ""
