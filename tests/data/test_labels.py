"""Labels from a table, and names of folders that need a decision."""

import json

import numpy as np
import pytest
from PIL import Image

from balancegan.core.errors import DatasetError, UsageError
from balancegan.core.options import DataOptions
from balancegan.data.decode import DecodeSettings
from balancegan.data.groups import image_groups
from balancegan.data.layout import split_of
from balancegan.data.own import Told
from balancegan.data.scan import scan
from balancegan.data.store import open_store


def images(folder, *names):
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)


def table(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def flat(tmp_path):
    """Six images in one folder."""
    images(tmp_path / "d", *(f"images/{k}.png" for k in range(6)))
    return tmp_path / "d"


ROWS = [f"images/{k}.png,{'ab'[k % 2]}" for k in range(6)]


def test_metadata_beside_images_is_read_like_hugging_face_does(flat):
    table(flat / "metadata.csv", "file_name,label", *ROWS)
    folder = scan(flat)
    assert folder.labelled and folder.counts() == {"a": 3, "b": 3}
    assert folder.warnings == ("the labels are those of metadata.csv",)
    first = folder.files[0]
    assert (first.rel, folder.inner(first), folder.place(first)) == ("images/0.png", "images/0.png", "a/images/0.png")


def test_json_lines_in_the_folders_of_splits(tmp_path):
    images(tmp_path, *(f"train/{k}.png" for k in range(4)), *(f"test/{k}.png" for k in range(2)))
    for split, n in (("train", 4), ("test", 2)):
        rows = [json.dumps({"file_name": f"{k}.png", "label": k % 2}) for k in range(n)]
        table(tmp_path / split / "metadata.jsonl", *rows)
    folder = scan(tmp_path)
    assert folder.splits == ("train", "test") and folder.counts("test") == {"0": 1, "1": 1}
    assert folder.place(folder.files[0]) == "train/0/train/0.png"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("train.csv", ["id_code,diagnosis", *(f"{k},{k % 2}" for k in range(6))]),
        ("labels.tsv", ["Image Name\tClass", *(f"{k}.png\t{k % 2}" for k in range(6))]),
        ("labels.csv", ["image;label", *(f"images/{k}.png;{k % 2}" for k in range(6))]),
        ("whales.csv", ["Image,Id", *(f"{k}.png,{k % 2}" for k in range(6))]),
        ("isic.csv", ["image,0,1,age", *(f"{k},{1.0 - k % 2},{float(k % 2)},{40 + k}" for k in range(6))]),
        ("windows.csv", ["﻿file_name,label", *(f"images\\{k}.png,{k % 2}" for k in range(6))]),
    ],
)
def test_usual_columns_are_found(flat, tmp_path, name, lines):
    folder = scan(flat, DataOptions(labels=table(tmp_path / name, *lines)))
    assert folder.counts() == {"0": 3, "1": 3}, name


def test_splits_and_groups_of_the_table_are_used(flat, tmp_path):
    rows = [f"{k}.png,{'ab'[k % 2]},{'train' if k < 4 else 'valid'},g{k // 2}" for k in range(6)]
    folder = scan(flat, DataOptions(labels=table(tmp_path / "t.csv", "file_name,label,split,group", *rows)))
    assert folder.splits == ("train", "val") and folder.class_dir("val", "a") == "val/a"
    store = open_store(folder, DecodeSettings(16), cache_dir=tmp_path / "c")
    groups = image_groups(folder, store, "auto")
    names = {f.rel: int(g) for f, g in zip(store.files, groups, strict=True)}
    assert names["images/0.png"] == names["images/1.png"] != names["images/2.png"]


def test_labels_are_text(flat, tmp_path):
    words = ["NA", "nan", "None", "007", "a/b", ".hidden"]
    rows = [f"{k}.png,{word}" for k, word in enumerate(words)]
    folder = scan(flat, DataOptions(labels=table(tmp_path / "t.csv", "file_name,label", *rows)))
    assert set(folder.classes) == {"NA", "nan", "None", "007", "a-b", "_.hidden"}


