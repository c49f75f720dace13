"""Groups of images that stay together: by pixels, siblings, names and tables; and what a split makes of them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from balancegan.core.config import MethodConfig
from balancegan.core.errors import CheckpointError, DatasetError, UsageError
from balancegan.data import groups
from balancegan.data.decode import DecodeSettings
from balancegan.data.groups import group_summary, image_groups, joined, of_one_group
from balancegan.data.scan import scan
from balancegan.data.store import open_store
from balancegan.data.training_set import open_training_set, reopen_training_set

pytestmark = pytest.mark.usefixtures("plain_search")
SMALL = DecodeSettings(image_size=16)


def smooth(seed):
    few = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def objects(tmp_path):
    """Two classes of eight objects, each seen three times under another exposure; names tell nothing."""
    for k, name in enumerate("ab"):
        (tmp_path / "objects" / name).mkdir(parents=True)
        for i in range(24):
            image = smooth(100 * k + i % 8).point(lambda v, i=i: 0.7 * v + 10 * (i // 8))
            image.save(tmp_path / "objects" / name / f"{i:02d}.png")
    return tmp_path / "objects"


def of(root, rule, **settings):
    folder = scan(root)
    store = open_store(folder, SMALL)
    found = image_groups(folder, store, rule)
    assert found.shape == (len(store),) and found.dtype == np.int64
    return {frozenset(store.files[i].rel for i in np.flatnonzero(found == g)) for g in np.unique(found)}


def test_joined_keys():
    assert joined(["x", "y", "z", "x", "w"]).tolist() == [0, 1, 2, 0, 3]
    assert joined([1, 2, 3, 4, 5], [None, None, 7, 8, 7]).tolist() == [0, 1, 2, 3, 2]
    assert joined("abcda", [1, 2, 2, 3, 3]).tolist() == [0, 1, 1, 0, 0]  # by way of the last image
    assert joined([]).tolist() == []


def test_what_a_summary_counts():
    assert group_summary(np.array([3, 1, 3, 3, 2, 2, 9])) == {"number": 2, "largest": 3, "images": 5}
    assert group_summary(np.arange(4)) == {"number": 0, "largest": 0, "images": 0}
    labels = np.array([0, 0, 1, 1, 2, 3, 3])
    assert of_one_group(labels, np.array([5, 5, 5, 6, 7, 8, 8])) == [0, 3]  # class 2 has one image only


def test_siblings_share_a_group(objects):
    found = of(objects, "auto")
    assert found == {frozenset(f"{name}/{i:02d}.png" for i in (k, k + 8, k + 16)) for name in "ab" for k in range(8)}
    assert len(of(objects, "none")) == 48
    shutil.copy(objects / "a" / "00.png", objects / "b" / "copy.png")
    assert frozenset({"a/00.png", "b/copy.png"}) in of(objects, "none")


def test_the_groups_do_not_depend_on_the_image_size(objects):
    folder = scan(objects)
    first, *others = (image_groups(folder, open_store(folder, DecodeSettings(n)), "auto").tolist() for n in (8, 16, 64))
    assert all(other == first for other in others) and len(set(first)) == 16


def test_a_search_among_some_images(objects):
    """As among the real images of a balanced folder."""
    folder = scan(objects)
    store = open_store(folder, SMALL)
    found = image_groups(folder, store, "auto", among=np.arange(len(store)) % 24 < 10)
    assert np.bincount(found).tolist() == [2, 2, *[1] * 20, 2, 2, *[1] * 20]


def test_the_search_is_done_once(objects, monkeypatch):
    seen, folder = [], scan(objects)
    store = open_store(folder, SMALL)
    first = image_groups(folder, store, "auto", progress=lambda *tick: seen.append(tick))
    assert seen[-1] == ("siblings", 48, 48)
    monkeypatch.setattr(groups, "sibling_groups", None)
    assert image_groups(folder, open_store(folder, SMALL), "auto").tolist() == first.tolist()
    for damaged in (b"", b"x" * 50, (store.path / groups.CACHED).read_bytes()[:-8]):
        (store.path / groups.CACHED).write_bytes(damaged)
        with pytest.raises(TypeError):  # another search
            image_groups(folder, store, "auto")


@pytest.mark.parametrize("split", [False, True])
def test_a_table_of_groups(objects, tmp_path, split):
    if split:
        shutil.move(objects, tmp_path / "train")
        (tmp_path / "data").mkdir()
        shutil.move(tmp_path / "train", tmp_path / "data" / "train")
        objects = tmp_path / "data"
    where = "train/" if split else ""
    table = tmp_path / "groups.csv"
    table.write_text(
        f"\ufefffile_name,group,more\na/00.png,x,1\n./b/01.png,x\n{where}b/02.png, x ,\na/05.png,,\nz/no.png,x\n"
    )
    found = of(objects, str(table))
    assert frozenset(f"{where}{name}" for name in ("a/00.png", "b/01.png", "b/02.png")) in found and len(found) == 46
    inside = tmp_path / "inside.csv"
    inside.write_text(f"file_name,group\n{objects.name}/{where}a/00.png,x\n{objects.name}/{where}b/01.png,x\n")
    assert frozenset(f"{where}{name}" for name in ("a/00.png", "b/01.png")) in of(objects, str(inside))
    shutil.move(table, objects / "groups.csv")
    assert of(objects, "/elsewhere/groups.csv") == found  # the data has moved and brought its table along


@pytest.mark.parametrize(
    ("text", "message"),
    [("file_name\na/00.png\n", "lacks the column"), ("", "lacks the column"), ("file_name,group\nx,1\n", "names none")],
)
def test_tables_that_say_nothing(objects, tmp_path, text, message):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        of(objects, str(tmp_path / "groups.csv"))


def test_wrong_rules(objects):
    with pytest.raises(UsageError, match="no such file"):
        of(objects, "missing.csv")
    with pytest.raises(DatasetError, match="matches none"):
        of(objects, "patient")
    assert len(of(objects, r"([ab])/")) == 2


def test_a_holdout_has_no_siblings_in_training(objects):
    data = open_training_set(objects, MethodConfig(image_size=16))
    held, train = data.groups[data.holdout_rows], data.groups[data.train_rows]
    assert len(held) == 12 and not set(held) & set(train)
    assert data.grouped == {"number": 16, "largest": 3, "images": 48}
    record = data.describe(MethodConfig(image_size=16))
    assert record["groups"] == data.grouped and record["holdout"]["group_by"] == "auto"
    apart = open_training_set(objects, MethodConfig(image_size=16, group_by="none"))
    assert set(apart.groups[apart.holdout_rows]).isdisjoint(apart.groups[apart.train_rows])
    assert set(data.groups[apart.holdout_rows]) & set(data.groups[apart.train_rows])


def test_the_holdout_is_read_and_not_chosen_again(objects, monkeypatch):
    cfg = MethodConfig(image_size=16)
    data = open_training_set(objects, cfg)
    record = data.describe(cfg)
    record["holdout"]["files"] = ["a/03.png", "b/11.png"]  # as an earlier version might have chosen
    monkeypatch.setattr(groups, "sibling_groups", None)
    again = reopen_training_set(record, cfg)
    assert again.held_out == ["a/03.png", "b/11.png"] and len(again.train_rows) == 46
    assert open_training_set(objects, cfg, held_out=[]).held_out == []
    for files in (["a/03.png", "a/99.png"], ["a/03.png", 3], "a/03.png", None):
        record["holdout"]["files"] = files
        with pytest.raises(CheckpointError):
            reopen_training_set(record, cfg)


def test_classes_that_cannot_be_tested(tmp_path, objects):
    for path in (objects / "b").iterdir():
        if int(path.stem) % 8:
            path.unlink()
    for i in range(4):
        smooth(100).point(lambda v, i=i: 0.6 * v + 20 * i).save(objects / "b" / f"{30 + i}.png")
    data = open_training_set(objects, MethodConfig(image_size=16))
    assert data.of_one_group == data.without_holdout == ["b"]


def test_a_wrong_rule_is_noticed_at_the_start_though_there_is_a_test_split(split_discs):
    with pytest.raises(DatasetError, match="matches none"):
        open_training_set(split_discs, MethodConfig(image_size=16, group_by="patient"))
    found = open_training_set(split_discs, MethodConfig(image_size=16))
    assert "groups" not in vars(found) and found.describe(MethodConfig())["groups"] is None  # no search for nothing
    assert len(found.groups) == len(found.store)
