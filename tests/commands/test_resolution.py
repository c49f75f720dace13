"""What resolution the images lose, and which larger size `inspect` and `train` propose."""

import pytest
import torch
from helpers import TINY, Quiet, call, call_json, train_tiny, write_images

from balancegan.commands import train as command
from balancegan.compute import device as devices
from balancegan.compute import machine
from balancegan.data.scan import scan
from balancegan.inspection import advice
from balancegan.inspection.inspect import inspect_folder
from balancegan.inspection.resolution import ON_CPU, ON_GPU, Training, resolution_note
from balancegan.methods import RECOMMENDED_ON_GPU, load_method

LOST = "images lose detail: their longer side has a median of 632 px, and "


@pytest.fixture
def on(monkeypatch):
    """Return a function that fakes the machine: a GPU with this much memory, or two cores without one."""

    def fake(gib=None):
        found = [] if gib is None else [{"device": "cuda:0", "total_gib": gib}]
        monkeypatch.setattr(machine, "gpus", lambda: found)
        for module in (machine, advice):
            monkeypatch.setattr(module, "has_gpu", lambda: bool(found))
        monkeypatch.setattr(machine, "usable_cores", lambda: 2)
        monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * 2**30)

    return fake


def large(folder, size=632):
    return write_images(folder / "large", {"ant": 4, "bee": 2}, size=size)


@pytest.mark.parametrize(
    ("gib", "note"),
    [
        (
            None,
            "`--preset tiny` works at 32 px (20 times less); this machine could carry `--image-size 64` "
            "(about 4 times as long, 4.2 h)",
        ),
        (
            24,
            "`edm` works at 64 px (9.9 times less); this machine could carry `--image-size 128` "
            "(about 4 times as long)",
        ),
        (
            8,
            "`edm` works at 64 px (9.9 times less); `--image-size 128` needs about 10 GiB of memory, more than the "
            "8 GiB here",
        ),
    ],
)
def test_inspect_says_what_the_recommended_training_loses(tmp_path, on, gib, note):
    on(gib)
    found = inspect_folder(scan(large(tmp_path)), duplicates="off")
    assert found.image_sizes.median_side == 632 and LOST + note == found.advice[-2]
    assert found.advice[-1].startswith("next: ")


@pytest.mark.parametrize("gib", [None, 24])
@pytest.mark.parametrize("size", [16, 32, 47])
def test_inspect_is_silent_where_little_is_lost(tmp_path, on, gib, size):
    on(gib)
    assert not any("lose detail" in line for line in inspect_folder(scan(large(tmp_path, size))).advice)


def test_the_figures_of_inspect_are_those_of_the_presets():
    for figure, name, preset in ((ON_CPU, "sgbgan", "tiny"), (ON_GPU, RECOMMENDED_ON_GPU, "default")):
        kind = load_method(name)
        cfg = kind.Config(**kind.presets[preset])
        assert (figure.size, figure.sizes, figure.batch) == (cfg.image_size, kind.image_sizes, cfg.batch_size)


@pytest.mark.parametrize(
    ("side", "hours", "end"),
    [
        (47, 1, None),
        (48, 1, "--image-size 64` (about 4 times as long, 4.0 h)"),  # it keeps all detail: 128 px would add none
        (632, 0.5, "--image-size 128` (about 16 times as long, 8.0 h)"),
        (632, 4, "--image-size 64` would take about 16.0 h here: use fewer `--steps` or a faster machine"),
    ],
)
def test_the_largest_size_in_reasonable_time_is_proposed(on, side, hours, end):
    on()
    note = resolution_note("it", side, Training(32, (16, 32, 64, 128), 64, 0.1, hours), "cpu")
    assert note is None if end is None else note.endswith(end)


def test_a_method_may_offer_no_larger_size(on):
    on()
    note = resolution_note("it", 632, Training(128, (64, 128), 64, 0.1, 1), "cpu")
    assert note.endswith("(4.9 times less); the method offers no larger `--image-size`")


NOTE = LOST + "the generator works at 16 px (40 times less); this machine could carry --image-size "


def test_train_says_it_once_at_the_start(tmp_path, on):
    on()
    data, told = large(tmp_path), []
    for steps in (2, 4):
        monitor = Quiet()
        train_tiny(data, tmp_path / "runs", monitor, steps=steps)
        told.append([note for note in monitor.notes if "lose detail" in note])
    ((note,), continued) = told
    assert note.startswith(NOTE) and not continued


@pytest.mark.parametrize(("device", "gib"), [("cpu", None), ("cuda:0", 24)])
@pytest.mark.parametrize(("size", "loses"), [(632, True), (16, False)])
def test_plans_and_trainings_say_it_on_every_device(tmp_path, on, monkeypatch, device, gib, size, loses):
    on(gib)
    monkeypatch.setattr(devices, "resolve_device", torch.device)  # nothing is computed on it
    monkeypatch.setattr(devices, "prepare", lambda device: None)
    hour = {"seconds_estimated": 3600.0, "memory_gib": 1.0}
    monkeypatch.setattr(command, "estimate", lambda *args: hour)
    request = command.TrainRequest(large(tmp_path, size), "sgbgan", "tiny", TINY, device=device, out=tmp_path / "runs")
    notes = command.dry_run(request)["notes"]
    longest = "64 (about 16 times as long)" if gib else "32 (about 4 times as long, 4.0 h)"
    assert notes == ([NOTE + longest] if loses else [])
    plan = command.configure(request)
    assert [*command._advice(plan, command._open_data(request, plan, lambda *_: None))] == notes


def test_the_dry_run_shows_its_notes(tmp_path):
    options = ("train", large(tmp_path), "--preset", "tiny", "--image-size", "16", "--device", "cpu", "--dry-run")
    (note,) = call_json(*options)["notes"]
    assert note.startswith("images lose detail") and note[:40] in call(*options).stdout


def test_a_probe_that_finds_no_memory_does_not_stop_a_training(tmp_path, monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(command, "estimate", full)
    train_tiny(large(tmp_path), tmp_path / "runs", monitor := Quiet(), steps=2)
    assert not any("lose detail" in note for note in monitor.notes)


def test_the_probe_compiles_nothing(discs, tmp_path, monkeypatch):
    probed = []
    monkeypatch.setattr(command, "estimate", lambda method, *rest: probed.append(method.cfg.compile) or {})
    flags = {"compile": True, "group_by": "none"}
    plan = command.configure(command.TrainRequest(discs, "edm", "tiny", flags, device="cpu", out=tmp_path))
    command._cost(plan, command._open_data(command.TrainRequest(discs, out=tmp_path), plan, lambda *_: None))
    assert probed == [False]
