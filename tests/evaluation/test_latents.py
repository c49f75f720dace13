import json
import shutil

import numpy as np
import pytest
import torch
from helpers import make_method, train_tiny, write_images

from balancegan.compute.pixels import to_uint8
from balancegan.data.training_set import reopen_training_set
from balancegan.evaluation.latents import latent_embeddings
from balancegan.evaluation.run_pictures import run_extras
from balancegan.nets.dcgan import Encoder
from balancegan.runs.checkpoint import read_checkpoint
from balancegan.runs.directory import RunDir, frames
from balancegan.runs.restore import restore
from balancegan.sampling.interpolation import MAX_ROWS, between, interpolation
from balancegan.sampling.samplers import latents
from balancegan.training.autoencoder import plain_autoencoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of tiny runs and their data."""
    root = tmp_path_factory.mktemp("trace")
    data = write_images(root / "discs", {"ant": 14, "bee": 8, "cat": 6})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BALANCEGAN_CACHE_DIR", str(root / "cache"))
        kept = {"sample_every": 4, "keep_checkpoints": 9}
        done = {name: train_tiny(data, root / name, method=name, **kept) for name in ("bagan", "cwgan-gp")}
        for name, conditioning in (("sgbgan", "product"), ("by norms", "norms")):
            done[name] = train_tiny(data, root / name, method="sgbgan", conditioning=conditioning, **kept)
    return {name: RunDir(result["run"]) for name, result in done.items()}


def opened(run):
    restored = restore(run, CPU)
    return restored, reopen_training_set(run.read_json("dataset.json"), restored.method.cfg)


def embeddings(run, **options):
    restored, data = opened(run)
    return {e["id"]: e for e in latent_embeddings(restored, data, **{"plain": False, **options})}


# Between latents -----------------------------------------------------------------------------------------------------


def test_the_way_begins_and_ends_where_it_should_and_keeps_its_length():
    first, last = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    way = between(first, last, 9, (-float("inf"), float("inf")))
    assert way.shape == (9, 400) and way.dtype == torch.float32
    assert torch.allclose(way[0], first, atol=1e-5) and torch.allclose(way[-1], last, atol=1e-5)
    assert way.norm(dim=1).min() > 0.95 * min(first.norm(), last.norm())
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert steps.max() < 1.1 * steps.min()


def test_a_bounded_prior_is_never_left():
    first, last = torch.rand(2, 500, generator=torch.Generator().manual_seed(0)) * 2 - 1
    way = between(first, last, 7, (-1.0, 1.0))
    assert torch.allclose(way[0], first, atol=1e-4) and torch.allclose(way[-1], last, atol=1e-4)
    assert way.abs().max() <= 1
    assert way[3].std() == pytest.approx(3**-0.5, rel=0.1)  # still uniform in the middle


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0])
def test_ends_on_one_line(factor):
    first = torch.randn(20, generator=torch.Generator().manual_seed(0))
    way = between(first, factor * first, 5, (-float("inf"), float("inf")))
    assert way.isfinite().all() and torch.allclose(way[-1], factor * first, atol=1e-5)


# Extras --------------------------------------------------------------------------------------------------------------


def test_interpolation_of_every_class(trained):
    restored, _ = opened(trained["sgbgan"])
    images = interpolation(restored.method, CPU, columns=5, seed=3)
    assert images.shape == (3, 5, 3, 16, 16) and images.dtype == np.uint8
    assert (images == interpolation(restored.method, CPU, columns=5, seed=3)).all()
    z, c = latents(restored.method, [6, 7]), torch.tensor([1, 1])
    ends = to_uint8(restored.method.sample(z, c)).numpy()
    assert np.abs(images[1, [0, -1]].astype(int) - ends.astype(int)).max() <= 1


def test_an_unconditional_method_has_one_row():
    method = make_method("contrad").eval()
    assert not method.conditional and interpolation(method, CPU).shape == (1, 9, 3, 16, 16)


def test_many_classes_are_cut(trained, monkeypatch):
    assert MAX_ROWS == 12
    monkeypatch.setattr("balancegan.sampling.interpolation.MAX_ROWS", 2)
    assert interpolation(opened(trained["sgbgan"])[0].method, CPU, columns=2).shape == (2, 2, 3, 16, 16)


def test_frames_in_the_order_of_steps(trained, tmp_path):
    run = trained["sgbgan"]
    assert [step for step, _ in frames(run)] == [4, 8, 10]
    copy = RunDir(shutil.copytree(run.path, tmp_path / "00000-run"))
    for name in ("step-1000000.png", "step-000100.png", "step-000100.txt", "other.png"):
        (copy.samples / name).write_bytes(b"")
    assert [step for step, _ in frames(copy)] == [4, 8, 10, 100, 1_000_000]
    assert [step for step, _ in frames(copy, last=100)] == [4, 8, 10, 100]
    assert frames(RunDir(tmp_path / "nothing")) == ()


def test_extras(trained):
    extras = run_extras(opened(trained["sgbgan"])[0])
    assert extras.interpolation.shape == (3, 9, 3, 16, 16)
    assert [path.name for _, path in extras.frames] == [f"step-0000{step}.png" for step in ("04", "08", "10")]


def test_no_interpolation_before_the_adversarial_training(trained, tmp_path):
    copy = RunDir(shutil.copytree(trained["sgbgan"].path, tmp_path / "00000-run"))
    copy.set_aside_after(4)
    extras = run_extras(restore(copy, CPU))
    assert extras.interpolation is None and [step for step, _ in extras.frames] == [4]


# Latents -------------------------------------------------------------------------------------------------------------


def test_the_encoder_stays_as_pretraining_left_it(trained):
    """What the captions say."""
    for name in ("sgbgan", "bagan"):
        first, last = (
            next(c for c in map(read_checkpoint, trained[name].checkpoint_dirs()) if c.step == step).weights
            for step in (4, 10)
        )
        encoder = [key for key in first if key.startswith("E.")]
        assert encoder and all(torch.equal(first[key], last[key]) for key in encoder)
        assert any(not torch.equal(first[key], last[key]) for key in first if key.startswith("G."))


def test_sgbgans_three_pictures(trained):
    steps = []
    found = embeddings(trained["sgbgan"], plain=True, seed=1, progress=lambda *step: steps.append(step))
    assert list(found) == ["latents", "labelled_latents", "plain_latents"]
    for plot in found.values():
        assert len(plot["x"]) == len(plot["y"]) == len(plot["label"]) == len(plot["fake"])
        assert set(plot["label"]) == {0, 1, 2} and not any(plot["fake"])
        assert np.isfinite(plot["x"] + plot["y"]).all()
        json.dumps(plot, allow_nan=False)
    assert found["latents"]["label"] == found["plain_latents"]["label"]
    assert found["latents"]["x"] != found["plain_latents"]["x"] != found["labelled_latents"]["x"]
    assert "after 4 updates" in found["latents"]["caption"]
    assert "4 updates, as many" in found["plain_latents"]["caption"]
    assert steps == [("plain autoencoder", i, 4) for i in (1, 2, 3, 4)]


def test_without_a_label_embedding_there_is_no_picture_of_it(trained):
    assert list(embeddings(trained["by norms"], plain=True)) == ["latents", "plain_latents"]


def test_fewer_updates_for_the_plain_one_are_said(trained):
    found = embeddings(trained["sgbgan"], plain=True, plain_steps=2)
    assert (
        "trained for 2 updates and the run's own encoder for 4, so the comparison is rough"
        in found["plain_latents"]["caption"]
    )


def test_the_same_seed_draws_the_same_picture_and_leaves_torchs_generator_alone(trained):
    restored, data = opened(trained["sgbgan"])
    state = torch.get_rng_state()
    first = latent_embeddings(restored, data, plain=True)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert first == latent_embeddings(restored, data, plain=True)


def test_limit(trained):
    found = embeddings(trained["sgbgan"], limit=9)
    assert sorted(found["latents"]["label"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert embeddings(trained["sgbgan"], limit=4) == {}


def test_the_plain_encoder_learns(trained):
    restored, data = opened(trained["sgbgan"])
    trained_one, count = plain_autoencoder(restored, data, 3, 0, lambda *_: None)
    untrained, _ = plain_autoencoder(restored, data, 0, 0, lambda *_: None)
    assert count == 3
    assert isinstance(trained_one.E, Encoder)
    pairs = zip(trained_one.E.parameters(), untrained.E.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)


def test_other_methods(trained, tmp_path):
    assert list(embeddings(trained["bagan"], plain=True)) == ["latents"]  # no embedding, not variational
    assert embeddings(trained["cwgan-gp"], plain=True) == {}


def test_an_encoder_that_was_never_trained(trained, tmp_path):
    copy = RunDir(shutil.copytree(trained["sgbgan"].path, tmp_path / "00000-run"))
    copy.set_aside_after(0)
    assert embeddings(copy, plain=True) == {}
