"""Disks that are full, read-only or gone: one clear line, exit 6, nothing half-written, everything earlier intact.

Where the tests run as root, a small file system in memory is really full or read-only; elsewhere a limit on the size of
files and permissions stand in.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import SHORT, Quiet, train_tiny, tree, write_images
from PIL import Image
from typer.testing import CliRunner

from balancegan.cli.app import app
from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.compare.matrix import Board
from balancegan.commands.compare.request import CompareRequest
from balancegan.commands.compare.run import compare
from balancegan.commands.imbalance import make_imbalanced
from balancegan.core.errors import DiskError
from balancegan.data.scan import scan
from balancegan.data.store import open_store, stores_dir
from balancegan.runs.directory import RunDir

pytestmark = pytest.mark.usefixtures("quick_reports")
CPU = torch.device("cpu")
GENERATED = {"fill": "generated", "filter": "none", "report": False}


@pytest.fixture
def disk(tmp_path):
    """Makes small file systems: `disk(MiB)` is an empty one's folder, or the test is skipped."""
    made = []

    def make(mebibytes):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={int(mebibytes * 2**20)}", "none", str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.fixture
def no_estimate(monkeypatch):
    """As if the space had been there when the work began."""
    for module in ("commands.train", "commands.compare.run", "commands.imbalance", "data.build", "folder.real_files"):
        monkeypatch.setattr(f"balancegan.{module}.require_space", lambda *_: None)


def fill(folder, leave=0):
    """Use a disk up, but for so many bytes."""
    free = shutil.disk_usage(folder).free
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
        file.write(b"\0" * max(0, free - leave))


