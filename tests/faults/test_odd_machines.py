"""Machines and file systems that lack something: locks, permissions, a home folder, shared memory, standard output."""

import errno
import json
import logging
import multiprocessing
import os
import pwd
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from balancegan.commands.imbalance import make_imbalanced
from balancegan.compute.processes import NEEDED, processes
from balancegan.core import locks
from balancegan.core.errors import DiskError, UsageError
from balancegan.core.files import cache_root, is_litter, read_again, write_atomic
from balancegan.core.locks import NoLock, drop_lock, is_held, require_lock
from balancegan.data import pool
from balancegan.data.scan import scan
from balancegan.folder.destination import is_free
from balancegan.runs import numbering
from balancegan.runs.directory import RunDir


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, 524])
def test_without_locks_work_goes_on_after_one_warning(tmp_path, monkeypatch, caplog, number):
    def failing(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", failing)
    locks._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            run = RunDir.begin(tmp_path / "runs", "dcgan", "d")
            run.unlock()
            held = require_lock(tmp_path / "x.lock", "busy", "wait")
            drop_lock(held)
    assert isinstance(held, NoLock) and sum("has no locks" in r.message for r in caplog.records) <= 3
    assert caplog.records and "two commands" in caplog.text


def test_other_failures_of_locks_are_errors(tmp_path, monkeypatch):
    def failing(self, timeout=None, **_):
        raise OSError(errno.EACCES, "denied")

    monkeypatch.setattr(FileLock, "acquire", failing)
    with pytest.raises(DiskError, match="denied"):
        require_lock(tmp_path / "x.lock", "busy", "wait")


def test_a_lock_that_is_not_released_ends_the_wait_and_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(numbering, "WAIT", 0.1)
    (tmp_path / "runs").mkdir()
    other = FileLock(tmp_path / "runs" / ".lock")
    with other, pytest.raises(UsageError) as error:
        RunDir.begin(tmp_path / "runs", "dcgan", "d")
    assert "delete" in error.value.hint and str(tmp_path / "runs" / ".lock") in error.value.hint


def test_a_held_lock_is_known(tmp_path):
    assert not is_held(tmp_path / "x.lock") and not (tmp_path / "x.lock").exists()
    with FileLock(tmp_path / "x.lock"):
        assert is_held(tmp_path / "x.lock")
    assert not is_held(tmp_path / "x.lock")


def test_permissions_that_cannot_be_set_are_no_error(tmp_path, monkeypatch, discs):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    monkeypatch.setattr("shutil.copystat", refused)
    write_atomic(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"
    assert make_imbalanced(discs, tmp_path / "copy", ir=2).copied_files


def test_a_user_without_a_home_folder(monkeypatch):
    def unknown(*_):
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "BALANCEGAN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cache_root().name == f"balancegan-{os.getuid()}"
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", "~/x")
    with pytest.raises(DiskError, match="no home folder"):
        cache_root()


def test_without_semaphores_threads_do_the_work(monkeypatch):
    monkeypatch.setattr(pool, "PROCESSES_FROM", 1)

    class Context:
        def Lock(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: Context())
    assert list(pool.map_chunks(sum, [[1, 2], [3]], workers=2)) == [3, 3]


def test_without_threads_the_caller_does_the_work(monkeypatch):
    def refused(self, *_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refused)
    assert list(pool.map_chunks(sum, [[1, 2], [3]], workers=2)) == [3, 3]


def test_lasting_errors_are_not_tried_again():
    calls = []

    def read():
        calls.append(1)
        raise FileNotFoundError(errno.ENOENT, "gone")

    with pytest.raises(FileNotFoundError):
        read_again(read, "read x")
    assert len(calls) == 1


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", ".nfs000012", "._x", ".ipynb_checkpoints"])
def test_litter_makes_no_folder_somebodys(tmp_path, name, discs):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).touch()
    assert is_litter(name) and is_free(tmp_path / "o")
    assert make_imbalanced(discs, tmp_path / "o", ir=2).copied_files
    assert not is_litter("image.png")


def test_leftover_variables_of_jobs_join_no_group(monkeypatch):
    for name in NEEDED:
        monkeypatch.setenv(name, "2")
    assert processes() == 2
    monkeypatch.delenv("LOCAL_RANK")
    assert processes() == 1


def test_help_waits_for_nobody():
    env = {**os.environ, **dict.fromkeys(NEEDED, "2"), "MASTER_ADDR": "192.0.2.1"}
    shown = subprocess.run(
        [sys.executable, "-m", "balancegan", "train", "--help"], env=env, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0 and "Usage" in shown.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_standard_output_is_one_line_and_exit_6(discs, options):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        shown = subprocess.run(
            [sys.executable, "-m", "balancegan", "inspect", str(discs), "-q", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert shown.returncode == 6 and "No space left" in shown.stderr and "Traceback" not in shown.stderr


def test_a_replaced_file_of_equal_size_and_time_is_read_again(tmp_path, discs):
    import shutil

    from balancegan.data.decode import DecodeSettings
    from balancegan.data.store import open_store

    shutil.copytree(discs, tmp_path / "d")
    before = open_store(scan(tmp_path / "d"), DecodeSettings(16), cache_dir=tmp_path / "c").fingerprint
    first, second = sorted((tmp_path / "d").rglob("*.png"))[:2]
    data, info = bytearray(first.read_bytes()), first.stat()
    other = second.read_bytes()
    size = max(len(data), len(other))
    for path, content in ((first, other),):
        path.write_bytes(content + b"\0" * (size - len(content)))
        os.truncate(path, size)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    after = open_store(scan(tmp_path / "d"), DecodeSettings(16), cache_dir=tmp_path / "c").fingerprint
    assert json.dumps(before) != json.dumps(after)
