from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from balancegan.commands import imbalance
from balancegan.commands.imbalance import make_imbalanced
from balancegan.core.errors import DiskError, UsageError
from balancegan.data.scan import scan


@pytest.fixture
def even(tmp_path, picture) -> Path:
    """Three classes of twenty training images, and five test images each."""
    root = tmp_path / "even"
    first = picture(tmp_path / "one.png").read_bytes()
    for split, count in (("train", 20), ("testing", 5)):
        for name in "abc":
            folder = root / split / name / "deeper"
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i:02}.png").write_bytes(first + f"{split}{name}{i}".encode())
    (root / "train" / "a" / "labels.txt").write_text("side file")
    return root


def names(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def test_copy(even, tmp_path):
    dst = tmp_path / "out" / "even_lt"
    result = make_imbalanced(even, dst, ir=10)
    out = json.loads(json.dumps(result.to_json()))
    assert out["schema_version"] == 1 and out["counts_before"] == {"a": 20, "b": 20, "c": 20}
    assert out["counts_after"] == {"a": 20, "b": 2, "c": 2} and out["imbalance_rate"] == 10
    assert (out["scheme"], out["ir"], out["seed"]) == ("step", 10, 0)
    assert out["src"] == str(even) and out["dst"] == str(dst)
    folder = scan(dst)
    assert folder.counts() == {"a": 20, "b": 2, "c": 2} and folder.counts("test") == {"a": 5, "b": 5, "c": 5}
    assert folder.split_dirs == {"train": "train", "test": "testing"}
    assert names(dst) < names(even)
    for rel in names(dst):
        assert (dst / rel).read_bytes() == (even / rel).read_bytes()
    assert [p.name for p in dst.parent.iterdir()] == ["even_lt"]


def test_flat_stays_flat(data, tmp_path):
    make_imbalanced(data, tmp_path / "out", ir=6)
    assert scan(tmp_path / "out").counts() == {"a": 6, "b": 1}
    assert scan(tmp_path / "out").split_dirs == {}


def test_the_seed_decides(even, tmp_path):
    def choice(name: str, src: Path = even, **options) -> set[str]:
        make_imbalanced(src, tmp_path / name, ir=4, **options)
        return names(tmp_path / name)

    first = choice("one")
    assert first == choice("two")
    assert first != choice("three", seed=1)
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(even.rglob("*.png"), reverse=True):  # another order on disk, one class less
        if "/a/" not in path.as_posix():
            (other / path.relative_to(even)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, other / path.relative_to(even))
    shutil.copytree(even / "train" / "a", other / "train" / "0")
    again = choice("four", src=other)
    assert {n for n in again if n.startswith(("train/b/", "train/c/"))} == {
        n for n in first if n.startswith(("train/b/", "train/c/"))
    }


def test_a_smaller_choice_is_part_of_nothing_else(even, tmp_path):
    result = make_imbalanced(even, tmp_path / "out", counts={"b": 7, "c": 1})
    assert result.counts_after == {"a": 20, "b": 7, "c": 1} and result.scheme == "counts" and result.ir is None
    assert result.imbalance_rate == 20


def test_wrong_counts(even, tmp_path):
    with pytest.raises(UsageError, match="has 20 training images, but 500 were requested"):
        make_imbalanced(even, tmp_path / "out", counts={"a": 500})
    with pytest.raises(UsageError, match="'frog'"):
        make_imbalanced(even, tmp_path / "out", counts={"frog": 5})
    with pytest.raises(UsageError, match="would keep 0"):
        make_imbalanced(even, tmp_path / "out", counts={"a": 0})
    with pytest.raises(UsageError):
        make_imbalanced(even, tmp_path / "out", counts={"a": 1}, majority="a")
    assert not (tmp_path / "out").exists()


def test_places(even, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        make_imbalanced(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(UsageError, match="inside the source"):
        make_imbalanced(even, even / "train" / "new")
    with pytest.raises(UsageError, match="inside the source"):
        make_imbalanced(even, even)
    with pytest.raises(UsageError, match="contains the source"):
        make_imbalanced(even, even.parent)
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    with pytest.raises(UsageError, match="not empty"):
        make_imbalanced(even, full)
    with pytest.raises(UsageError, match="is not a folder"):
        make_imbalanced(even, full / "x")
    empty = tmp_path / "empty"
    empty.mkdir()
    make_imbalanced(even, empty, ir=10)
    assert scan(empty).counts()["b"] == 2


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_do_not_hide_the_source(even, tmp_path):
    (tmp_path / "link").symlink_to(even)
    with pytest.raises(UsageError, match="inside the source"):
        make_imbalanced(even, tmp_path / "link" / "train" / "new")


def test_nothing_is_left_after_a_failure(even, tmp_path, monkeypatch):
    copied = []

    def full(src, dst):
        copied.append(dst)
        if len(copied) > 5:
            raise OSError(28, "No space left on device")
        shutil.copyfile(src, dst)

    monkeypatch.setattr(imbalance, "copy_regular", full)
    with pytest.raises(DiskError, match="No space left"):
        make_imbalanced(even, tmp_path / "new" / "out", ir=2)
    assert list((tmp_path / "new").iterdir()) == []


def test_space_is_checked_first(even, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(imbalance.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskError, match="are free"):
        make_imbalanced(even, tmp_path / "out")


def test_a_rate_that_was_not_reached_is_said(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name, count in {"a": 12, "b": 4, "c": 20}.items():
        for i in range(count):
            picture(tmp_path / "src" / name / f"{i}.png", seed=i)
    notes = make_imbalanced(tmp_path / "src", tmp_path / "dst", ir=2).to_json()["notes"]
    assert len(notes) == 2 and "not 2" in notes[0] and "in b" in notes[1]
    assert make_imbalanced(tmp_path / "src", tmp_path / "ok", counts={"a": 6}).to_json()["notes"] == notes[1:]