def read_only(folder):
    """Nobody can write to the folder any more."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        folder.chmod(0o555)


class At(Quiet):
    """Does something after a step of the adversarial stage."""

    def __init__(self, step, action):
        super().__init__()
        self.at, self.action = step, action

    def step(self, stage, step, total):
        if stage == "adversarial" and step == self.at:
            self.action()


def whole(run):
    """Every checkpoint of a run verifies, and nothing else lies beside them."""
    names = {p.name for p in (run.path / "checkpoints").iterdir()}
    for path in run.checkpoint_dirs():
        run.load_checkpoint(choice=str(int(path.name[5:])))
    return {int(name[5:]) for name in names}


def in_words(error):
    assert error.exit_code == 6 and error.hint and "\n" not in error.message + error.hint
    return error.message


# --- full -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [0, 6_000, 900_000])
def test_a_disk_that_fills_up_under_a_training(discs, tmp_path, disk, no_estimate, leave):
    """The log, the pictures or the next checkpoint fail; freed, the same command ends as if nothing had been."""
    straight = train_tiny(discs, tmp_path / "straight", save_every=2)
    before, small = tree(discs), disk(32)
    with pytest.raises(DiskError) as caught:
        train_tiny(discs, small / "runs", At(3, lambda: fill(small, leave)), save_every=2)
    assert "No space left" in in_words(caught.value) and "free some space" in caught.value.hint
    (run,) = (RunDir(p) for p in (small / "runs").iterdir() if p.is_dir())
    assert 6 in whole(run) and tree(discs) == before
    (small / "filler").unlink()
    resumed = train_tiny(discs, small / "runs", save_every=2)
    a, b = (RunDir(d["run"]).load_checkpoint() for d in (straight, resumed))
    assert resumed["finished"] and all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)
    assert whole(run) == {6, 8, 10}


def test_a_training_that_would_not_fit_does_not_begin(discs, disk):
    small = disk(2)
    with pytest.raises(DiskError, match="the checkpoints need about") as caught:
        train_tiny(discs, small / "runs")
    assert "keep_checkpoints" in caught.value.hint
    assert list(small.iterdir()) == []


def test_a_comparison_that_would_not_fit_does_not_begin(discs, disk):
    small = disk(8)
    flags = {"image_size": 16, "steps": 3, "pretrain_steps": 2, "batch_size": 8}
    request = CompareRequest(
        data=discs, methods=("bagan", "sgbgan"), seeds=(0, 1), preset="tiny", flags=flags, device="cpu", out=small / "c"
    )
    with pytest.raises(DiskError, match="all training runs need"):
        compare(request, Board())
    assert not (small / "c" / "runs").exists()


@pytest.mark.parametrize("leave", [0, 30_000])
def test_a_disk_that_fills_up_under_augment(discs, tmp_path, disk, no_estimate, leave):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    expected, small = tmp_path / "expected", disk(4)
    augment(run, AugmentOptions(out=expected, **GENERATED), device=CPU)
    before = tree(discs)

    def stage(name, done, total):
        if name == "fill" and done == 3:
            fill(small, leave)

    options = AugmentOptions(out=small / "out", **GENERATED)
    with pytest.raises(DiskError) as caught:
        augment(run, options, device=CPU, progress=stage)
    assert "No space left" in in_words(caught.value)
    out = small / "out"
    for path in out.rglob("*.png"):  # under its final name a file is whole
        Image.open(path).load()
    assert not json.loads((out / ".balancegan.json").read_text())["finished"] and not list(out.rglob(".tmp-*"))
    (small / "filler").unlink()
    assert augment(run, options, device=CPU)["complete"]
    names = {str(p.relative_to(expected)) for p in expected.rglob("*")}
    assert {str(p.relative_to(out)) for p in out.rglob("*")} - {".balancegan.lock"} == names - {".balancegan.lock"}
    assert all((out / n).read_bytes() == (expected / n).read_bytes() for n in names if n.endswith(".png"))
    assert tree(discs) == before


@pytest.mark.parametrize("kibibytes", [4, 16, 36])
def test_a_full_cache(discs, disk, monkeypatch, no_estimate, kibibytes):
    """The pixels, the tables or the folder itself do not fit."""
    from balancegan.data.decode import DecodeSettings

    small = disk(1)
    fill(small, kibibytes * 1024)
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(small / "cache"))
    with pytest.raises(DiskError) as caught:
        open_store(scan(discs), DecodeSettings(16, None))
    assert "BALANCEGAN_CACHE_DIR" in caught.value.hint and in_words(caught.value)
    assert not any(stores_dir().glob("*"))
    (small / "filler").unlink()
    assert len(open_store(scan(discs), DecodeSettings(16, None))) == 38


@pytest.mark.parametrize("kibibytes", [4, 400])
def test_a_full_disk_under_a_comparison(discs, disk, no_estimate, kibibytes):
    small = disk(32)
    flags = {"image_size": 16, "steps": 3, "pretrain_steps": 2, "batch_size": 8}
    settings = {"width": "16", "latent_dim": "8"}
    request = CompareRequest(
        data=discs,
        methods=("bagan", "dcgan"),
        seeds=(0,),
        preset="tiny",
        flags=flags,
        settings=settings,
        device="cpu",
        out=small / "c",
        images=20,
        extractor="own",
    )

    class Filling(Board):
        def matrix(self, matrix):
            if matrix.position[0] == 1:  # the first cell is done
                fill(small, kibibytes * 1024)

    with pytest.raises(DiskError) as caught:
        compare(request, Filling())
    in_words(caught.value)
    (small / "filler").unlink()
    document = compare(request, Board())
    assert document["methods"] == ["bagan", "dcgan"]
    assert not [p for p in (small / "c").rglob("*") if p.name.startswith((".tmp-", ".partial-"))]


def test_files_over_a_quota(discs, tmp_path):
    """A limit on the size of files, which needs no root: a checkpoint does not fit, the run before it stays."""
    code = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from helpers import Quiet, train_tiny
from balancegan.core.errors import DiskError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
class Limit(Quiet):
    def step(self, stage, step, total):
        if stage == "adversarial" and step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))
try:
    train_tiny(Path({str(discs)!r}), Path({str(tmp_path / "runs")!r}), Limit(), save_every=2)
except DiskError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "could not save a checkpoint" in done.stdout, done.stdout + done.stderr
    (run,) = (RunDir(p) for p in (tmp_path / "runs").iterdir() if p.is_dir())
    assert 6 in whole(run) and train_tiny(discs, tmp_path / "runs", save_every=2)["finished"]


# --- read-only, not writable, gone ------------------------------------------------------------------------------------


def command(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in (*arguments, "--json")])
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    return result.exit_code, json.loads(result.stdout)


def test_read_only_output_is_exit_6_everywhere(discs, tmp_path, disk):
    trained = train_tiny(discs, tmp_path / "runs")["run"]
    place = disk(32)
    shutil.copytree(Path(trained).parent, place / "runs")
    run = place / "runs" / Path(trained).name
    before = tree(place), tree(discs)
    read_only(place)
    commands = [
        ("train", discs, "--out", place / "new", *SHORT),
        ("train", discs, "--out", place / "runs", "--resume", run, "--steps", "20"),
        ("augment", trained, "--out", place / "balanced", "--fill", "generated", "--no-report"),
        ("sample", run),
        ("sample", trained, "--out", place / "grid.png"),
        ("sample", trained, "--out", place / "single"),
        ("evaluate", run, "--no-utility"),
        ("evaluate", trained, "--no-utility", "--out", place / "evaluation"),
        ("compare", discs, "--out", place / "comparison", "--methods", "bagan", "--seeds", "1", *SHORT),
        ("imbalance", discs, place / "copy", "--ir", "2"),
        ("inspect", discs, "--html", place / "page.html"),
        ("demo", "--out", place / "demo", "--steps", "2"),
        ("weights", "fetch", "inception", "--from", discs / "ant" / "000.png"),
    ]
    for arguments in commands[:-1]:
        code, document = command(*arguments)
        assert code == 6 and document["error"]["exit_code"] == 6, (arguments, document)
        assert str(place) in document["error"]["message"] or "ead-only" in document["error"]["message"], document
    assert (tree(place), tree(discs)) == before


def test_a_cache_that_cannot_be_written(discs, disk, monkeypatch):
    place = disk(4)
    read_only(place)
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(place / "cache"))
    for arguments in (("train", discs, "--out", place.parent / "runs", *SHORT), ("evaluate", discs, discs)):
        code, document = command(*arguments)
        assert code == 6 and "BALANCEGAN_CACHE_DIR" in document["error"]["hint"], document
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(discs / "ant" / "000.png"))  # a file is no folder
    assert command("train", discs, "--out", place.parent / "runs", *SHORT)[0] == 6


@pytest.mark.parametrize("what", ["run", "samples"])
def test_output_that_is_deleted_under_a_training(discs, tmp_path, what):
    def gone():
        (run,) = (p for p in (tmp_path / "runs").iterdir() if p.is_dir())
        shutil.rmtree(run if what == "run" else run / what)

    before = tree(discs)
    with pytest.raises(DiskError) as caught:
        train_tiny(discs, tmp_path / "runs", At(3, gone), save_every=2, sample_every=2)
    assert "No such file" in in_words(caught.value) and "deleted" in caught.value.hint
    assert tree(discs) == before
    assert train_tiny(discs, tmp_path / "runs", save_every=2)["finished"]


def test_checkpoints_that_are_deleted_under_a_training_are_made_again(discs, tmp_path):
    def gone():
        shutil.rmtree(next((tmp_path / "runs").glob("0*")) / "checkpoints")

    document = train_tiny(discs, tmp_path / "runs", At(3, gone), save_every=2)
    assert document["finished"] and whole(RunDir(document["run"])) == {8, 10}


def test_the_disk_of_the_run_is_asked_not_that_of_new_runs(discs, tmp_path, monkeypatch):
    asked = []
    run = train_tiny(discs, tmp_path / "there")["run"]
    monkeypatch.setattr("balancegan.commands.train.require_space", lambda place, need, *_: asked.append((place, need)))
    train_tiny(discs, tmp_path / "here", resume=run, steps=9)
    train_tiny(discs, tmp_path / "there", steps=9)
    assert [place for place, _ in asked] == [Path(run), Path(run)]
    assert asked[0][1] > 0 == asked[1][1]  # finished: nothing will be written


def test_finished_cells_take_no_space_that_others_need(discs, tmp_path, monkeypatch):
    from balancegan.commands.compare.run import _Worker

    request = CompareRequest(data=discs, methods=("bagan", "sgbgan"), seeds=(0,), preset="tiny", out=tmp_path)
    worker, asked = _Worker.__new__(_Worker), []
    worker.request, worker.plans, worker.data = request, dict.fromkeys(request.cells), None
    for name in ("0", "1"):
        (tmp_path / "runs" / name / "checkpoints" / "step-000001").mkdir(parents=True)
        (tmp_path / "runs" / name / "checkpoints" / "step-000001" / "x").write_bytes(b"x" * 300)
    monkeypatch.setattr("balancegan.commands.compare.run.run_bytes", lambda *_: 1000)
    monkeypatch.setattr("balancegan.commands.compare.run.require_space", lambda place, need, *_: asked.append(need))
    worker._require_space(request.cells[1:], [str(tmp_path / "runs" / "0"), None])
    assert asked == [700]


def test_nobody_reads_the_messages_any_more(discs, tmp_path):
    """The other end of stderr is closed, as when `tee` dies: the training goes on and is saved."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["train", str(discs), "--out", str(tmp_path / "runs"), *SHORT]
    done = subprocess.run([sys.executable, "-m", "balancegan", *arguments], stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    (run,) = (RunDir(p) for p in (tmp_path / "runs").iterdir() if p.is_dir())
    assert done.returncode == 0 and run.load_checkpoint().step == 6


def test_output_that_is_deleted_under_augment(discs, tmp_path):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])

    def stage(name, done, total):
        while name == "fill" and done == 3 and (tmp_path / "out").exists():
            shutil.rmtree(tmp_path / "out", ignore_errors=True)  # others write into it meanwhile

    options = AugmentOptions(out=tmp_path / "out", **GENERATED)
    with pytest.raises(DiskError) as caught:
        augment(run, options, device=CPU, progress=stage)
    in_words(caught.value)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert augment(run, options, device=CPU)["complete"]