def test_what_does_not_match_is_said(flat, tmp_path):
    rows = [*ROWS[:4], "images/9.png,a", "images/4.png,"]
    folder = scan(flat, DataOptions(labels=table(tmp_path / "t.csv", "file_name,label", *rows)))
    said = " ".join(folder.warnings)
    assert "1 row matches no image (e.g. images/9.png)" in said and "2 images are not in" in said
    assert "1 row has no label" in said and len(folder.files) == 4


def test_accents_match_however_they_are_encoded(tmp_path):
    images(tmp_path / "d", "Cafe\u0301.png", "b.png")  # decomposed, as macOS writes it
    folder = scan(
        tmp_path / "d", DataOptions(labels=table(tmp_path / "t.csv", "file_name,label", "Café.png,x", "b.png,y"))
    )
    assert folder.counts() == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file_name,label", "0.png,a", "0.png,b"], "two labels"),
        (["file_name,colour", "0.png,a"], "lacks a column of labels; it has file_name, colour"),
        (["where,label", "0.png,a"], "lacks a column of file names"),
        (["file_name,label", "nothing.png,a"], "names none of the 6 images"),
        (["file_name,label,split", "0.png,a,somewhere"], "unknown split 'somewhere'"),
        (["file_name,label"], "no rows"),
        (["file_name,label,split", "0.png,a,test"], "no image into the train split"),
    ],
)
def test_tables_that_cannot_be_used(flat, tmp_path, lines, message):
    with pytest.raises(DatasetError, match=message):
        scan(flat, DataOptions(labels=table(tmp_path / "t.csv", *lines)))


def test_a_table_that_is_not_there_or_not_text(flat, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        scan(flat, DataOptions(labels="nothing.csv"))
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError) as error:
        scan(flat, DataOptions(labels=str(tmp_path / "t.parquet")))
    assert "read_parquet" in error.value.hint


def test_a_flat_folder_names_the_ways_to_give_labels(tmp_path):
    images(tmp_path, "0.png", "1.png")
    with pytest.raises(DatasetError) as error:
        scan(tmp_path)
    assert "--labels" in error.value.hint and "metadata.csv" in error.value.hint


