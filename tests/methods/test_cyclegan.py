"""CycleGAN: its losses against slow references, where images start from, and its networks."""

import numpy as np
import pytest
import torch

from balancegan.core.config import resolve
from balancegan.core.errors import UsageError
from balancegan.data.sources import SourceImages
from balancegan.folder.copy_filter import CopyFilter
from balancegan.methods.base import DataSpec
from balancegan.methods.cyclegan import SHIFT, CycleGAN, CycleGANConfig, shifted
from balancegan.nets.cyclegan import ConditionalInstanceNorm2d, PatchDiscriminator
from balancegan.sampling.samplers import Sampler

NAMES = ("ant", "bee", "cat")


def images(n=8):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.tensor([0, 0, 1, 2] * (n // 4))


def cyclegan(counts=(4, 20, 6), **settings):
    torch.manual_seed(0)
    settings = {"image_size": 16, "width": 16, "blocks": 1, **settings}
    method = CycleGAN(resolve(CycleGANConfig, CycleGAN.presets["tiny"], flags=settings, env={}))
    method.setup(DataSpec(3, 3, 16, counts, NAMES))
    return method


def test_losses_equal_slow_references():
    method = cyclegan()
    x, c = images()
    torch.manual_seed(1)
    found = method.d_loss(x, c), method.g_loss(x, c)
    torch.manual_seed(1)
    with torch.no_grad():
        t = method.targets(len(x))
        fake = method.D(method.G(x, t), t).numpy()
        real = method.D(x, c).numpy()
    assert {k: v.item() for k, v in found[0].items()} == pytest.approx(
        {"real": 0.5 * np.mean((real - 1) ** 2), "fake": 0.5 * np.mean(fake**2)}, rel=1e-4
    )
    with torch.no_grad():
        t = method.targets(len(x))
        y = method.G(x, t)
        expected = {
            "fake": np.mean((method.D(y, t).numpy() - 1) ** 2),
            "cycle": 10 * np.mean(np.abs((method.G(y, c) - x).numpy())),
            "identity": 5 * np.mean(np.abs((method.G(x, c) - x).numpy())),
        }
    assert {k: v.item() for k, v in found[1].items()} == pytest.approx(expected, rel=1e-4)


def test_targets_have_the_frequencies_of_training():
    t = cyclegan((90, 10, 0), sampling="natural").targets(20_000)
    assert (torch.bincount(t, minlength=3) / len(t)).tolist() == pytest.approx([0.9, 0.1, 0], abs=0.01)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("largest", [(1,), (0, 2), (1,)]),
        ("others", [(1, 2), (0, 2), (0, 1)]),
        ("cat", [(2,), (2,), (0, 1)]),
    ],
)
def test_images_start_from_the_source_class(source, expected):
    method = cyclegan(source=source)
    assert [method.source_classes(label) for label in range(3)] == expected and method.uses_sources


def test_an_unknown_source_is_named():
    with pytest.raises(UsageError, match="'dog' is no class") as caught:
        cyclegan(source="dog")
    assert "largest, others, ant" in caught.value.hint
    with pytest.raises(UsageError, match="shared_fakes"):
        cyclegan(shared_fakes=True)


def test_the_latent_shifts_the_source_before_it_is_translated():
    method = cyclegan()
    x, c = images()
    z = torch.zeros(8, 2)
    torch.testing.assert_close(method.sample(z, c, x), method.G(x, c).detach())
    z[:, 0] = 10.0
    moved = torch.nn.functional.pad(x, (0, 0, 16 // SHIFT, 0), mode="reflect")[:, :, :16]
    torch.testing.assert_close(method.sample(z, c, x), method.G(moved, c).detach())


def test_an_unchanged_source_is_a_copy_wherever_it_is_shifted(monkeypatch):
    method = cyclegan()
    monkeypatch.setattr(method.G, "forward", lambda x, c: x)
    if method.G_ema is not None:
        monkeypatch.setattr(method.G_ema, "forward", lambda x, c: x)
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (30, 3, 16, 16), dtype=np.uint8)
    labels = np.repeat([0, 1, 2], 10)
    sampler = Sampler(method, torch.device("cpu"), SourceImages(real, np.arange(30), labels))
    seeds = list(range(64))
    images = sampler.images(0, seeds)
    assert not (images == sampler.sources.draw((1,), seeds)).all(axis=(1, 2, 3)).all()  # they are shifted
    np.testing.assert_array_equal(sampler.origins(0)(np.array(seeds)), images)
    copies = CopyFilter(real[labels == 0], 74, sampler.origins(0))
    assert not copies(images, np.array(seeds)).any()


def test_shifts_reflect_at_the_borders():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    for down, right in ((2, 0), (-2, 0), (0, 1), (-1, 2)):
        padded = np.pad(x[0, 0].numpy(), 3, mode="reflect")
        slow = padded[3 - down : 9 - down, 3 - right : 9 - right]
        found = shifted(x, torch.tensor([[down / 6, right / 6]]))
        np.testing.assert_array_equal(found[0, 0].numpy(), slow)


@pytest.mark.parametrize(("side", "patch"), [(32, 16), (64, 16), (128, 34), (256, 70)])
def test_patches_have_the_papers_size(side, patch):
    D = PatchDiscriminator(2, 1, side, 4)
    for module in D.modules():  # instance norms look at the whole map
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.forward = lambda x: x
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    logits = D(x, torch.tensor([1]))[0]
    logits[logits.shape[0] // 2, logits.shape[1] // 2].backward()
    touched = torch.nonzero(x.grad[0, 0])
    assert (touched.amax(0) - touched.amin(0) + 1).tolist() == [min(patch, side)] * 2


def test_conditional_instance_norm_against_a_slow_reference():
    norm = ConditionalInstanceNorm2d(2, 3)
    with torch.no_grad():
        norm.shift.weight.normal_()
    x, c = torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    found = norm(x, c)
    for n in range(4):
        for k in range(3):
            v = x[n, k].double()
            slow = (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()
            slow = norm.gain.weight[c[n], k].double() * slow + norm.shift.weight[c[n], k].double()
            torch.testing.assert_close(found[n, k].double(), slow, rtol=1e-4, atol=1e-4)


def test_readers_are_told_where_images_start():
    assert "translated training image of another class" in cyclegan().notes()[0]
