"""Memory that runs out: a shim stands in for it, a limit really makes it so, a sparse file is larger than it."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Quiet, make_method, train_tiny, write_images

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.core.errors import OutOfMemoryError
from balancegan.data import batches
from balancegan.methods import METHODS, load_method
from balancegan.methods.base import Method
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.runs.directory import RunDir

CPU = torch.device("cpu")


def shortage(images):
    return RuntimeError(f"CUDA out of memory. Tried to allocate {images} images")


@pytest.fixture
def memory_for(monkeypatch):
    """Make the losses, samples and features of more than so many images at once run out of memory, late."""

    def limit(most, *names):
        losses = {u.loss.__name__ for m in METHODS for stage in make_method(m).stages() for u in stage.updates}
        for kind in {k for m in METHODS for k in load_method(m).__mro__ if issubclass(k, Method)}:
            for name in names or losses:
                if name in vars(kind):
                    monkeypatch.setattr(kind, name, limited(vars(kind)[name], most))

    def limited(original, most):
        def call(method, x, *more, **options):
            found = original(method, x, *more, **options)
            if len(x) > most:
                raise shortage(len(x))
            return found

        return call

    return limit


@pytest.mark.parametrize("method", METHODS)
def test_training_goes_on_in_smaller_parts(discs, tmp_path, memory_for, method):
    memory_for(3)
    monitor = Quiet()
    document = train_tiny(discs, tmp_path, monitor, method=method)
    assert document["finished"] and document["images_seen"] == RunDir(document["run"]).read_metrics()[-1]["images_seen"]
    checkpoint = RunDir(document["run"]).load_checkpoint()
    losses = {u.name for stage in make_method(method).stages() for u in stage.updates}
    assert {checkpoint.state["parts"][name] for name in losses} == {2}
    assert all(t.isfinite().all() for t in checkpoint.weights.values() if t.is_floating_point())
    assert sum("out of memory" in note for note in monitor.notes) == 2 * len(losses)  # 8, 4, 2
    assert "out of memory" in (Path(document["run"]) / "log.txt").read_text()


def test_a_resumed_run_knows_the_size(discs, tmp_path, memory_for):
    memory_for(4)
    straight = train_tiny(discs, tmp_path / "a", steps=9)
    train_tiny(discs, tmp_path / "b", steps=5)
    monitor = Quiet()
    resumed = train_tiny(discs, tmp_path / "b", monitor, steps=9)
    assert not any("out of memory" in note for note in monitor.notes)
    a, b = (RunDir(d["run"]).load_checkpoint().weights for d in (straight, resumed))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_micro_batch_can_be_asked_for(discs, tmp_path, memory_for):
    memory_for(2)
    monitor = Quiet()
    document = train_tiny(discs, tmp_path, monitor, micro_batch=2)
    assert document["finished"] and not any("out of memory" in note for note in monitor.notes)


@pytest.mark.parametrize("method, most", [("sgbgan", 0), ("contrad", 1)])
def test_where_not_even_the_least_part_fits_it_is_exit_5(discs, tmp_path, memory_for, method, most):
    """A contrast needs two images at once, the others one."""
    memory_for(most)
    with pytest.raises(OutOfMemoryError) as caught:
        train_tiny(discs, tmp_path, method=method)
    assert caught.value.exit_code == 5 and "--batch-size" in caught.value.hint
    (run,) = (RunDir(p) for p in tmp_path.iterdir() if p.name.startswith("00"))
    assert run.load_checkpoint().step == 0  # what was there stays
    assert not list(run.path.rglob(".partial*"))


@pytest.mark.parametrize("method", ["sgbgan", "sndcgan"])
def test_sampling_goes_on_in_smaller_parts(discs, tmp_path, monkeypatch, method):
    """The same images, but for a level here and there: convolutions of other batch sizes round otherwise."""
    from balancegan.runs.restore import restore
    from balancegan.sampling.samplers import CHUNK, Sampler

    run = RunDir(train_tiny(discs, tmp_path / "runs", method=method)["run"])
    whole = Sampler(restore(run, CPU).method, CPU).of_class(1, 0)
    original = Method.sample
    sizes = []

    def sample(self, z, c, source=None):
        sizes.append(len(z))
        if len(z) > 5:
            raise shortage(len(z))
        return original(self, z, c)

    monkeypatch.setattr(Method, "sample", sample)
    in_parts = Sampler(restore(run, CPU).method, CPU).of_class(1, 0)
    assert max(sizes) == CHUNK and sizes[-1] <= 5
    assert np.abs(whole[0].astype(int) - in_parts[0]).max() <= 1 and (whole[1] == in_parts[1]).all()
    assert (whole[0] == in_parts[0]).mean() > 0.99


def test_augment_with_its_report_goes_on(discs, tmp_path, monkeypatch, quick_reports):
    """Samples, features and classifiers, each with room for few images."""
    run = RunDir(train_tiny(discs, tmp_path / "runs")["run"])
    sample, forward, failures = Method.sample, torch.nn.Sequential.forward, []

    def few_samples(self, z, c, source=None):
        if len(z) > 33:
            failures.append("sample")
            raise shortage(len(z))
        return sample(self, z, c)

    def few_features(self, x):
        if isinstance(x, torch.Tensor) and len(x) > 33 and isinstance(self[0], torch.nn.Sequential):
            failures.append("classifier")
            raise shortage(len(x))
        return forward(self, x)

    monkeypatch.setattr(Method, "sample", few_samples)
    monkeypatch.setattr(torch.nn.Sequential, "forward", few_features)
    given = {"fill": "generated", "filter": "none", "counts": {"bee": 12}, "extractor": "own"}
    options = AugmentOptions(out=tmp_path / "out", **given)
    document = augment(run, options, device=CPU)
    assert document["complete"] and document["report"] and {"sample", "classifier"} <= set(failures)
    assert all(
        row["fid"] is None or np.isfinite(row["fid"])
        for row in json.loads((tmp_path / "out" / "report.json").read_text())["classes"]
    )


def test_features_are_the_same_in_smaller_batches(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    extractor = OwnExtractor.fit(images, np.arange(40) % 2, 2, steps=2)
    whole = extractor(images)
    trunk = extractor._network[0]
    original = trunk.forward

    def forward(x):
        if len(x) > 3:
            raise shortage(len(x))
        return original(x)

    monkeypatch.setattr(trunk, "forward", forward)
    np.testing.assert_allclose(extractor(images), whole, atol=1e-4)
    monkeypatch.setattr(trunk, "forward", lambda x: (_ for _ in ()).throw(shortage(len(x))))
    with pytest.raises(OutOfMemoryError):
        extractor(images)


def test_images_that_do_not_fit_on_the_device_are_read_from_the_file(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    labels = np.arange(30) % 3
    torch.manual_seed(0)
    x, c = batches.Batches(images, np.arange(30), labels, "natural", CPU, 16).draw()

    def full(*_):
        raise shortage(30)

    monkeypatch.setattr(batches.RowReader, "__call__", full)
    set_ = batches.Batches(images, np.arange(30), labels, "natural", CPU, 16)
    monkeypatch.undo()
    torch.manual_seed(0)
    again = set_.draw()
    assert set_._resident is None and torch.equal(x, again[0]) and torch.equal(c, again[1])


def test_a_cache_that_is_cleared_does_not_end_a_training(tmp_path, monkeypatch):
    """What is read from the file goes on being there while it is open."""
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    images.tofile(tmp_path / "images.u8")
    mapped = np.memmap(tmp_path / "images.u8", np.uint8, "r", shape=images.shape)
    monkeypatch.setattr(batches, "CPU_SHARE", 0.0)
    data = batches.Batches(mapped, np.arange(30), np.arange(30) % 3, "natural", CPU, 16)
    (tmp_path / "images.u8").unlink()
    assert data._resident is None and len(data.draw()[0]) == 16
    x = torch.cat([x for x, _ in data.once()])
    assert sorted(((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()) == sorted(images[:, 0, 0, 0].tolist())


def test_a_slice_of_a_map_is_read_as_what_it_is(tmp_path):
    images = np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2)
    images.tofile(tmp_path / "images.u8")
    mapped = np.memmap(tmp_path / "images.u8", np.uint8, "r", shape=images.shape)
    rows = np.array([3, 0])
    assert (batches.RowReader(mapped)(rows) == images[rows]).all()
    assert (batches.RowReader(mapped[2:])(rows) == images[2:][rows]).all()


def test_a_checkpoint_that_memory_does_not_hold_is_not_damaged(discs, tmp_path, monkeypatch):
    """An older one in its place would throw steps away."""
    import safetensors.torch

    from balancegan.core.errors import DiskError

    run = RunDir(train_tiny(discs, tmp_path)["run"])
    newest = [p.name for p in run.checkpoint_dirs()]
    for error, expected in ((MemoryError(), OutOfMemoryError), (OSError(5, "Input/output error"), DiskError)):

        def fails(_, error=error):
            raise error

        monkeypatch.setattr(safetensors.torch, "load", fails)
        with pytest.raises(expected):
            train_tiny(discs, tmp_path, steps=9)
        monkeypatch.undo()
        assert [p.name for p in run.checkpoint_dirs()] == newest


# --- real shortage ----------------------------------------------------------------------------------------------------


def python(code, **environment):
    """Run code in a process of its own; its last line of output."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