def test_a_copy_that_does_not_fit(tmp_path, disk, no_estimate):
    data = write_images(tmp_path / "data", {"ant": 60, "bee": 60}, size=64)
    small = disk(0.5)
    with pytest.raises(DiskError) as caught:
        make_imbalanced(data, small / "copy", ir=2)
    in_words(caught.value)
    assert list(small.iterdir()) == []


def test_failures_that_nobody_expected_have_words_too(discs, monkeypatch):
    """The net under all commands: a disk error from anywhere is exit 6, a failed allocation exit 5, a bug stays one."""

    def fails(error):
        def scan(*_, **__):
            raise error

        monkeypatch.setattr("balancegan.commands.inspect.scan", scan)

    fails(OSError(5, "Input/output error", "/mnt/x"))
    code, document = command("inspect", discs)
    assert code == 6 and "Input/output error (/mnt/x)" in document["error"]["message"]
    fails(MemoryError())
    assert command("inspect", discs)[0] == 5
    fails(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert command("inspect", discs)[0] == 5
    fails(RuntimeError("a bug"))
    result = CliRunner().invoke(app, ["inspect", str(discs)])
    assert result.exit_code == 1 and isinstance(result.exception, RuntimeError)


def test_many_small_files_take_whole_blocks(discs, tmp_path, monkeypatch):
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    asked = []
    monkeypatch.setattr("balancegan.folder.real_files.require_space", lambda place, need, *_: asked.append(need))
    augment(run, AugmentOptions(out=tmp_path / "out", counts={"bee": 9}, **GENERATED), device=CPU)
    assert asked[0] >= 39 * 4096
