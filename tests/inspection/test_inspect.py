from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from balancegan.core.errors import UsageError
from balancegan.data import pool
from balancegan.data.duplicates import pixel_digest
from balancegan.data.imbalance import imbalance_rate, normalised_entropy, to_add
from balancegan.data.scan import scan
from balancegan.inspection import advice, inspect
from balancegan.inspection.inspect import inspect_folder
from balancegan.inspection.names import naming_pattern
from balancegan.methods import WHY_RECOMMENDED
from balancegan.report.inspection import render_html

pytestmark = pytest.mark.usefixtures("plain_search")


def paths(groups) -> list[list[str]]:
    return [sorted(g["paths"]) for g in groups]


def test_the_documents_keys_and_numbers(data):
    out = json.loads(json.dumps(inspect_folder(scan(data)).to_json()))
    assert out["schema_version"] == 1
    assert out["num_images"] == 8 and out["num_classes"] == 2 and out["imbalance_rate"] == 3.0
    assert out["majority"] == {"name": "a", "count": 6} and out["minority"] == {"name": "b", "count": 2}
    assert out["classes"] == [
        {"name": "a", "count": 6, "share": 0.75, "to_add": 0},
        {"name": "b", "count": 2, "share": 0.25, "to_add": 4},
    ]
    for key in ("bad_files", "duplicates", "conflicts", "leaks", "siblings", "near_duplicates", "notes"):
        assert out[key] == []
    assert out["root"] == str(data) and out["split"] == "train" and out["target_ir"] == 1.0
    assert out["splits"] == {"train": {"a": 6, "b": 2}}
    assert out["modes"] == {"RGB": 8} and out["formats"] == {"PNG": 8}
    assert out["image_sizes"]["common"] == [{"width": 10, "height": 8, "count": 8}]
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert out["normalised_entropy"] == pytest.approx(entropy)
    assert all(isinstance(line, str) and "\n" not in line for line in out["advice"])


def test_imbalance_rate():
    assert imbalance_rate({"a": 5600, "b": 20}) == 280
    assert imbalance_rate({"a": 4, "b": 0, "c": 2}) == 2
    with pytest.raises(ValueError, match="no class"):
        imbalance_rate({"a": 0})


def test_to_add():
    counts = {"a": 280, "b": 20, "c": 150}
    assert to_add(counts, 1) == {"a": 0, "b": 260, "c": 130}
    assert to_add(counts, 3) == {"a": 0, "b": 74, "c": 0}  # ceil(280 / 3) = 94
    assert to_add(counts, 2.8) == {"a": 0, "b": 80, "c": 0}  # 280 / 2.8 is a hair above 100 in floating point
    with pytest.raises(UsageError) as e:
        to_add(counts, 0.01)
    assert "100" in e.value.message and e.value.exit_code == 2
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError):
            to_add(counts, wrong)


def test_entropy_bounds():
    assert normalised_entropy({"a": 5, "b": 5, "c": 5}) == pytest.approx(1)
    assert normalised_entropy({"a": 5, "b": 0}) == 0
    assert normalised_entropy({"a": 0, "b": 0}) is None