# --- splits, classes, and what is neither -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[(n, "train") for n in ("train", "Training", "train_set", "TrainData", "train-images")],
        *[(n, "val") for n in ("val", "valid", "dev", "eval", "Validation Set")],
        *[(n, "test") for n in ("test", "testing", "test_set", "holdout", "held-out")],
        *[(n, None) for n in ("cat", "trains", "tester", "set", "data", "unlabeled")],
    ],
)
def test_usual_names_of_splits(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize("other", ["eval", "dev", "holdout", "test_set"])
def test_other_names_beside_train_are_splits(tmp_path, other):
    images(tmp_path, "train/a/0.png", "train/b/0.png", f"{other}/a/1.png", f"{other}/b/1.png")
    folder = scan(tmp_path)
    assert folder.classes == ("a", "b") and len(folder.splits) == 2
    assert other == "test_set" or any(f"'{other}' is taken as" in warning for warning in folder.warnings)


def test_eval_beside_val_is_the_test_split(tmp_path):
    images(tmp_path, *(f"{s}/{c}/0.png" for s in ("train", "val", "eval") for c in "ab"))
    assert scan(tmp_path).split_dirs == {"train": "train", "val": "val", "test": "eval"}


def test_unlabelled_images_beside_train_are_skipped(tmp_path):
    images(tmp_path, "train/a/0.png", "train/b/0.png", "unlabeled/7.png")
    folder = scan(tmp_path)
    assert folder.classes == ("a", "b") and any("unlabeled" in w for w in folder.warnings)


def test_a_split_beside_a_class_must_be_settled(tmp_path):
    images(tmp_path, "train/a/0.png", "train/b/0.png", "cats/7.png")
    with pytest.raises(DatasetError, match="may be a split or a class") as error:
        scan(tmp_path)
    assert "--layout" in error.value.hint
    assert any("may be a split or a class" in w for w in scan(tmp_path, settle=False).warnings)
    assert scan(tmp_path, DataOptions(layout="classes")).classes == ("cats", "train")
    assert scan(tmp_path, DataOptions(layout="splits")).classes == ("a", "b")


def test_a_class_called_train_needs_no_decision(tmp_path):
    images(tmp_path, "train/0.png", "car/0.png")
    assert scan(tmp_path).classes == ("car", "train")


def test_folders_of_systems_are_no_classes(tmp_path):
    images(tmp_path, "a/0.png", "b/0.png", "a/@eaDir/0.png/thumb.jpg")
    images(tmp_path, "$RECYCLE.BIN/x.png", "#recycle/y.png", "System Volume Information/z.png", "lost+found/w.png")
    folder = scan(tmp_path)
    assert folder.classes == ("a", "b") and len(folder.files) == 2


def test_twins_are_named(tmp_path):
    images(tmp_path, "train/Cat/0.png", "train/cat /1.png", "train/dog/2.png")
    images(tmp_path, "test/Caf\u00e9/3.png", "train/Cafe\u0301/4.png")
    folder = scan(tmp_path)
    said = " ".join(folder.warnings)
    assert "'Cat' and 'cat ' differ only" in said and said.count("differ only") == 1
    assert "Caf\u00e9" in folder.classes and "Cafe\u0301" not in folder.classes  # one class, however it is encoded
    assert {folder.place(f) for f in folder.files if "Caf" in f.rel} == {
        "test/Caf\u00e9/3.png",
        "train/Caf\u00e9/4.png",
    }


def test_classes_whose_images_lie_deeper_are_named(tmp_path):
    images(tmp_path, "animals/cat/0.png", "animals/dog/1.png", "cars/2.png", "cars/red/3.png")
    assert [w for w in scan(tmp_path).warnings if "1 class has all images in sub-folders (e.g. animals/cat" in w]


@pytest.mark.parametrize("names", [("train2017", "val2017"), ("JPEGImages", "Annotations"), ("images", "labels")])
def test_detection_sets_are_named(tmp_path, names):
    images(tmp_path, f"{names[0]}/0.png")
    table(tmp_path / names[1] / "0.txt", "0 0.5 0.5 0.1 0.1")
    with pytest.raises(DatasetError, match="boxes"):
        scan(tmp_path)


def test_other_files_are_named(tmp_path):
    images(tmp_path, "a/0.png", "b/0.png")
    for name in ("a/0.jxl", "a/1.tga", "b/brain.nii.gz", "b/readme.txt"):
        (tmp_path / name).write_bytes(b"\xff\x0a")
    said = " ".join(scan(tmp_path).warnings)
    assert "3 files are in formats that are not read" in said and "1 .nii.gz (export its slices" in said
    for image in ("a/0.png", "b/0.png"):
        (tmp_path / image).unlink()
    with pytest.raises(DatasetError) as error:
        scan(tmp_path)
    assert ".jxl" in error.value.hint


# --- folders that we wrote --------------------------------------------------------------------------------------------


@pytest.fixture
def balanced(tmp_path):
    """A balanced folder: two real images of each class, and one synthetic one."""
    images(tmp_path / "o", "a/0.png", "a/1.png", "é/0.png", "é/syn_1.png", "é/2.png")
    rows = ["a/0.png,a,0", "a/1.png,a,0", "é/0.png,é,0", "é/syn_1.png,é,1", "é/2.png,é,0"]
    table(tmp_path / "o" / "metadata.csv", "file_name,label,synthetic", *rows)
    return tmp_path / "o"


def test_synthetic_images_are_not_real_ones(balanced):
    folder = scan(balanced)
    assert folder.counts() == {"a": 2, "é": 2} and "balanced before: 1 synthetic image is" in folder.warnings[0]
    assert scan(balanced, DataOptions(synthetic=True)).counts() == {"a": 2, "é": 3}


def test_decomposed_names_are_the_same(balanced):
    (balanced / "\u00e9").rename(balanced / "e\u0301")
    assert scan(balanced).counts() == {"a": 2, "\u00e9": 2}
    told = Told(balanced, ())
    assert told.synthetic("\u00e9/syn_1.png") is told.synthetic("e\u0301/syn_1.png") is True


def test_names_that_match_no_file_are_an_error(balanced):
    (balanced / "é").rename(balanced / "cafe")
    images(balanced, *(f"cafe/{k}.png" for k in range(5, 9)))
    with (balanced / "metadata.csv").open("a") as file:
        file.writelines(f"é/{k}.png,é,1\n" for k in range(5, 9))
    with pytest.raises(DatasetError, match="cannot be told apart"):
        scan(balanced)


def test_removed_and_added_files_are_none(balanced):
    (balanced / "a" / "1.png").unlink()
    images(balanced, "a/new.png")
    assert scan(balanced).counts() == {"a": 2, "é": 2}


# --- tables and folders that look like something else -----------------------------------------------------------------


def test_an_index_column_without_a_name_is_ignored(flat, tmp_path):
    rows = [f"{k},{k}.png,{'ab'[k % 2]}" for k in range(6)]
    folder = scan(flat, DataOptions(labels=table(tmp_path / "t.csv", ",image,label", *rows)))
    assert folder.counts() == {"a": 3, "b": 3} and not folder.groups and folder.splits == ("train",)


def test_a_stem_that_two_files_share_names_neither(tmp_path):
    images(tmp_path / "d", *(f"images/{k}.jpg" for k in range(4)), *(f"masks/{k}.png" for k in range(4)))
    rows = table(tmp_path / "t.csv", "id,label", *(f"{k},{k % 2}" for k in range(4)))
    with pytest.raises(DatasetError, match="names none"):
        scan(tmp_path / "d", DataOptions(labels=rows))


def test_metadata_beside_class_folders_needs_a_label_column(tmp_path):
    images(tmp_path, "cat/0.png", "dog/1.png")
    table(tmp_path / "metadata.csv", "file_name,type", "cat/0.png,cam", "dog/1.png,jpg")
    assert scan(tmp_path).classes == ("cat", "dog")
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text("[1,\n2]")
    assert scan(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test", "eval"), {"train": "train", "val": "val", "test": "test"}),
        (("train", "test", "holdout"), {"train": "train", "test": "test"}),
        (("train", "val", "test", "train_data"), {"train": "train", "val": "val", "test": "test"}),
    ],
)
def test_usual_names_come_before_others(tmp_path, folders, splits):
    images(tmp_path, *(f"{s}/{c}/0.png" for s in folders for c in "ab"))
    folder = scan(tmp_path)
    assert folder.split_dirs == splits and any("skipped folder" in w for w in folder.warnings)


