"""Classifiers by name and by file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import patterns, pool
from torch import nn
from torchvision.models import resnet18, resnet34

from balancegan.core.errors import CheckpointError, UsageError, WeightsMissingError
from balancegan.verdict.networks import SMALL, choose_network, fast_bfloat16

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def test_the_small_network_is_the_default():
    assert choose_network("small") is SMALL
    network = SMALL.seeded(1, 3, 16, 0, CPU)
    again = SMALL.seeded(1, 3, 16, 0, CPU)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_file_is_recognised_by_its_tensors(weights, tmp_path):
    network = choose_network(str(weights))
    assert network.name == "ResNet-18" and "mine.pth" in network.note and "224 px" in network.note
    built = network.seeded(1, 4, 20, 0, CPU)
    stored = torch.load(weights, weights_only=True)
    assert torch.equal(built[1].conv1.weight, stored["conv1.weight"]) and built[1].fc.out_features == 4
    seen = []
    built[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    assert built.eval()(torch.ones(2, 1, 20, 20)).shape == (2, 4)
    assert seen[0].shape == (2, 3, 224, 224)
    torch.testing.assert_close(
        seen[0][0, :, 5, 5], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )
    torch.save(resnet34(weights=None).state_dict(), tmp_path / "other.pth")
    assert choose_network(str(tmp_path / "other.pth")).name == "ResNet-34"


def test_the_published_weights_are_found(weights, monkeypatch):
    with pytest.raises(WeightsMissingError, match="no resnet18 weights") as missing:
        choose_network("resnet18")
    assert "weights fetch resnet18" in missing.value.hint
    monkeypatch.setenv("BALANCEGAN_RESNET18_WEIGHTS", str(weights))
    assert choose_network("resnet18").name == "ResNet-18"


def test_other_names_and_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="neither a classifier nor a file"):
        choose_network("large")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(CheckpointError, match="none of ResNet-18, ResNet-34, ResNet-50"):
        choose_network(str(tmp_path / "linear.pth"))
    Path(tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(CheckpointError):
        choose_network(str(tmp_path / "text.pth"))


def test_fast_bfloat16_is_a_fact_about_the_machine():
    assert fast_bfloat16(CPU) in (True, False)
    assert not fast_bfloat16(torch.device("mps"))


def test_a_pretrained_network_is_trained_and_tested(weights):
    from dataclasses import replace

    from balancegan.verdict.arms import arm_named
    from balancegan.verdict.augmentation import NONE
    from balancegan.verdict.classifiers import Job, Part, Shelf, mixed_draw, train_jobs
    from balancegan.verdict.material import SplitPlan

    real = pool((patterns(0, 2), 0), (patterns(1, 2), 1))
    rows = np.arange(4)
    network = replace(choose_network(str(weights)), batch=2)
    draw = mixed_draw([Part.all_of(rows, real.labels, 2)], balanced=True)
    job = Job(arm_named("oversampling"), 0, SplitPlan(rows, rows), draw, NONE, 1)
    (result,) = train_jobs([job], Shelf.of([real], 2, network.side, CPU), network, CPU)
    assert result.probabilities.shape == (4, 2) and np.isfinite(result.probabilities).all()