LARGER_THAN_MEMORY = """
    import resource, sys
    from pathlib import Path
    import numpy as np, torch
    from helpers import Quiet, make_method
    from balancegan.data import batches
    from balancegan.training import loop as train
    from balancegan.runs.directory import RunDir

    path, gigabytes, steps = Path(sys.argv[1] if len(sys.argv) > 1 else {path!r}), {gigabytes}, {steps}
    batches.CPU_SHARE = 0.0  # as if the machine's memory were small
    shape = (int(gigabytes * 2**30) // (3 * 16 * 16), 3, 16, 16)
    with path.open("wb") as file:
        file.truncate(int(np.prod(shape)))  # sparse: no blocks on the disk
    images = np.memmap(path, np.uint8, "r", shape=shape)
    labels = np.arange(len(images)) % 3

    def resident(field="VmRSS"):
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
        return int(line.split()[1]) / 1024

    method = make_method("sgbgan", batch_size=64, steps=steps, pretrain_steps=1, ema_halflife=0.0)
    data = batches.Batches(images, np.arange(len(images)), labels, "natural", torch.device("cpu"), 64)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of sorting the index
    before = resident()
    for _ in range({draws}):
        data.draw()
    if {sweep}:
        data.once_size = 4096
        for _ in data.once():
            pass
    run = RunDir(path.parent / "run")
    run.path.mkdir(); run.samples.mkdir()
    train.train(method, data, run, device=torch.device("cpu"), monitor=Quiet())
    print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_store_larger_than_memory_leaves_memory_alone(tmp_path):
    """Images all over a 2 GB file are read; the process grows by what a training takes."""
    code = LARGER_THAN_MEMORY.format(path=str(tmp_path / "images.u8"), gigabytes=2, steps=2, draws=3000, sweep=False)
    assert float(python(code)) < 250


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_20_gigabytes_are_trained_on_in_bounded_memory(tmp_path):
    code = LARGER_THAN_MEMORY.format(path=str(tmp_path / "images.u8"), gigabytes=20, steps=20, draws=6000, sweep=True)
    grown = float(python(code))
    print(f"grown by {grown:.0f} MiB")
    assert grown < 400


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on address space")
def test_a_process_that_really_runs_out_goes_on(tmp_path):
    """The CPU allocator fails for real: the process may map only little more than it has."""
    data = write_images(tmp_path / "discs", {"ant": 24, "bee": 8, "cat": 6}, size=32)
    code = f"""
        import resource
        from pathlib import Path
        from helpers import Quiet, train_tiny

        flags = dict(image_size=32, width=64, batch_size=256, pretrain_steps=0, steps=1)
        train_tiny(Path({str(data)!r}), Path({str(tmp_path / "warm")!r}), **{{**flags, "batch_size": 2}})
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), -1))
        monitor = Quiet()
        document = train_tiny(Path({str(data)!r}), Path({str(tmp_path / "runs")!r}), monitor, **flags)
        print(document["finished"], sum("out of memory" in n for n in monitor.notes))
    """
    finished, halvings = python(code).split()
    assert finished == "True" and int(halvings) >= 1
