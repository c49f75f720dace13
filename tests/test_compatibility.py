"""A run that version 0.1.0 wrote, kept in tests/fixtures: it can still be sampled, filled up from and continued."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Quiet, train_tiny
from PIL import Image

from balancegan.commands.augment import AugmentOptions, augment
from balancegan.commands.sample import look
from balancegan.commands.train import TrainRequest, launch
from balancegan.core.errors import CheckpointError
from balancegan.data.scan import scan
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.preview import grid_images

CPU = torch.device("cpu")
FIXTURE = Path(__file__).parent / "fixtures" / "run-0.1.0"


@pytest.fixture
def old(tmp_path):
    """A copy of the run; its data are the fixture `discs`."""
    shutil.copytree(FIXTURE, tmp_path / "runs" / "00000-bagan-discs")
    return RunDir(tmp_path / "runs" / "00000-bagan-discs")


def test_its_generator_makes_the_images_that_it_made(old, tmp_path):
    from balancegan.core.grid import grid_image

    restored = restore(old, CPU)
    assert restored.checkpoint.step == 10 and restored.class_names == ("ant", "bee", "cat")
    then = np.asarray(Image.open(FIXTURE / "samples" / "step-000010.png")).astype(int)
    now = np.asarray(grid_image(grid_images(restored.method, CPU), restored.class_names)).astype(int)
    left = now.shape[1] - 8 * (64 + 2)  # the labels' font may be another version's
    assert now.shape == then.shape and np.abs(now - then)[:, left:].max() <= 2
    assert look(old, (), None, 4, tmp_path / "grid.png", device=CPU, note=print)["step"] == 10


def test_it_fills_a_folder(old, discs, tmp_path):
    """The data set's fingerprint is still the same, so the run knows it again."""
    options = AugmentOptions(out=tmp_path / "out", data=discs, fill="generated", filter="none", report=False)
    document = augment(old, options, device=CPU)
    assert document["complete"] and document["imbalance_rate_after"] == 1


def test_it_is_continued(old, discs, tmp_path):
    request = TrainRequest(
        data=discs, flags={"steps": 9}, device="cpu", out=tmp_path / "runs", resume="0", use_environment=False
    )
    document = launch(request, Quiet())
    assert document["run"] == str(old.path) and document["steps"] == 9 and document["resumed_from"]
    assert old.read_json("dataset.json")["data"] == str(scan(discs).root)
    straight = train_tiny(discs, tmp_path / "new", method="bagan", width=8, latent_dim=4, steps=9)
    a, b = (RunDir(d["run"]).load_checkpoint().weights for d in (document, straight))
    assert a.keys() == b.keys()
    for key, value in a.items():  # another machine's arithmetic lies between
        torch.testing.assert_close(value, b[key], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_format_of_another_version_is_refused_with_what_to_do(old, version):
    manifest = old.checkpoint_dirs()[0] / "MANIFEST.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "schema_version": version, "version": "9.0"}))
    with pytest.raises(CheckpointError) as caught:
        restore(old, CPU)
    assert caught.value.exit_code == 8
    assert "format" in caught.value.message and "9.0" in caught.value.message + caught.value.hint


def test_settings_of_another_version_are_refused_with_what_to_do(old):
    with (old.path / "config.yaml").open("a") as file:
        file.write("nobody_knows: 1\n")
    with pytest.raises(CheckpointError) as caught:
        restore(old, CPU)
    assert "nobody_knows" in caught.value.message and "env.json" in caught.value.hint
