import csv
import dataclasses
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from balancegan.folder.card import REMOVAL, Card, dataset_card, removal_command
from balancegan.folder.metadata import COLUMNS

CARD = Card(
    source="cells",
    method="SGBGAN",
    paper="Wan, Guo, Wang 2024, doi 10.1007/s00138-023-01506-y",
    run="00003-sgbgan-cells",
    number="00003",
    checkpoint_sha256="0123456789abcdef" * 4,
    counts={"healthy": (600, 0, 0), "rare cells": (12, 500, 88)},
    changes="shifts and flips",
    imbalance_rates=(50.0, 1.0),
    image_size="64x64",
    model_size=64,
)
HOSTILE = "a|b\n---\nlicense: mit # <script>alert(1)</script> `x` *y* [z](http://e) {{ q }} 'é\" \\"


def front_matter(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("\n---\n", 1)[0].removeprefix("---\n"))


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def cells(row):
    return re.split(r"(?<!\\)\|", row)[1:-1]


def test_a_plain_card():
    text = dataset_card(CARD)
    assert front_matter(text) == {
        "pretty_name": "cells, balanced with synthetic images",
        "license": "unknown",
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "class-balancing", "balancegan"],
        "size_categories": ["1K<n<10K"],
    }
    assert "| rare cells | 12 | 500 | 88 | 600 |" in text and "| **all** | 612 | 500 | 88 | 1,200 |" in text
    for words in (
        *("SGBGAN", "10.1007/s00138-023-01506-y", "00003-sgbgan-cells", "`0123456789abcdef…`", "from 50 to 1"),
        *("Licence: unknown", "help a classifier was not measured", "64x64 pixels"),
        *("`syn_<run>_<seed>`", "column `synthetic` of `metadata.csv`", "Never evaluate on synthetic images"),
        *("588 synthetic images", "variations of real training images (shifts and flips)", "`aug_<seed>_<source>`"),
        *("-name 'syn_00003_*' -o -name 'aug_*'", "unlink(missing_ok=True)"),
    ):
        assert words in text
    assert "private" not in text.lower() and "fewer synthetic images" not in text


def test_what_is_given_is_said():
    card = dataclasses.replace(
        CARD,
        split_dirs=("train", "Test"),
        untouched=1234,
        short=("rare cells", "b_c"),
        verdict="Do not use them: recall falls.",
        copies="3 % are copies.",
        notes=("The training was not finished.",),
        real_included=False,
    )
    text = dataset_card(card)
    assert "The table counts the training part (train). Unchanged, with only real images: Test (1,234 images)." in text
    assert "requested: rare cells, b\\_c." in text
    assert (
        "- Do not use them: recall falls. All measurements are in `report.html`" in text and "- 3 % are copies." in text
    )
    assert "- The training was not finished." in text and "`--real none`" in text
    assert "`metadata.csv` in each split's folder" in text
    assert front_matter(text)["size_categories"] == ["1K<n<10K"]  # 2,434
    assert "report.html" not in dataset_card(dataclasses.replace(CARD, report=False))


@pytest.mark.parametrize(("n", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (10_000_000, "n>10M")])
def test_size_categories(n, name):
    card = dataclasses.replace(CARD, counts={"a": (n, 0, 0)})
    assert front_matter(dataset_card(card))["size_categories"] == [name]


def test_hostile_names_stay_text():
    card = dataclasses.replace(CARD, source=HOSTILE, counts={HOSTILE: (3, 4, 1), "b": (8, 0, 0)}, short=(HOSTILE,))
    text = dataset_card(card)
    assert front_matter(text)["license"] == "unknown"
    assert front_matter(text)["pretty_name"].startswith("a|b")
    assert len(front_matter(text)) == 5
    assert "<script>" not in text.split("\n---\n", 1)[1]
    assert [len(cells(row)) for row in table_rows(text)] == [5] * 5
    assert cells(table_rows(text)[2])[1:] == [" 3 ", " 4 ", " 1 ", " 8 "]
    assert text.count("\n---\n") == 1


def test_undecodable_names_can_be_written():
    text = dataset_card(dataclasses.replace(CARD, source="a\udce9b", counts={"\udcff": (1, 2, 3)}))
    assert "\\\\udce9" in text and text.encode("utf-8")
    assert "udce9" in front_matter(text)["pretty_name"]


# Removal -------------------------------------------------------------------------------------------------------------


def balanced(folder, split=""):
    """A folder as `augment` leaves it, with odd class names; returns the real files' names and all rows."""
    rows, root = [], folder / split
    for name in ("odd class", "a,b'c", 'quo"te'):
        (root / name).mkdir(parents=True)
        files = {f"{name}/1.png": "false", f"{name}/syn_00003_7.png": "true", f"{name}/aug_0_1.png": "true"}
        for file, synthetic in files.items():
            (root / file).write_bytes(b"x")
            rows.append(dict.fromkeys(COLUMNS, "-") | {"file_name": file, "label": name, "synthetic": synthetic})
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / ".balancegan.json").write_text("{}")
    return {f["file_name"] for f in rows if f["synthetic"] == "false"}, rows


def images(root):
    return {p.relative_to(root).as_posix() for p in root.rglob("*.png")}


def snippet(text):
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.parametrize("split", ["", "train set"])
def test_the_python_snippet(tmp_path, split):
    folder = tmp_path / "balanced"
    real, rows = balanced(folder, split)
    if split:
        balanced(folder, "test")
        for path in [*folder.glob("test/*/syn_*"), *folder.glob("test/*/aug_*")]:
            path.unlink()
    code = snippet(dataset_card(CARD))
    assert code == REMOVAL
    for _ in range(2):  # a second time does no harm
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
        assert images(folder / split) == real
        with (folder / split / "metadata.csv").open(newline="", encoding="utf-8") as file:
            assert list(csv.DictReader(file)) == [row for row in rows if row["synthetic"] == "false"]
    assert not (folder / ".balancegan.json").exists()
    assert (folder / split / "metadata.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.skipif(shutil.which("find") is None, reason="no find here")
@pytest.mark.parametrize("number", ["00003", "my [odd] run*'s \\ name"])
def test_the_shell_command(tmp_path, number):
    real, _ = balanced(tmp_path)
    if number != "00003":
        for path in tmp_path.rglob("syn_*"):
            path.rename(path.with_name(f"syn_{number}_7.png"))
    (tmp_path / "odd class" / "syn_00004_7.png").write_bytes(b"another run's")
    command = re.search(r"```sh\n(.*)\n```", dataset_card(dataclasses.replace(CARD, number=number)))[1]
    assert command == removal_command(number)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert images(tmp_path) == real | {"odd class/syn_00004_7.png"}
