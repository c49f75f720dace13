"""`doctor`: everything that can be wrong with a machine is reported, and nothing is left behind."""

import errno
import json
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from balancegan.cli.app import app
from balancegan.commands import doctor
from balancegan.compute import machine
from balancegan.compute.device import threads
from balancegan.methods import WHY_RECOMMENDED
from balancegan.metrics.weights import PUBLISHED
from balancegan.training import speed

ROWS = {
    "tiny": {"memory_gib": 0.3, "seconds_estimated": 7200.0},
    "default": {"memory_gib": 3.0, "seconds_estimated": 9},
}


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """A machine without faults: an empty folder, enough space and memory, no GPU and nothing else running."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(machine, "memory", lambda: {"total_gib": 8.0, "available_gib": 6.0})
    monkeypatch.setattr(machine, "usable_cores", lambda: 64)
    monkeypatch.setattr(machine, "load", lambda: 0.0)
    free_space(monkeypatch, 50)


@pytest.fixture
def stopwatch(monkeypatch):
    """Presets whose cost is known: none is measured. The times are what one measurement takes."""
    took = {"tiny": 0.1, "default": 1.0}
    asked = []

    def measure(preset, device, *, runs=speed.RUNS):
        asked.append((preset, torch.get_num_threads(), runs))
        return speed.row(preset, ROWS[preset]), took[preset]

    monkeypatch.setattr(speed, "measure_preset", measure)
    monkeypatch.setattr(speed, "measure_decoding", lambda: {"images_per_second": 9.0, "format": "JPEG", "side": 256})
    return SimpleNamespace(took=took, asked=asked)


def free_space(monkeypatch, gib):
    usage = SimpleNamespace(total=100 << 30, used=0, free=int(gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def quick(out=Path(), **options):
    document = doctor.examine(out, with_speed=False, **options)
    json.dumps(document, allow_nan=False)
    return document


def codes(document):
    return [p["exit_code"] for p in document["problems"]]


def everything_under(*folders):
    return sorted(str(p) for folder in folders for p in folder.rglob("*"))


# The report ------------------------------------------------------------------------------------------------------


def test_a_machine_without_faults(tmp_path):
    before = everything_under(tmp_path)
    document = quick()
    assert document["schema_version"] == 1 and document["ok"] and not document["problems"]
    assert {"balancegan", "python", "torch", "torchvision", "pillow", "numpy", "platform"} <= document[
        "versions"
    ].keys()
    assert document["device"]["chosen"] == "cpu" and document["device"]["bf16"] is False
    (cpu,) = document["device"]["available"]
    assert (cpu["kind"], cpu["total_gib"], cpu["free_gib"]) == ("cpu", 8.0, 6.0)
    output, cache = document["disk"]
    assert (output["what"], output["path"], output["free_gib"]) == ("output", str(tmp_path / "work"), 50.0)
    assert (cache["what"], cache["path"]) == ("cache", os.environ["BALANCEGAN_CACHE_DIR"])
    assert output["writable"] and cache["writable"] and output["reason"] is None
    assert {w["name"]: w["state"] for w in document["weights"]} == dict.fromkeys(
        ("inception", "resnet50", "resnet18"), "missing"
    )
    assert document["speed"] is None
    assert [n["what"].split(":")[0] for n in document["notes"]] == [
        "PyTorch found no usable GPU",
        "the Inception weights are missing",
    ]
    assert everything_under(tmp_path) == before and not Path(cache["path"]).exists()


def test_the_report_names_neither_host_nor_user():
    told = json.dumps({k: v for k, v in quick().items() if k != "disk"})
    assert os.uname().nodename not in told


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("of all things")

    for name in ("memory", "gpus", "usable_cores"):
        monkeypatch.setattr(machine, name, broken)
    monkeypatch.setattr(doctor, "status", broken)
    monkeypatch.setattr(doctor, "describe", broken)
    monkeypatch.setattr(doctor, "cache_root", broken)
    document = quick()
    assert len(document["problems"]) == 6 and set(codes(document)) == {1}
    assert all("of all things" in p["what"] and p["do"] for p in document["problems"])
    assert document["disk"][0]["writable"] and document["device"]["chosen"] == "cpu"


# Disks -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path):
    document = quick(Path("deep") / "down")
    assert document["ok"] and document["disk"][0]["path"] == str(tmp_path / "work" / "deep" / "down")
    assert not everything_under(tmp_path / "work")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "read-only"), (errno.EACCES, "permissions"), (errno.ENOSPC, "free some space")]
)
def test_where_writing_fails_the_reason_and_the_remedy_are_told(monkeypatch, number, words):
    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    document = quick()
    assert codes(document) == [6, 6]
    assert [d["reason"] for d in document["disk"]] == [os.strerror(number)] * 2
    assert not document["disk"][0]["writable"] and words in document["problems"][0]["do"]
    assert "BALANCEGAN_CACHE_DIR" in document["problems"][1]["do"] or number == errno.ENOSPC
    assert not everything_under(Path.cwd()), "also where it fails in the middle"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are another thing there")
def test_a_folder_without_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    me = os.geteuid()
    if me == 0:  # permissions do not bind root
        os.seteuid(65534)
    try:
        place = machine.examine_place(closed / "runs")
    finally:
        os.seteuid(me)
    assert place.error is not None and place.error.errno == errno.EACCES
    assert place.path == closed / "runs" and not list(closed.iterdir())


def test_a_file_in_the_folders_place():
    Path("runs").write_text("")
    Path("nowhere").symlink_to("gone")
    for out in (Path("runs"), Path("runs") / "below", Path("nowhere")):
        document = quick(out)
        assert codes(document) == [6] and "not a folder" in document["problems"][0]["do"]
    assert Path("runs").read_text() == ""


def test_a_working_folder_that_was_deleted(tmp_path, monkeypatch):
    (tmp_path / "short").mkdir()
    monkeypatch.chdir(tmp_path / "short")
    (tmp_path / "short").rmdir()
    assert codes(quick()) == [6]


def test_a_full_disk_is_told_once(monkeypatch):
    free_space(monkeypatch, 1.5)
    document = quick()  # output and cache lie on the same disk
    assert codes(document) == [6] and "only 1.5 GiB" in document["problems"][0]["what"]
    assert document["disk"][0]["writable"]


# Devices ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as PyTorch would tell of it; whatever is computed on it is computed on the CPU."""
    card = SimpleNamespace(name="Card", total_memory=16 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10 << 30, 16 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(machine, "try_device", lambda device: None)


def test_a_gpu(gpu, stopwatch):
    document = doctor.examine()
    first = document["device"]["available"][0]
    assert first == {"device": "cuda:0", "kind": "cuda", "name": "Card", "total_gib": 16.0, "free_gib": 10.0}
    assert document["device"]["chosen"] == "cuda:0" and document["device"]["bf16"] and document["ok"]
    (told,) = [n for n in document["notes"] if "GPU" in n["what"]]
    assert f"the method edm is recommended on a GPU: {WHY_RECOMMENDED}" in told["what"] and "--method edm" in told["do"]
    assert not any("edm" in n["what"] for n in quick(device="cpu")["notes"])
    assert [(preset, runs) for preset, _, runs in stopwatch.asked] == [("tiny", 3), ("default", 3)]


def test_a_gpu_that_others_have_filled(gpu, stopwatch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (2 << 30, 16 << 30))
    (problem,) = doctor.examine()["problems"]
    assert problem["exit_code"] == 5 and "preset default needs about 3.0 GiB, but only 2.0 GiB" in problem["what"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RuntimeError("CUDA error: no kernel image is available\nmore"), 2, "install a PyTorch"),
        (torch.OutOfMemoryError("CUDA out of memory."), 5, "close other programs"),
    ],
)
def test_a_gpu_that_this_pytorch_cannot_use(gpu, stopwatch, monkeypatch, error, code, words):
    def refuse(device):
        raise error

    monkeypatch.setattr(machine, "try_device", refuse)
    document = doctor.examine()
    (problem,) = document["problems"]
    assert problem["exit_code"] == code and words in problem["do"] and "\n" not in problem["what"]
    assert document["device"]["chosen"] is None and document["speed"] is None and not stopwatch.asked