def test_duplicates_conflicts_and_leaks(data, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(data, root / "train")
    shutil.copytree(data, root / "test")
    for path in (root / "test").rglob("*.png"):
        if path.name != "0.png":
            path.unlink()
    shutil.copy(root / "train/a/1.png", root / "train/a/copy of 1.png")
    Image.open(root / "train/a/2.png").save(root / "train/a/2.bmp")  # other bytes, same pixels
    shutil.copy(root / "train/a/3.png", root / "train/b/3.png")
    out = inspect_folder(scan(root)).to_json()
    assert paths(out["duplicates"]) == [
        ["train/a/1.png", "train/a/copy of 1.png"],
        ["train/a/2.bmp", "train/a/2.png"],
    ]
    assert paths(out["conflicts"]) == [["train/a/3.png", "train/b/3.png"]]
    assert out["conflicts"][0]["classes"] == ["a", "b"]
    assert paths(out["leaks"]) == [["test/a/0.png", "train/a/0.png"], ["test/b/0.png", "train/b/0.png"]]
    assert out["leaks"][0]["splits"] == ["train", "test"]
    text = " ".join(out["advice"])
    assert "more than one class" in text and "more than one split" in text and "exact copies" in text
    off = inspect_folder(scan(root), duplicates="off").to_json()
    assert off["duplicates"] == off["conflicts"] == off["leaks"] == []
    assert off["num_images"] == out["num_images"]
    assert inspect_folder(scan(root), split="test").num_images == 2


def test_equal_pictures_in_other_clothes():
    grey = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
    assert pixel_digest(grey) == pixel_digest(np.repeat(grey[..., None], 3, 2))
    assert pixel_digest(grey.astype(np.uint16)) == pixel_digest(grey.astype(np.int32))
    assert pixel_digest(grey) != pixel_digest(grey.T)
    assert pixel_digest(grey) != pixel_digest(grey.reshape(5, 6))


def smooth(seed: int, size: int = 64) -> Image.Image:
    few = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((size, size), Image.Resampling.BICUBIC)


def test_near_duplicates(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(10):
            smooth(i + 100 * (name == "b")).save(tmp_path / name / f"{i}.png")
    smooth(3).save(tmp_path / "a" / "again.jpg", quality=85)
    smooth(4).resize((50, 50)).save(tmp_path / "b" / "smaller.png")
    shutil.copy(tmp_path / "a" / "5.png", tmp_path / "a" / "equal.png")
    out = inspect_folder(scan(tmp_path)).to_json()
    assert paths(out["siblings"]) == [["a/3.png", "a/again.jpg"], ["a/4.png", "b/smaller.png"]]
    assert [g["classes"] for g in out["siblings"]] == [["a"], ["a", "b"]] and out["sibling_leaks"] == []
    assert paths(out["duplicates"]) == [["a/5.png", "a/equal.png"]]
    assert any("4 images have siblings" in line and "2 groups, largest 2" in line for line in out["advice"])
    assert inspect_folder(scan(tmp_path), duplicates="exact").siblings == ()


def test_siblings_in_many_images_are_searched_for_on_request(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            smooth(i + 100 * (name == "b")).save(tmp_path / name / f"{i}.png")
    smooth(1).save(tmp_path / "a" / "again.jpg", quality=85)
    monkeypatch.setattr(inspect, "MOST_BY_DEFAULT", 6)
    found = inspect_folder(scan(tmp_path))
    assert found.siblings == () and inspect.TOO_MANY in found.notes and inspect.TOO_MANY in found.advice
    near = inspect_folder(scan(tmp_path), duplicates="near")
    assert len(near.siblings) == 1 and not {inspect.TOO_MANY} & {*near.notes, *near.advice}


def test_a_class_of_one_group(tmp_path):
    for k, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        for i in range(6):
            smooth(300 if name == "c" else 100 * k + i).save(tmp_path / name / f"{i}.jpg", quality=95 - i)
    found = inspect_folder(scan(tmp_path))
    assert found.of_one_group == ("c",) and [len(g.paths) for g in found.siblings] == [6]
    assert any(line.startswith("all images of c belong to one group: no honest test") for line in found.advice)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("run{}_item_{}.png", r"run(\d+)"),
        ("{}_{}.png", r"([^/]+/\d+)[_-]"),
        ("img-{1}.png", None),  # a number for every image
        ("slide1_{1}.png", None),  # one group for all
    ],
)
def test_names_that_tell_the_siblings(name, pattern):
    paths = ["a/" + name.format(k // 4, k) for k in range(24)]
    groups = [list(range(k, k + 4)) for k in range(0, 24, 4)]
    assert naming_pattern(paths, groups) == pattern
    assert naming_pattern(paths, []) is None
    assert naming_pattern(paths, [[0, 23], [4, 20]]) is None  # siblings with different names


def test_near_duplicates_across_splits_are_named(tmp_path):
    for split in ("train", "test"):
        for k, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                smooth(10 * k + i + 100 * (split == "test")).save(tmp_path / split / name / f"{i}.png")
    smooth(1).save(tmp_path / "test" / "a" / "twin.jpg", quality=90)
    found = inspect_folder(scan(tmp_path), duplicates="near")
    assert [g.splits for g in found.sibling_leaks] == [("train", "test")] and found.leaks == ()
    assert any("1 group of siblings spans more than one split" in line for line in found.advice)
    assert found.to_json()["sibling_leaks"] == [
        {"paths": ["train/a/1.png", "test/a/twin.jpg"], "splits": ["train", "test"]}
    ]


def test_bad_files_do_not_count(data, picture):
    cut = picture(data / "b" / "cut.png", seed=5, size=(50, 50))
    cut.write_bytes(cut.read_bytes()[:500])
    (data / "b" / "page.jpg").write_text("<html>")
    out = inspect_folder(scan(data)).to_json()
    assert [b["path"] for b in out["bad_files"]] == ["b/cut.png", "b/page.jpg"]
    assert out["minority"] == {"name": "b", "count": 2}
    assert any("2 files cannot be used" in line for line in out["advice"])


def test_empty_classes_are_listed(data):
    (data / "none").mkdir()
    out = inspect_folder(scan(data)).to_json()
    assert out["classes"][2] == {"name": "none", "count": 0, "share": 0.0, "to_add": 6}
    assert out["imbalance_rate"] == 3.0 and out["minority"]["name"] == "b"
    assert any("none" in line and "left out of the IR" in line for line in out["advice"])


def test_advice(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(advice, "has_gpu", lambda: False)
    for i in range(60):
        picture(tmp_path / "many" / f"{i}.png", seed=i)
        if i < 50:
            picture(tmp_path / "enough" / f"{i}.png", seed=100 + i)
    balanced = inspect_folder(scan(tmp_path)).advice
    assert balanced[0] == "IR 1.2: close to balanced, nothing to do"
    assert not any("balancegan train" in line for line in balanced)
    for i in range(6):
        picture(tmp_path / "schizont" / f"{i}.png", seed=200 + i, size=(30, 8))
    for i in range(2):
        picture(tmp_path / "two" / f"{i}.png", seed=300 + i, mode="L")
    text = "\n".join(inspect_folder(scan(tmp_path)).advice)
    assert "IR 30: strongly imbalanced" in text
    assert "schizont has 6 images: expect near-copies" in text
    assert "two has 2 images: too few" in text
    assert "`balancegan train " in text and "adds 122 synthetic images" in text
    assert "--preset tiny" in text and "edm" not in text
    assert "smallest width" in text and "--fit crop" in text and "images are grey" in text


def test_edm_is_recommended_where_a_gpu_was_found(data, monkeypatch):
    monkeypatch.setattr(advice, "has_gpu", lambda: True)
    text = inspect_folder(scan(data)).advice[-1]
    assert text.startswith("next: `balancegan train ") and " --method edm`, then `balancegan augment" in text
    assert WHY_RECOMMENDED in text and "without a GPU" not in text


def test_usage(data):
    with pytest.raises(UsageError, match="no test split"):
        inspect_folder(scan(data), split="test")
    with pytest.raises(UsageError):
        inspect_folder(scan(data), duplicates="fuzzy")
    with pytest.raises(UsageError, match="cannot be"):
        inspect_folder(scan(data), target_ir=0.5)


def test_processes_and_threads_agree(data, monkeypatch):
    threads = inspect_folder(scan(data), workers=2).to_json()
    monkeypatch.setattr(pool, "PROCESSES_FROM", 1)
    assert inspect_folder(scan(data), workers=2).to_json() == threads


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not allow")
def test_html(data, picture):
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in data.rglob("*.png")}
    picture(data / "<script>alert(1)</script>".replace("/", "") / "<b>&.png", seed=1)
    picture(data / "b" / "photo.jpg", seed=2, size=(300, 200))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(data / "b" / "deep.tif")
    shutil.copy(data / "a/0.png", os.fsencode(data / "a") + b"/\xff.png")
    (data / "b" / "bad.png").touch()
    folder = scan(data)
    page = render_html(inspect_folder(folder, duplicates="near"), folder)
    page.encode()
    assert page.startswith("<!doctype html>")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert page.count("data:image/") == 7 + 4 + 1
    assert "data:image/jpeg" in page and "data:image/png" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page and "viewport" in page
    assert "bad.png" in page and "Duplicates" in page
    assert "<code>--filter copies</code>" in page
    assert before == {p: hashlib.sha256(p.read_bytes()).digest() for p in before}


def test_html_shows_siblings(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            smooth(i + 100 * (name == "b")).save(tmp_path / name / f"{i}.png")
    for i in range(9):
        smooth(1).save(tmp_path / "a" / f"again{i}.jpg", quality=95 - i)
    folder = scan(tmp_path)
    page = render_html(inspect_folder(folder), folder)
    assert page.count('alt="Siblings example') == 8 and "Siblings (1)" in page and "a/again8.jpg" in page


def test_inspect_does_not_import_torch(data):
    code = (
        "import sys; from balancegan.data.scan import scan; from balancegan.inspection.inspect import *;"
        "from balancegan.report.inspection import render_html;"
        f"f = scan({str(data)!r}); render_html(inspect_folder(f, duplicates='exact'), f);"
        "bad = {'torch', 'sklearn', 'skimage', 'scipy', 'matplotlib', 'typer', 'rich'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_script_without_a_main_guard(data, tmp_path):
    """Worker processes must not run the user's script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from balancegan.data import pool\n"
        "pool.PROCESSES_FROM = 1\n"
        "from balancegan.data.scan import scan\n"
        "from balancegan.inspection.inspect import inspect_folder\n"
        f"print(inspect_folder(scan({str(data)!r}), workers=2).num_images)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["once", "8"] and done.stderr == ""