def test_classes_with_names_of_splits(tmp_path):
    images(tmp_path / "d", "dev/0.png", "test/1.png")
    assert scan(tmp_path / "d").classes == ("dev", "test")
    images(tmp_path / "t", "train/0.png", "dev/1.png")
    assert scan(tmp_path / "t").classes == ("dev", "train")


def test_arrays_beside_images_are_no_images(tmp_path):
    images(tmp_path, "a/0.png", "b/1.png")
    np.save(tmp_path / "a" / "0.npy", np.zeros((12, 12)))  # its depth map
    np.save(tmp_path / "b" / "embedding.npy", np.zeros(512))
    np.save(tmp_path / "b" / "2.npy", np.zeros((12, 12)))
    folder = scan(tmp_path)
    assert [f.rel for f in folder.files] == ["a/0.png", "b/1.png", "b/2.npy"] and not folder.bad_files


def test_runs_of_the_first_decoding_see_the_folder_as_they_did(balanced, tmp_path):
    first = DataOptions(decoding=1)
    assert scan(balanced, first).counts() == {"a": 2, "é": 3}
    images(tmp_path / "n", "a/0.png", "b/1.png")
    np.save(tmp_path / "n" / "b" / "2.npy", np.zeros((12, 12)))
    table(tmp_path / "n" / "metadata.csv", "file_name,label", "a/0.png,x", "b/1.png,y")
    assert scan(tmp_path / "n", first).counts() == {"a": 1, "b": 1}
    images(tmp_path / "s", "train/a/0.png", "holdout/a/1.png", "e\u0301/2.png")
    assert scan(tmp_path / "s", first).classes == ("e\u0301", "holdout", "train")