def test_a_gpu_without_bfloat16(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    (problem,) = quick()["problems"]
    assert "amp=false" in problem["do"]


def test_a_gpu_of_which_the_free_memory_is_not_told(gpu, stopwatch, monkeypatch):
    def busy(index):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    document = doctor.examine()
    assert document["ok"] and document["device"]["available"][0]["free_gib"] is None


def test_no_gpu_though_there_is_a_driver(monkeypatch):
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    assert any("driver is installed" in n["what"] for n in quick()["notes"])

    def warned():
        warnings.warn("The driver on your system is too old", UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warned)
    assert any("too old" in n["what"] for n in quick()["notes"])


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "abacus"])
def test_a_device_that_is_not_here(name):
    document = quick(device=name)
    assert codes(document) == [2] and document["device"]["chosen"] is None
    assert "--device" in document["problems"][0]["do"] or "auto" in document["problems"][0]["do"]


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert any("OMP_NUM_THREADS=2" in n["do"] for n in quick()["notes"])


# Weights ---------------------------------------------------------------------------------------------------------


def test_weights_that_are_not_the_published_ones(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"nothing")
    monkeypatch.setenv(PUBLISHED["inception"].variable, str(path))
    document = quick()
    assert document["ok"] and document["weights"][0]["state"] == "other"
    assert any("weights verify" in n["do"] for n in document["notes"])
    path.unlink()
    document = quick()
    assert codes(document) == [7] and str(path) in document["problems"][0]["what"]


