import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from balancegan.core.errors import CheckpointError, UsageError, WeightsMissingError
from balancegan.metrics.classifier_features import OwnExtractor
from balancegan.metrics.features import Cached, state_key, with_head
from balancegan.metrics.fid import frechet_distance
from balancegan.metrics.inception import InceptionExtractor, _inception
from balancegan.metrics.inception_net import SIDE, TOLERANCE, InceptionNet, resized
from balancegan.metrics.kid import kernel_distance
from balancegan.metrics.weights import PUBLISHED, WEIGHTS_VARIABLE, find_weights

HEAD = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
REAL_WEIGHTS = os.environ.get(WEIGHTS_VARIABLE)


class Payload:
    """A pickle that creates a file when it is loaded without care."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


def toy(per_class=30, channels=1, side=16, seed=0):
    """Horizontal against vertical stripes with noise."""
    rng = np.random.default_rng(seed)
    wave = 127 + 100 * np.sign(np.sin(np.arange(side) * np.pi / 3))
    clean = [np.tile(wave[:, None], (1, side)), np.tile(wave[None, :], (side, 1))]
    stack = np.stack([clean[k] for k in (0, 1) for _ in range(per_class)])[:, None].repeat(channels, axis=1)
    images = np.clip(stack + rng.normal(0, 25, stack.shape), 0, 255).astype(np.uint8)
    return images, np.repeat([0, 1], per_class)


@pytest.fixture(scope="module")
def trained():
    return OwnExtractor.fit(*toy(), 2, steps=25, batch_size=16)


def test_own_learns_separable_classes(trained):
    images, labels = toy(seed=1)
    assert trained.accuracy(images, labels) == pytest.approx([1.0, 1.0], abs=0.1)
    features = trained(images)
    assert features.shape == (60, 128) and features.dtype == np.float32
    assert trained.logits(images).shape == (60, 2)
    assert (trained.name, trained.comparable, trained.dim) == ("own", False, 128)


def test_own_features_do_not_depend_on_the_batch(trained):
    images, _ = toy(seed=1)
    single = np.concatenate([trained(images[i : i + 1]) for i in range(5)])
    assert trained(images)[:5] == pytest.approx(single, abs=1e-4)
    assert trained(images[:0]).shape == (0, 128)


def test_own_is_determined_by_its_seed():
    images, labels = toy(6)
    state = torch.random.get_rng_state()
    features = [OwnExtractor.fit(images, labels, 2, seed=s, steps=3, batch_size=8)(images) for s in (0, 0, 1)]
    assert (features[0] == features[1]).all()
    assert (features[0] != features[2]).any()
    assert (torch.random.get_rng_state() == state).all()  # the caller's random numbers stay as they were


@pytest.mark.parametrize(("channels", "side"), [(3, 16), (1, 32), (3, 64), (1, 100)])
def test_own_takes_grey_and_colour_of_any_size(channels, side):
    images, labels = toy(2, channels, side)
    calls = []
    extractor = OwnExtractor.fit(
        images, labels, 3, steps=2, batch_size=2, progress=lambda stage, done, total: calls.append((done, total))
    )
    assert extractor(images).shape == (4, 128)
    assert np.isnan(extractor.accuracy(images, labels)[2])  # an empty class
    assert calls == [(1, 2), (2, 2)]


def test_own_needs_images():
    with pytest.raises(ValueError, match="cannot train"):
        OwnExtractor.fit(np.empty((0, 1, 16, 16), np.uint8), np.empty(0, np.int64), 2)


def test_a_malicious_pickle_is_refused(tmp_path):
    marker = tmp_path / "marker"
    for name, dump in (("plain.pth", lambda *args: pickle.dump(*args, protocol=2)), ("torch.pth", torch.save)):
        path = tmp_path / name
        with path.open("wb") as file:
            dump({"fc.weight": Payload(marker)}, file)
        with pytest.raises(CheckpointError) as caught:
            InceptionExtractor(path)
        assert caught.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match="damaged"):
        InceptionExtractor(tmp_path / name)


def test_other_contents_are_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="does not hold named"):
        InceptionExtractor(tmp_path / "list.pth")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="other than"):
        InceptionExtractor(tmp_path / "other.pth")


def test_weights_lookup_order(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    assert find_weights("inception") is None
    (tmp_path / "checkpoints").mkdir()
    cached = [tmp_path / "checkpoints" / name for name in PUBLISHED["inception"].names]
    cached[1].touch()
    assert find_weights("inception") == cached[1]
    cached[0].touch()
    assert find_weights("inception") == cached[0]
    named, explicit = tmp_path / "named.pth", tmp_path / "explicit.pth"
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(named))
    with pytest.raises(WeightsMissingError, match=WEIGHTS_VARIABLE):
        find_weights("inception")
    named.touch()
    assert find_weights("inception") == named
    with pytest.raises(WeightsMissingError, match="explicit"):
        find_weights("inception", explicit)
    explicit.touch()
    assert find_weights("inception", explicit) == explicit


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """The right tensors with random values, in half precision and without the score layer."""
    from safetensors.torch import save_file
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        state = _inception({}, Path("none")).state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items() if not k.startswith("fc.")}
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file({k: v.contiguous() for k, v in half.items()}, path)
    return path


def test_inception_from_half_precision_safetensors_without_head(random_weights):
    calls = []
    extractor = InceptionExtractor(random_weights, batch_size=2, progress=lambda *call: calls.append(call))
    grey = np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20), dtype=np.uint8)
    features = extractor(grey)
    assert features.shape == (3, 2048) and features.dtype == np.float32
    assert np.isfinite(features).all() and not extractor.has_head
    assert extractor(grey.repeat(3, axis=1)[:1]) == pytest.approx(features[:1], rel=1e-3, abs=1e-4)
    assert calls[:2] == [("Inception features", 2, 3), ("Inception features", 3, 3)]
    with pytest.raises(UsageError, match="grey or RGB"):
        extractor(np.zeros((1, 4, 8, 8), np.uint8))


@pytest.mark.parametrize("size", [(32, 32), (20, 45), (299, 299), (310, 301), (1, 2)])
def test_inception_resizes_as_torch_fidelity_to_the_bit(size):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *size), dtype=np.uint8)).float()
    assert torch.equal(resized(x), interpolate_bilinear_2d_like_tensorflow1x(x, (SIDE, SIDE), align_corners=False))


def test_inception_gives_torch_fidelitys_features(random_weights):
    plain = trained_statistics(_inception({**load_file(random_weights), **HEAD}, random_weights))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 33), dtype=np.uint8)
    near(InceptionNet(plain.state_dict())(torch.from_numpy(images)), plain(torch.from_numpy(images))[0])


def trained_statistics(network):
    """With normalisations that do something, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if ".bn." in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + (0.0 if name.endswith("mean") else 0.5))
    return network


