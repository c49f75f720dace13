"""Several processes that train together come to what one does, and end together. Real processes, on the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import train_tiny, write_images
from safetensors.torch import load_file

from balancegan.compute import microbatch as parts
from balancegan.compute.ranks import Ranks
from balancegan.core.errors import UsageError
from balancegan.methods import METHODS
from balancegan.runs.directory import RunDir

HERE = Path(__file__).parent
WAIT = 240  # seconds; a busy machine may need a minute to start two processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    write_images(folder / "discs", {"ant": 24, "bee": 8, "cat": 6})
    return folder


def start(folder, *arguments, **environment):
    """`torchrun` with two processes of the job."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "BALANCEGAN_CACHE_DIR": str(folder / "cache"), **environment}
    return subprocess.Popen(
        [*torchrun, str(HERE / "job.py"), *arguments, str(folder)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process):
    """What it printed; it must come to an end."""
    try:
        return process.communicate(timeout=WAIT)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the job hangs: {process.communicate()[0]}")


@pytest.fixture(scope="module")
def found(folder):
    """What a job of two processes came to."""
    process = start(folder, "everything")
    text = end(process)
    assert process.returncode == 0, text
    return torch.load(folder / "found.pt", weights_only=False)


def job():
    sys.argv = ["job.py", "", "."]
    sys.path.insert(0, str(HERE))
    import job

    return job


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    vectors = [torch.randn(8, 6) for _ in range(3)]
    images, weights = torch.randn(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    return job().measure_pieces(*vectors, images, weights, 1)


@pytest.mark.parametrize("name", ["nt_xent", "supcon"])
def test_contrasts_see_the_images_of_all(found, whole, name):
    ranks = found["pieces"]
    torch.testing.assert_close(torch.stack([rank[name] for rank in ranks]).mean(), whole[name])
    for key in (key for key in whole if key.startswith(f"{name} gradient")):
        torch.testing.assert_close(torch.cat([rank[key] for rank in ranks]), whole[key], msg=key)


@pytest.mark.parametrize("key", ["norm", "norm gradient", "norm second gradient"])
def test_batch_norm_normalises_over_all_also_in_its_derivatives(found, whole, key):
    torch.testing.assert_close(torch.cat([rank[key] for rank in found["pieces"]]), whole[key], rtol=1e-4, atol=1e-5)


def test_running_statistics_are_those_of_all(found, whole):
    for rank in found["pieces"]:
        torch.testing.assert_close(rank["mean"], whole["mean"])
        torch.testing.assert_close(rank["var"], whole["var"])


def test_a_rank_without_images_takes_part_in_batch_norm(found):
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(2)
    expected = norm(torch.randn(3, 2, 4, 4)).detach()
    (y, var), (nothing, other) = found["uneven"]
    torch.testing.assert_close(y, expected)
    assert nothing.shape == (0, 2, 4, 4)
    torch.testing.assert_close(var, norm.running_var)
    torch.testing.assert_close(other, norm.running_var)


def test_random_numbers_are_the_rows_of_one_draw(found):
    drawn = torch.cat([rank["drawn"] for rank in found["pieces"]])
    assert torch.equal(drawn, torch.rand(8, generator=torch.Generator().manual_seed(3)))


def test_gradients_are_added_up_over_ranks_and_parts(found):
    weight = torch.zeros(3, requires_grad=True)
    x, noise = torch.arange(24.0).view(8, 3), torch.rand(8, generator=torch.Generator().manual_seed(4))
    loss = (torch.nn.functional.softplus(x @ weight) * noise).mean()
    loss.backward()
    for value, gradient in found["in parts"]:
        torch.testing.assert_close(value, loss.detach())
        torch.testing.assert_close(gradient, weight.grad)


def weights(folder):
    """All trained weights of the one run in a folder, in one vector, and its last losses."""
    (run,) = (RunDir(path) for path in folder.glob("0*"))
    state = load_file(run.checkpoint_dirs()[0] / "weights.safetensors")
    last = run.read_metrics()[-1]
    losses = torch.tensor([value for key, value in last.items() if key.startswith("loss/")])
    return torch.cat([state[key].double().flatten() for key in sorted(state)]), losses, run.checkpoint_dirs()[0].name


def assert_like_one(folder, ones, tolerance=1e-4):
    (got, losses, name), (expected, wanted, last) = weights(folder), weights(ones)
    assert name == last
    assert (got - expected).norm() < tolerance * expected.norm()
    torch.testing.assert_close(losses, wanted, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_make_the_steps_of_one(folder, found, tmp_path, name):
    train_tiny(folder / "discs", tmp_path / "one", **job().settings(name))
    (tmp_path / "two").mkdir()
    (run,) = (folder / "two").glob(f"*-{name}-discs")
    (tmp_path / "two" / run.name).symlink_to(run)
    # A critic's real and generated images cancel in the bias before its last layer: in the first updates its gradient
    # is rounding alone, of which Adam makes whole steps. So are some gradients of a translator.
    rounding = {"cwgan-gp": 2e-2, "bwgan-gp": 2e-2, "cyclegan": 1e-3}
    assert_like_one(tmp_path / "two", tmp_path / "one", rounding.get(name, 1e-4))


def test_one_process_goes_on_where_two_stopped(folder, found, tmp_path):
    settings = job().settings("sgbgan")
    resumed = train_tiny(folder / "discs", folder / "resumed", **settings)
    assert resumed["resumed_from"] and resumed["finished"]
    train_tiny(folder / "discs", tmp_path / "one", **settings)
    assert_like_one(folder / "resumed", tmp_path / "one")


def test_a_loss_that_is_not_finite_at_one_rank_rolls_all_back(found):
    assert len([note for note in found["rolled back"] if "a loss is not finite; back to step" in note]) == 1


def test_all_ranks_make_the_images_that_one_makes(found):
    for (seeds, images), (alone, expected) in found["images"].values():
        assert seeds == alone and np.array_equal(images, expected)


def test_all_ranks_see_the_features_that_one_sees(found):
    by_all, alone = found["features"]
    np.testing.assert_allclose(by_all, alone, rtol=1e-5, atol=1e-6)


def test_two_machines_decode_what_one_does(folder, tmp_path):
    """Each process pretends to be alone on its machine; both write to caches of their own."""
    write_images(tmp_path / "discs", {"ant": 300, "bee": 120})
    process = start(tmp_path, "decode", BALANCEGAN_CACHE_DIR=str(tmp_path / "two"))
    text = end(process)
    assert process.returncode == 0, text
    from balancegan.data.decode import DecodeSettings
    from balancegan.data.scan import scan
    from balancegan.data.store import open_store

    store = open_store(scan(tmp_path / "discs"), DecodeSettings(image_size=16))
    other = torch.load(tmp_path / "decoded.pt", weights_only=False)
    assert other["shares"] == [True, True]
    assert other["fingerprint"] == store.fingerprint
    assert np.array_equal(other["images"], store.images)


# Ends ----------------------------------------------------------------------------------------------------------------


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(path, process):
    deadline = time.monotonic() + WAIT
    while not path():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)


def steps(folder):
    return [int(path.name[5:]) for path in sorted(folder.glob("0*/checkpoints/step-*"))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_rank_and_a_signal_end_the_job_and_it_goes_on(folder, tmp_path):
    out = folder / "long"
    process = start(folder, "long", STEPS="100000")
    wait_for(lambda: max(steps(out), default=0) >= 10, process)
    os.kill(children(process)[1], signal.SIGKILL)
    end(process)
    assert process.returncode != 0
    (run,) = (RunDir(path) for path in out.glob("0*"))
    killed_at = max(steps(out))
    assert run.load_checkpoint().step == killed_at

    process = start(folder, "long", STEPS="100000")
    wait_for(lambda: max(steps(out)) > killed_at, process)
    process.send_signal(signal.SIGTERM)
    end(process)
    log = (run.path / "log.txt").read_text()
    assert f"continuing {run.name} after step {killed_at} of" in log
    assert f"stopped by signal {signal.SIGTERM:d} at step {max(steps(out))}" in log

    resumed = train_tiny(folder / "discs", out, pretrain_steps=0, steps=max(steps(out)) + 3, save_every=5)
    assert resumed["finished"] and resumed["run"] == str(run.path)


@pytest.mark.parametrize("scenario, words", [("disk", "there is no room"), ("memory", "process 1: error: ")])
def test_a_failure_of_one_rank_ends_all(folder, tmp_path, scenario, words):
    write_images(tmp_path / "discs", {"ant": 24, "bee": 8, "cat": 6})
    process = start(tmp_path, scenario)
    text = end(process)
    assert process.returncode != 0 and words in text
    if scenario == "memory":
        assert "--set micro_batch=2" in text
    (run,) = (RunDir(path) for path in (tmp_path / "broken").glob("0*"))
    assert run.load_checkpoint().step == 2 if scenario == "memory" else run.load_checkpoint() is not None


# Without other processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, least", [(3, 1), (16, 1), (8, 2)])
def test_a_batch_that_cannot_be_divided_is_refused(size, least):
    with pytest.raises(UsageError, match="cannot be divided among") as caught:
        Ranks(0, size).require_equal_parts(8, least)
    assert f"multiple of {size}" in caught.value.hint
    assert Ranks(0, 2).require_equal_parts(8, 2) == 4


def test_a_process_alone_is_the_only_rank():
    alone = Ranks()
    assert alone.from_main(lambda: 3) == alone.everywhere(lambda: 3) == 3 and alone.most(2, 5) == (2, 5)
    with alone.together(8), alone.joined(print):
        assert parts.at_hand(8) == 8
    terms = {"a": torch.ones(())}
    assert alone.summed([], terms) is terms
