from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time

import numpy as np
import pytest
from helpers import fall_over, open_in_process, tree
from PIL import Image

from balancegan.core.errors import DatasetError, DiskError
from balancegan.data import build, pool, store
from balancegan.data.decode import DecodeSettings
from balancegan.data.scan import scan
from balancegan.data.store import open_store, stores_dir
from balancegan.data.window import Window

SMALL = DecodeSettings(image_size=16)


def no_decoding(*_: object, **__: object) -> None:
    raise AssertionError("decoded again")


def test_rows(data):
    before = tree(data)
    s = open_store(scan(data), SMALL)
    assert tree(data) == before
    assert isinstance(s.images, np.memmap) and not s.images.flags.writeable
    assert s.images.shape == (8, 3, 16, 16) and s.images.dtype == np.uint8
    assert s.labels.tolist() == [0] * 6 + [1] * 2 and s.labels.dtype == np.int64
    assert s.classes == ("a", "b") and set(s.splits) == {"train"} and len(s) == 8
    assert s.settings.channels == 3 and s.window is None
    assert s.native_sizes.tolist() == [[10, 8]] * 8 and set(s.native_modes) == {"RGB"}
    assert [f.rel for f in s.files][:2] == ["a/0.png", "a/1.png"]
    exact = Image.open(data / "a/3.png").resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(s.images[3], np.asarray(exact).transpose(2, 0, 1))
    assert s.indices(label=1).tolist() == [6, 7]
    assert s.indices("train", 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert s.indices("test").tolist() == []
    assert s.path.parent == stores_dir()
    assert list(stores_dir().iterdir()) == [s.path]


def test_summary_is_json(data):
    (data / "a" / "0.png").write_bytes(b"\xff\xd8\xff broken")
    out = json.loads(json.dumps(open_store(scan(data), SMALL).summary()))
    assert out["counts"] == {"train": {"a": 5, "b": 2}} and out["class_names"] == ["a", "b"]
    assert out["image_size"] == 16 and out["channels"] == 3 and out["fit"] == "stretch" and out["window"] is None
    assert out["background"] == [255, 255, 255] and len(out["fingerprint"]) == 40
    assert out["bad_files"][0]["path"] == "a/0.png"


def test_a_second_run_does_not_decode(data, monkeypatch):
    first = open_store(scan(data), SMALL)
    monkeypatch.setattr(build, "decode_image", no_decoding)
    second = open_store(scan(data), SMALL)
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.images, first.images)
    with pytest.raises(AssertionError, match="decoded again"):
        open_store(scan(data), DecodeSettings(image_size=17))
    os.utime(data / "a/0.png", (1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        open_store(scan(data), SMALL)


def test_the_fingerprint_follows_content_only(data, tmp_path, picture):
    first = open_store(scan(data), SMALL).fingerprint
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    for path in moved.rglob("*.png"):
        os.utime(path, (1, 1))
    assert open_store(scan(moved), SMALL).fingerprint == first

    def after(change) -> str:
        shutil.rmtree(moved)
        shutil.copytree(data, moved)
        change()
        return open_store(scan(moved), SMALL).fingerprint

    prints = [
        first,
        open_store(scan(data), DecodeSettings(image_size=17)).fingerprint,
        open_store(scan(data), DecodeSettings(image_size=16, fit="crop")).fingerprint,
        open_store(scan(data), DecodeSettings(image_size=16, channels=1)).fingerprint,
        after(lambda: picture(moved / "a" / "0.png", seed=999)),
        after(lambda: (moved / "a" / "0.png").rename(moved / "a" / "z.png")),
        after(lambda: (moved / "a" / "0.png").rename(moved / "b" / "z.png")),
        after(lambda: (moved / "a").rename(moved / "c")),
        after(lambda: (moved / "a" / "0.png").unlink()),
    ]
    assert len(set(prints)) == len(prints)


def test_split_names_do_not_change_the_fingerprint(tmp_path, picture):
    for root, train in (("x", "train"), ("y", "Training")):
        for i, name in enumerate("ab"):
            picture(tmp_path / root / train / name / "1.png", seed=i)
    assert open_store(scan(tmp_path / "x"), SMALL).fingerprint == open_store(scan(tmp_path / "y"), SMALL).fingerprint


def test_grey_sets_get_one_channel(tmp_path, picture):
    for i in range(4):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png", seed=i, mode="L")
    Image.open(tmp_path / "a/0.png").convert("RGB").save(tmp_path / "a/as_rgb.png")
    s = open_store(scan(tmp_path), SMALL)
    assert s.images.shape == (5, 1, 16, 16) and s.settings.channels == 1
    np.testing.assert_array_equal(s.images[0], s.images[2])
    assert open_store(scan(tmp_path), DecodeSettings(16, channels=3)).images.shape == (5, 3, 16, 16)


def test_one_colour_image_that_the_sample_missed(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(build, "_SAMPLE", 2)
    for i in range(6):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png", seed=i, mode="RGB" if i == 5 else "L")
    s = open_store(scan(tmp_path), SMALL)
    assert s.settings.channels == 3 and s.images.shape == (6, 3, 16, 16)
    assert (s.images[0][0] == s.images[0][1]).all() and not (s.images[5][0] == s.images[5][1]).all()


def test_deep_images_share_one_window_from_training(tmp_path):
    def write(rel: str, low: int, high: int) -> None:
        path = tmp_path / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.linspace(low, high, 256).astype(np.uint16).reshape(16, 16)).save(path)

    write("train/a/dark.png", 1000, 2000)
    write("train/b/bright.png", 4000, 5000)
    write("test/a/brighter.png", 5000, 9000)
    s = open_store(scan(tmp_path), SMALL)
    assert s.window == Window(1000, 5000) and s.settings.channels == 1
    dark, bright, beyond = s.images[0], s.images[1], s.images[2]
    assert (dark.min(), dark.max()) == (0, 64)  # the darker image stays darker: scaled together, not one by one
    assert (bright.min(), bright.max()) == (191, 255)
    assert beyond.min() == beyond.max() == 255
    assert s.summary()["window"] == [1000, 5000]
    assert s.native_modes[0] == "I;16"


def test_deep_among_plain_images(data):
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256).save(data / "a" / "2b.png")
    s = open_store(scan(data), SMALL)
    row = [f.rel for f in s.files].index("a/2b.png")
    np.testing.assert_array_equal(s.images[row], np.repeat(np.arange(256).reshape(1, 16, 16), 3, 0))


def test_damaged_files_are_left_out_or_fatal(data, picture):
    good = open_store(scan(data), SMALL)
    cut = picture(data / "a" / "1.jpg", seed=9, size=(64, 64))
    cut.write_bytes(cut.read_bytes()[:900])
    (data / "b" / "page.jpg").write_text("<html>")
    s = open_store(scan(data), SMALL)
    assert [b.path for b in s.bad_files] == ["a/1.jpg", "b/page.jpg"]
    assert "truncated" in s.bad_files[0].reason and "HTML" in s.bad_files[1].reason
    np.testing.assert_array_equal(s.images, good.images)  # rows moved up over the gap
    assert s.labels.tolist() == [0] * 6 + [1] * 2
    assert s.fingerprint == good.fingerprint
    assert [b.path for b in open_store(scan(data), SMALL).bad_files] == ["a/1.jpg", "b/page.jpg"]
    with pytest.raises(DatasetError, match=r"b/page\.jpg"):
        open_store(scan(data), SMALL, strict=True)
    (data / "b" / "page.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 file cannot be used: a/1\.jpg: truncated"):
        open_store(scan(data), SMALL, strict=True)
    with pytest.raises(DatasetError, match="1 file cannot be used"):  # from the cache too
        open_store(scan(data), SMALL, strict=True)


def test_many_gaps(data, picture):
    for i in range(0, 40, 3):
        (data / "a" / f"x{i:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for i in range(40):
        if i % 3:
            picture(data / "a" / f"x{i:02}.png", seed=i)
    s = open_store(scan(data), SMALL)
    for row, f in enumerate(s.files):
        exact = Image.open(data / f.rel).resize((16, 16), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(s.images[row], np.asarray(exact).transpose(2, 0, 1))


def test_classes_without_training_images_are_left_out(data, tmp_path, picture):
    picture(data / "aa" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    s = open_store(scan(data), SMALL)
    assert s.classes == ("a", "b") and s.labels.tolist() == [0] * 6 + [1] * 2
    assert any("'aa'" in note for note in s.notes)
    split = tmp_path / "split"
    shutil.copytree(data, split / "train")
    picture(split / "test" / "aa" / "x.png")
    picture(split / "test" / "b" / "x.png")
    s = open_store(scan(split), SMALL)
    assert s.counts("test") == {"a": 0, "b": 1}
    assert [f.label for f in s.files] == s.labels.tolist()
    for path in (data / "b").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DatasetError, match="fewer than two classes"):
        open_store(scan(data), SMALL)


@pytest.mark.parametrize("harm", ["short", "gone", "garbled", "schema"])
def test_a_damaged_store_is_rebuilt(data, harm):
    s = open_store(scan(data), SMALL)
    expected, path = s.images.copy(), s.path
    if harm == "short":
        (path / "images.u8").write_bytes(b"123")
    elif harm == "gone":
        (path / "rows.npz").unlink()
    elif harm == "garbled":
        (path / "meta.json").write_text("{")
    else:
        (path / "meta.json").write_text((path / "meta.json").read_text().replace('"schema": 1', '"schema": 0'))
    np.testing.assert_array_equal(open_store(scan(data), SMALL).images, expected)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_build_leaves_nothing(data, monkeypatch):
    monkeypatch.setattr(store, "write_tables", no_decoding)
    with pytest.raises(AssertionError):
        open_store(scan(data), SMALL)
    assert list(stores_dir().iterdir()) == []


def test_leftovers_are_cleaned_when_old(data):
    stores_dir().mkdir(parents=True)
    old, fresh, unused = (stores_dir() / name for name in ("tmp-dead", "tmp-alive", "f" * 32))
    for folder in (old, fresh, unused):
        folder.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(unused, (time.time() - 90 * 24 * 3600,) * 2)
    open_store(scan(data), SMALL)
    assert not old.exists() and not unused.exists() and fresh.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_colour_that_the_sample_did_not_show(tmp_path, picture, workers):
    """Threads that were decoding for a grey set must not go on writing into what is built for a colour one."""
    for i in range(600):
        picture(tmp_path / "a" / f"{i:03d}.png", seed=i, mode="RGB" if i == 301 else "L")
        picture(tmp_path / "b" / f"{i:03d}.png", seed=1000 + i, mode="L")
    folder = scan(tmp_path)
    found = open_store(folder, DecodeSettings(32, None), workers=workers)
    expected = open_store(folder, DecodeSettings(32, 3), workers=1)
    assert found.images.shape[1] == 3
    assert (found.images == expected.images).all() and (found.digests == expected.digests).all()


def test_full_disk(data, monkeypatch):
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DiskError, match="are free") as e:
        open_store(scan(data), SMALL)
    assert e.value.exit_code == 6 and "BALANCEGAN_CACHE_DIR" in e.value.hint
    monkeypatch.undo()


def test_disk_that_fills_up_while_writing(data, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_all", full)
    with pytest.raises(DiskError, match="No space left"):
        open_store(scan(data), SMALL)


def test_unusable_cache_folder(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write the image cache"):
        open_store(scan(data), SMALL, cache_dir=tmp_path / "file" / "below")


def test_two_processes_at_once(data, tmp_path):
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    args = (str(data), str(tmp_path / "cache"), out)
    processes = [context.Process(target=open_in_process, args=args) for _ in range(3)]
    for p in processes:
        p.start()
    results = {out.get(timeout=60) for _ in processes}
    for p in processes:
        p.join()
    assert len(results) == 1
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1


def test_the_loser_of_a_race_takes_the_winners_store(data, monkeypatch):
    folder, real = scan(data), store.build

    def overtaken(*args, **kwargs):
        built = real(*args, **kwargs)
        monkeypatch.setattr(store, "build", real)
        open_store(folder, SMALL)
        return built

    monkeypatch.setattr(store, "build", overtaken)
    s = open_store(folder, SMALL)
    assert s.images.shape == (8, 3, 16, 16)
    assert list(stores_dir().iterdir()) == [s.path]


def test_worker_processes_give_the_same(data, monkeypatch, tmp_path):
    threads = open_store(scan(data), SMALL, workers=2)
    monkeypatch.setattr(pool, "PROCESSES_FROM", 1)
    monkeypatch.setattr(build, "chunk_size", lambda _: 2)
    calls = []
    processes = open_store(
        scan(data), SMALL, workers=2, cache_dir=tmp_path / "other", progress=lambda *c: calls.append(c)
    )
    assert processes.fingerprint == threads.fingerprint
    np.testing.assert_array_equal(processes.images, threads.images)
    assert calls[0] == ("decode", 0, 8) and calls[-1] == ("decode", 8, 8)


def test_a_killed_worker_is_replaced_by_threads(monkeypatch):
    monkeypatch.setattr(pool, "PROCESSES_FROM", 1)
    chunks = pool.chunked(list(range(50)), 3)
    results = pool.map_chunks(fall_over, chunks, workers=2)
    assert [x for part in results for x in part] == [x * 2 for x in range(50)]


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_every_chunk_comes_back_in_order(size):
    chunks = pool.chunked(list(range(100)), size)
    results = pool.map_chunks(list, chunks, workers=3)
    assert [x for part in results for x in part] == list(range(100))
