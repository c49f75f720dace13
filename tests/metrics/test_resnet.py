"""ResNet-50 as a feature extractor, with random weights: against torchvision's own layers, and in what it refuses."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet50
from torchvision.transforms import v2

from balancegan.core.errors import CheckpointError, UsageError, WeightsMissingError
from balancegan.metrics.resnet import ResNet50Extractor


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet50(weights=None).eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(network.state_dict(), path)
    return path


def pictures(n=3, channels=3, height=32, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (300, 260)])
def test_against_torchvisions_network_and_transform(network, weights, height, width):
    images = pictures(2, 3, height, width)
    transform = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((224, 224), v2.InterpolationMode.BILINEAR, antialias=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    pooled = {}
    hook = network.avgpool.register_forward_hook(lambda module, x, y: pooled.update(y=y))
    with torch.inference_mode():
        network(transform(torch.from_numpy(images)))
    hook.remove()
    features = ResNet50Extractor(weights)(images)
    assert features.shape == (2, 2048) and features.dtype == np.float32
    assert features == pytest.approx(pooled["y"].flatten(1).numpy(), rel=1e-3, abs=1e-4)


def test_batches_do_not_matter(weights):
    calls = []
    images = pictures(3)
    extractor = ResNet50Extractor(weights, batch_size=2, progress=lambda *call: calls.append(call))
    features = extractor(images)
    assert calls == [("ResNet-50 features", 2, 3), ("ResNet-50 features", 3, 3)]
    assert extractor(images[2:]) == pytest.approx(features[2:], rel=1e-3, abs=1e-4)
    assert extractor(images[:0]).shape == (0, 2048)


def test_grey_is_repeated(weights):
    extractor = ResNet50Extractor(weights)
    grey = pictures(1, channels=1)
    assert extractor(grey) == pytest.approx(extractor(grey.repeat(3, axis=1)), rel=1e-4, abs=1e-5)
    with pytest.raises(UsageError, match="ResNet-50 takes grey or RGB"):
        extractor(pictures(1, channels=4))


def test_half_precision_safetensors_without_head(network, weights, tmp_path):
    from safetensors.torch import save_file

    state = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "half.safetensors")
    half, whole = ResNet50Extractor(tmp_path / "half.safetensors"), ResNet50Extractor(weights)
    assert half(pictures(1)) == pytest.approx(whole(pictures(1)), rel=0.05, abs=0.01)
    assert half.key != whole.key and len(whole.key) == 64


def test_what_it_says_of_itself(weights):
    extractor = ResNet50Extractor(weights)
    assert (extractor.name, extractor.dim, extractor.persistent) == ("resnet50", 2048, True)
    assert "never with published FIDs" in extractor.note


def test_other_files_are_refused(tmp_path):
    with pytest.raises(WeightsMissingError, match="absent") as missing:
        ResNet50Extractor(tmp_path / "absent.pth")
    assert "fetch resnet50" in missing.value.hint
    (tmp_path / "broken.pth").write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match="damaged"):
        ResNet50Extractor(tmp_path / "broken.pth")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="other than ResNet-50") as other:
        ResNet50Extractor(tmp_path / "part.pth")
    assert "fetch resnet50" in other.value.hint