def test_a_weights_folder_that_cannot_be_looked_into(monkeypatch):
    def refuse():
        raise PermissionError(errno.EACCES, "Permission denied", "checkpoints")

    monkeypatch.setattr(doctor, "status", refuse)
    document = quick()
    assert codes(document) == [6] and "TORCH_HOME" in document["problems"][0]["do"]


def test_weights_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.setenv(PUBLISHED["inception"].variable, str(tmp_path / "weights.pth"))

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("balancegan.commands.weights.sha256", refuse)
    document = quick()
    assert codes(document) == [6] and document["weights"] == []


# Speed -----------------------------------------------------------------------------------------------------------


def test_speed_is_what_a_dry_run_estimates(stopwatch):
    tiny, default = doctor.examine()["speed"]["presets"]
    assert (tiny["preset"], tiny["method"], tiny["image_size"], tiny["hours"]) == ("tiny", "sgbgan", 32, 2.0)
    assert tiny["images_per_second"] == pytest.approx(64 * 10_500 / 7200, abs=0.01)
    assert tiny["seconds_per_step"] == pytest.approx(7200 / 10_500, abs=1e-4)
    assert tiny["reason"] is None and default["hours"] is not None


def test_a_slow_cpu_is_not_asked_for_the_large_preset(stopwatch):
    stopwatch.took["tiny"] = 5.0
    document = doctor.examine()
    default = document["speed"]["presets"][1]
    assert default["hours"] is None and "GPU" in default["reason"] and default.keys() == speed.row("tiny", None).keys()
    assert document["ok"] and [preset for preset, *_ in stopwatch.asked] == ["tiny"] * len(stopwatch.asked)


def test_threads_that_wait_for_one_another(stopwatch, monkeypatch):
    def measure(preset, device, *, runs=1):
        seconds = 7200.0 if torch.get_num_threads() == 1 else 72000.0
        return speed.row(preset, {"memory_gib": 0.1, "seconds_estimated": seconds}), 9.0

    monkeypatch.setattr(speed, "measure_preset", measure)
    monkeypatch.setattr(machine, "load", lambda: 1000.0)
    with threads(2):
        document = doctor.examine()
        assert torch.get_num_threads() == 2
    notes = [n["what"] for n in document["notes"]]
    assert any("one thread trains 10.0 times as fast as 2 together" in what for what in notes)
    assert any("load 1000.0" in what for what in notes)


def test_too_little_memory(stopwatch, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: {"total_gib": 8.0, "available_gib": 1.0})
    document = doctor.examine()
    assert document["ok"] and any("preset default needs" in n["what"] for n in document["notes"])
    monkeypatch.setattr(machine, "memory", lambda: {"total_gib": 8.0, "available_gib": 0.1})
    assert codes(doctor.examine()) == [5]