def near(ours, theirs):
    difference = torch.as_tensor(ours) - theirs
    assert (difference.norm(dim=1) < TOLERANCE * theirs.norm(dim=1)).all()


@pytest.mark.skipif(not REAL_WEIGHTS, reason=f"{WEIGHTS_VARIABLE} names no weights file")
def test_real_weights_give_torch_fidelitys_features():
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    extractor = InceptionExtractor(Path(REAL_WEIGHTS), batch_size=2)
    network = FeatureExtractorInceptionV3("reference", ["2048"], feature_extractor_weights_path=REAL_WEIGHTS)
    network.eval()
    near(extractor(images), network(torch.from_numpy(images))[0])
    assert extractor.comparable


class Folder(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them."""

    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.skipif(not REAL_WEIGHTS, reason=f"{WEIGHTS_VARIABLE} names no weights file")
def test_real_weights_give_torch_fidelitys_distances():
    from torch_fidelity import calculate_metrics

    rng, n = np.random.default_rng(0), 12
    real = rng.integers(0, 256, (n, 3, 40, 40), dtype=np.uint8)
    fake = (rng.integers(0, 256, (n, 3, 10, 10), dtype=np.uint8)).repeat(4, axis=2).repeat(4, axis=3)
    theirs = calculate_metrics(
        input1=Folder(fake),
        input2=Folder(real),
        feature_extractor_weights_path=REAL_WEIGHTS,
        **{"fid": True, "kid": True, "kid_subsets": 1, "kid_subset_size": n, "batch_size": n},
        **{"cuda": False, "cache": False, "verbose": False, "save_cpu_ram": True},
    )
    extractor = Cached(InceptionExtractor(Path(REAL_WEIGHTS)))
    feats = {"feats_real": extractor(real), "feats_fake": extractor(fake)}
    # torch-fidelity takes the root of a singular matrix product, which is good for some digits only.
    assert frechet_distance(**feats) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    mean, _, size = kernel_distance(**feats, subsets=1)
    assert size == n and mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)


def test_a_saved_own_extractor_gives_the_same_features(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8), np.arange(20) % 3
    made = OwnExtractor.fit(images, labels, 3, steps=3)
    made.save(tmp_path / "own.safetensors")
    again = OwnExtractor.load(tmp_path / "own.safetensors")
    np.testing.assert_array_equal(made(images), again(images))
    np.testing.assert_array_equal(made.logits(images), again.logits(images))
    for damaged in (b"", b"not a network"):
        (tmp_path / "own.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            OwnExtractor.load(tmp_path / "own.safetensors")


class Counting:
    """Features that tell the images apart, and how often they were asked for."""

    name, comparable, note, dim = "counting", True, "a note", 3

    def __init__(self, key="a" * 64, persistent=True):
        self.key, self.persistent, self.calls = key, persistent, 0

    def __call__(self, images):
        self.calls += 1
        flat = images.reshape(len(images), -1).astype(np.float32)
        return np.stack([flat.mean(axis=1), flat.std(axis=1), flat.max(axis=1)], axis=1)


def pictures(n=5, seed=0, side=4):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, side, side), dtype=np.uint8)


def entries(folder):
    return sorted(folder.glob("features/*/*"))


def test_a_set_is_extracted_once(tmp_path):
    cached = Cached(inner := Counting(persistent=False), cache_dir=tmp_path)
    images = pictures()
    first = cached(images)
    np.testing.assert_array_equal(first, Counting()(images))
    assert cached(images.copy()) is first and inner.calls == 1
    cached(images[::2])  # not contiguous, other content
    np.testing.assert_array_equal(cached(images[::-1]), first[::-1])
    assert inner.calls == 3
    cached(images.reshape(5, 1, 2, 8))  # the same bytes in another form
    assert inner.calls == 4 and entries(tmp_path) == []
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    assert (cached.name, cached.comparable, cached.note, cached.dim) == ("counting", True, "a note", 3)


def test_no_images_are_no_work(tmp_path):
    cached = Cached(inner := Counting(), cache_dir=tmp_path)
    assert cached(pictures(0)).shape == (0, 3) and cached(pictures(0)).dtype == np.float32
    assert inner.calls == 0 and entries(tmp_path) == []


def test_features_are_shared_by_disk(tmp_path):
    images = pictures()
    expected = Cached(Counting(), cache_dir=tmp_path)(images)
    again = Cached(inner := Counting(), cache_dir=tmp_path)
    np.testing.assert_array_equal(again(images), expected)
    assert inner.calls == 0 and again(images).dtype == np.float32
    (entry,) = entries(tmp_path)
    assert entry.parent.name == "counting-" + "a" * 16
    np.testing.assert_array_equal(np.load(entry), expected)  # a plain array for whoever looks
    Cached(other := Counting(key="b" * 64), cache_dir=tmp_path)(images)
    assert other.calls == 1 and len(entries(tmp_path)) == 2


def test_the_cache_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("BALANCEGAN_CACHE_DIR", str(tmp_path / "there"))
    Cached(Counting())(pictures())
    assert len(entries(tmp_path / "there")) == 1


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "other"])
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    images = pictures()
    expected = Cached(Counting(), cache_dir=tmp_path)(images)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    if damage == "other":  # a sound entry of another set under this one's name
        Cached(Counting(), cache_dir=tmp_path / "b")(pictures(7))
        entry.write_bytes(entries(tmp_path / "b")[0].read_bytes())
    else:
        changed = bytes([whole[-20] ^ 1])
        entry.write_bytes({"empty": b"", "short": whole[:-5], "flipped": whole[:-20] + changed + whole[-19:]}[damage])
    cached = Cached(inner := Counting(), cache_dir=tmp_path)
    np.testing.assert_array_equal(cached(images), expected)
    assert inner.calls == 1 and entry.read_bytes() == whole


def test_the_longest_unused_entries_are_deleted(tmp_path):
    sets = [pictures(seed=seed) for seed in range(4)]
    Cached(Counting(), cache_dir=tmp_path)(sets[0])
    size = entries(tmp_path)[0].stat().st_size

    def made(index, key):
        Cached(inner := Counting(key=key), cache_dir=tmp_path, limit=3 * size)(sets[index])
        return inner.calls

    made(1, "b" * 64)
    made(2, "a" * 64)
    left_behind = entries(tmp_path)[0].parent / ".tmp-dead"
    left_behind.touch()
    times = {entry: index for index, entry in enumerate(entries(tmp_path))}
    for entry in times:
        os.utime(entry, ns=(0, 10**9 * (1 + times[entry])))
    os.utime(left_behind, ns=(0, 0))
    assert made(0, "a" * 64) == 0  # looked up, and so in use
    assert made(3, "b" * 64) == 1
    assert len(entries(tmp_path)) == 3 and not left_behind.exists()
    assert made(0, "a" * 64) == 0 and made(3, "b" * 64) == 0
    Cached(Counting(), cache_dir=tmp_path, limit=size // 2)(pictures(seed=9))  # larger than everything together
    assert entries(tmp_path) == []


def test_without_a_usable_folder_there_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    Cached(inner := Counting(), cache_dir=tmp_path / "file" / "below")(pictures())
    assert inner.calls == 1

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("balancegan.metrics.features.write_atomic", full)
    cached = Cached(inner := Counting(), cache_dir=tmp_path / "full")
    np.testing.assert_array_equal(cached(pictures()), cached(pictures()))
    assert inner.calls == 1 and entries(tmp_path / "full") == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_no_failure(tmp_path):
    tmp_path.chmod(0o500)
    Cached(inner := Counting(), cache_dir=tmp_path)(pictures())
    tmp_path.chmod(0o700)
    assert inner.calls == 1


def test_a_classifier_shows_through(tmp_path):
    plain, headed = Counting(), Counting()
    headed.has_head, headed.classify = True, lambda features: -features
    assert with_head(headed) and Cached(headed, cache_dir=tmp_path).has_head
    np.testing.assert_array_equal(Cached(headed, cache_dir=tmp_path).classify(np.ones((1, 3))), -np.ones((1, 3)))
    assert not with_head(plain) and not with_head(Cached(plain, cache_dir=tmp_path))
    with pytest.raises(WeightsMissingError, match="no classifier"):
        Cached(plain, cache_dir=tmp_path).classify(np.ones((1, 3)))


def test_keys_name_the_weights(trained, random_weights, tmp_path):
    images, labels = toy(2)
    same = [OwnExtractor.fit(images, labels, 2, seed=s, steps=1, batch_size=2).key for s in (0, 0, 1)]
    assert same[0] == same[1] != same[2] and len(trained.key) == 64
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert state_key(state) == state_key(dict(reversed(state.items())))
    assert len({state_key(state), state_key(state, 1), state_key({**state, "a": torch.zeros(3, 2)})}) == 3
    extractor = InceptionExtractor(random_weights)
    assert len(extractor.key) == 64 and extractor.persistent and not trained.persistent
    cached = Cached(extractor, cache_dir=tmp_path)
    assert not cached.has_head and cached(images[:0]).shape == (0, 2048)