def test_a_measurement_that_fails_is_a_problem(monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(speed, "estimate", full)
    monkeypatch.setattr(speed, "measure_decoding", lambda: None)
    document = doctor.examine()
    assert set(codes(document)) == {5} and document["speed"]["presets"] == []


def test_real_measurements(monkeypatch):
    before = everything_under(Path.cwd())
    row, seconds = speed.measure_preset("tiny", torch.device("cpu"), runs=1)
    assert row["images_per_second"] > 0 and 0.1 < row["memory_gib"] < 2 and seconds > 0
    monkeypatch.setattr(speed, "JPEG_COUNT", 3)
    assert speed.measure_decoding()["images_per_second"] > 0
    assert everything_under(Path.cwd()) == before


# What the system tells -------------------------------------------------------------------------------------------


def told(monkeypatch, **files):
    monkeypatch.undo()
    lines = {name.replace("__", "."): text.splitlines() for name, text in files.items()}
    monkeypatch.setattr(machine, "_lines", lambda path: lines.get(path.rpartition("/")[2], []))
    monkeypatch.setattr(machine, "_physical_bytes", lambda: 16 << 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_memory_within_a_containers_limit(monkeypatch):
    told(monkeypatch, meminfo=f"MemTotal: 1 kB\nMemAvailable: {12 << 20} kB", memory__max="max")
    assert machine.memory() == {"total_gib": 16.0, "available_gib": 12.0}
    told(monkeypatch, meminfo=f"MemAvailable: {12 << 20} kB", memory__max=f"{4 << 30}", memory__current=f"{1 << 30}")
    assert machine.memory() == {"total_gib": 4.0, "available_gib": 3.0}
    told(monkeypatch)
    assert machine.memory() == {"total_gib": 16.0, "available_gib": None}


def test_cores_within_a_containers_limit(monkeypatch):
    told(monkeypatch)
    assert machine.usable_cores() == 8
    for text, cores in (("max 100000", 8), ("250000 100000", 2), ("10000 100000", 1)):
        told(monkeypatch, cpu__max=text)
        assert machine.usable_cores() == cores
    told(monkeypatch, **{"cpu__cfs_quota_us": "300000", "cpu__cfs_period_us": "100000"})
    assert machine.usable_cores() == 3
    told(monkeypatch, **{"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"})
    assert machine.usable_cores() == 8


# The command -----------------------------------------------------------------------------------------------------


def call(*args):
    result = CliRunner().invoke(app, ["doctor", *args])
    assert "Traceback" not in result.output
    return result


def test_the_command_for_people(stopwatch):
    result = call("--no-color")
    assert result.exit_code == 0, result.output
    for words in ("balancegan 0", "6.0 of 8.0 GiB free", "writable, 50.0 GiB free", "inception missing", "2.0 h"):
        assert words in result.stdout
    assert result.stdout.rstrip().endswith("This machine is ready.")
    quiet = call("--no-speed")
    assert quiet.exit_code == 0 and "images/s" not in quiet.stdout


def test_the_command_ends_with_the_first_problems_code_after_the_report(stopwatch):
    Path("runs").write_text("")
    people = call("--out", "runs", "--device", "abacus")
    assert people.exit_code == 2 and "problem: " in people.stdout and "is ready" not in people.stdout
    scripts = call("--out", "runs", "--json")
    document = json.loads(scripts.stdout)  # one document and nothing else
    assert scripts.exit_code == 6 and document["problems"][0]["exit_code"] == 6 and not document["ok"]


def test_what_a_damaged_report_lacks_is_not_shown(monkeypatch):
    def broken(*args):
        raise RuntimeError("broken")

    for name in ("describe", "status", "cache_root"):
        monkeypatch.setattr(doctor, name, broken)
    monkeypatch.setattr(machine, "usable_cores", broken)
    monkeypatch.setattr(machine, "memory", broken)
    result = call("--no-speed")
    assert result.exit_code == 1 and "broken" in result.stdout and "? cores" in result.stdout
