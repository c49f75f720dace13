"""EDM: its equations against slow references, its sampling options, flips, and the published settings."""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch

from balancegan.compute.microbatch import Part, part
from balancegan.core.config import resolve
from balancegan.core.errors import UsageError
from balancegan.core.options import STRENGTH, SamplingOptions
from balancegan.methods import edm
from balancegan.methods.base import DataSpec
from balancegan.methods.edm import EDM, EDMConfig
from balancegan.nets import ode

DATA = DataSpec(num_classes=3, channels=1, image_size=16, class_counts=(20, 6, 4))
CLASSES = torch.tensor([0, 1, 2, 1])


def make(data=DATA, **overrides):
    torch.manual_seed(0)
    settings = {"image_size": 16, "width": 8, **overrides}
    method = EDM(resolve(EDMConfig, EDM.presets["tiny"], flags=settings, env={}))
    method.setup(data)
    with torch.no_grad():
        for p in method.G.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    method.update_ema(0.0)
    return method


def images(n=4):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_denoiser_is_table_1():
    method = make()
    x, sigma = images().double() * 3, torch.tensor([0.01, 0.4, 2.0, 60.0], dtype=torch.float64)
    found = method.denoise(method.G.eval(), x.float(), sigma.float()[:, None, None, None], CLASSES)
    for i, s in enumerate(sigma.tolist()):
        c_in, c_skip, c_out = 1 / (s**2 + 0.25) ** 0.5, 0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25) ** 0.5
        f = method.G((c_in * x[i : i + 1]).float(), torch.tensor([np.log(s) / 4]).float(), CLASSES[i : i + 1])
        torch.testing.assert_close(found[i].double(), c_skip * x[i] + c_out * f[0].double(), rtol=1e-4, atol=1e-5)


def test_loss_is_equation_8(monkeypatch):
    method, seen = make(label_dropout=0.5), {}
    real = method.denoise

    def watched(network, noisy, sigma, c, done=None):
        seen.update(noisy=noisy, sigma=sigma, c=c, d=real(network, noisy, sigma, c, done))
        return seen["d"]

    monkeypatch.setattr(method, "denoise", watched)
    x, c = images(512), torch.arange(512) % 3
    value = float(method.loss(x, c)["mse"].detach())
    total = 0.0
    for y, d, s in zip(x.double(), seen["d"].double(), seen["sigma"].flatten().double(), strict=True):
        total += float((s**2 + 0.25) / (s * 0.5) ** 2 * (d - y).square().mean().detach())
    assert value == pytest.approx(total / 512, rel=1e-4)
    noise = (seen["noisy"] - x) / seen["sigma"]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02) and float(noise.std()) == pytest.approx(1, abs=0.02)
    levels = seen["sigma"].log()
    assert float(levels.mean()) == pytest.approx(-1.0, abs=0.2) and float(levels.std()) == pytest.approx(1.2, abs=0.15)
    dropped = seen["c"] == 3
    assert 0.4 < float(dropped.float().mean()) < 0.6 and torch.equal(seen["c"][~dropped], c[~dropped])


def test_training_removes_noise():
    method = make()
    x = torch.where(torch.arange(16)[None, None, :, None] < 8, 0.7, -0.7).expand(16, 1, 16, 16)
    optimiser = torch.optim.Adam(method.g_parameters(), 2e-3)
    values = []
    for _ in range(60):
        loss = method.loss(x, torch.zeros(16, dtype=torch.int64))["mse"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert np.mean(values[-10:]) < 0.5 * np.mean(values[:10])


# Sampling ------------------------------------------------------------------------------------------------------------


def sample(method, source=None, **options):
    method.sample_with(SamplingOptions(**options))
    return method.sample(images(), CLASSES, source)


def test_guidance_extrapolates_from_images_of_any_class():
    method = make()
    plain = sample(method)
    assert torch.equal(sample(method, guidance=1), plain)
    method.sample_with(SamplingOptions())
    torch.testing.assert_close(sample(method, guidance=0), method.sample(images(), torch.full((4,), 3)))
    x, network, seen = images() * 5, method.G_ema, []

    def first(denoise, x, sigmas):
        seen.append(denoise(x, 2.0))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "solve", first)
        method.sample_with(SamplingOptions(guidance=2.5))
        method.sample(x / ode.SIGMA_MAX, CLASSES)
    sigma = torch.full((4, 1, 1, 1), 2.0)
    with torch.no_grad():
        conditional = method.denoise(network, x, sigma, CLASSES)
        anything = method.denoise(network, x, sigma, torch.full((4,), 3))
    torch.testing.assert_close(seen[0], anything + 2.5 * (conditional - anything), rtol=1e-4, atol=1e-4)


def test_strength_0_returns_the_source_and_1_ignores_it():
    method, source = make(), images(4).flip(0)
    assert torch.equal(sample(method, source, from_="own", strength=0.0), source)
    assert torch.equal(sample(method, source, from_="other", strength=1.0), sample(method))
    near, far = (sample(method, source, from_="own", strength=s) for s in (0.05, 0.9))
    assert (near - source).abs().mean() < (far - source).abs().mean()


def test_sources_are_of_the_class_or_of_the_others():
    method = make()
    assert not method.uses_sources and method.source_classes(1) == ()
    method.sample_with(SamplingOptions(from_="own"))
    assert method.source_classes(1) == (1,)
    method.sample_with(SamplingOptions(from_="other"))
    assert method.source_classes(1) == (0, 2) and method.uses_sources
    assert method.sampling.used_strength == STRENGTH


def test_options_that_make_no_sense():
    for bad in ({"from_": "majority"}, {"strength": 0.5}, {"from_": "own", "strength": 1.5}, {"guidance": -1.0}):
        with pytest.raises(UsageError):
            SamplingOptions(**bad)
    with pytest.raises(UsageError, match="never saw"):
        make(label_dropout=0.0).sample_with(SamplingOptions(guidance=2.0))


# Flips and augmentation ----------------------------------------------------------------------------------------------


class Letters:
    """L and J, mirror images of each other; or the halves of a symmetric figure."""

    def __init__(self, alike):
        self.alike = alike

    def of_class(self, label, most):
        rng = np.random.default_rng(label)
        x = rng.integers(0, 60, (60, 1, 16, 16), dtype=np.uint8)
        if self.alike:
            x[:, :, 4 + 6 * label : 7 + 6 * label, 3:13] = 255
        else:
            column = 3 if label == 0 else 11
            x[:, :, 2:14, column : column + 2] = 255
        return x[:most]


@pytest.mark.parametrize("alike", [True, False])
def test_images_are_mirrored_where_that_keeps_their_class(alike, monkeypatch):
    data = DataSpec(2, 1, 16, (60, 60))
    method = make(data)
    (stage,) = method.stages()
    said = stage.begin(Letters(alike))
    assert float(method.mirrored) == (0.5 if alike else 0.0) and "recognises" in said
    assert "mirrored" in method.state_dict()  # a resumed run does not decide again
    seen = []
    monkeypatch.setattr(method, "denoise", lambda network, noisy, sigma, c, done: seen.append(noisy) or noisy)
    monkeypatch.setattr(edm.batch_random, "randn", lambda n, *shape, device: torch.zeros(n, *shape))
    x = images(64)
    method.loss(x, torch.zeros(64, dtype=torch.int64))
    flipped = sum(torch.equal(a, b.flip(2)) for a, b in zip(seen[0], x, strict=True))
    assert 15 < flipped < 50 if alike else flipped == 0


def test_flips_can_be_decided_by_the_user():
    assert float(make(flips="always").mirrored) == 0.5 and make(flips="always").stages()[0].begin is None
    assert float(make(flips="never").mirrored) == 0.0


def test_classes_with_too_few_images_are_not_mirrored():
    class Few(Letters):
        def of_class(self, label, most):
            return super().of_class(label, most)[:4]

    method = make(DataSpec(2, 1, 16, (4, 4)))
    assert "too few" in method.decide_flips(Few(True))
    assert float(method.mirrored) == 0.0


def test_augmentation_is_told_to_the_network():
    method = make(augment=1.0)
    assert method.G.extra is not None
    assert torch.isfinite(method.loss(images(), CLASSES)["mse"])
    assert make().G.extra is None


# Settings ------------------------------------------------------------------------------------------------------------


def test_paper_preset_is_edms_conditional_cifar_10_model():
    cfg = resolve(EDMConfig, EDM.presets["paper"], env={})
    assert (cfg.width, cfg.multipliers, cfg.blocks, cfg.dropout) == (128, "2-2-2", 4, 0.13)
    assert (cfg.lr, cfg.beta1, cfg.beta2, cfg.noise_mean, cfg.noise_std) == (1e-3, 0.9, 0.999, -1.2, 1.2)
    assert cfg.steps * cfg.batch_size == 200_000_000 and cfg.ema_halflife == 500
    assert cfg.warmup_steps * cfg.batch_size == pytest.approx(10e6, rel=1e-4)
    assert cfg.sampling == "natural" and cfg.augment == 0.12 and cfg.label_dropout == 0


@pytest.mark.parametrize("size", EDM.image_sizes)
@pytest.mark.parametrize("preset", EDM.presets)
def test_larger_images_get_more_sides(size, preset):
    method = EDM(resolve(EDMConfig, EDM.presets[preset], flags={"image_size": size}, env={}))
    with torch.device("meta"):
        method.build(DataSpec(10, 3, size, (5,) * 10))
        c = torch.zeros(1, dtype=torch.int64)
        lowest = []
        for layer in method.G.encoder:
            layer.register_forward_hook(lambda layer, inputs, output: lowest.append(output.shape[-1]))
        assert method.G(torch.zeros(1, 3, size, size), torch.zeros(1), c).shape == (1, 3, size, size)
    assert lowest[-1] <= 8


@pytest.mark.parametrize("width", range(8, 264, 8))
def test_every_width_can_be_built(width):
    method = EDM(resolve(EDMConfig, EDM.presets["tiny"], flags={"image_size": 16, "width": width}, env={}))
    with torch.device("meta"):
        method.build(DATA)
        c = torch.zeros(1, dtype=torch.int64)
        assert method.G(torch.zeros(1, 1, 16, 16), torch.zeros(1), c).shape == (1, 1, 16, 16)


def test_fields_are_checked():
    for bad in (
        {"multipliers": "1-0"},
        {"multipliers": "one"},
        {"multipliers": "1-1-1-1-1-1"},
        {"width": 12},
        {"flips": "perhaps"},
        {"dropout": 1.0},
        {"augment": 1.5},
        {"noise_std": 0.0},
        {"solver_steps": 0},
        {"lr": 0.0},
        {"attention": -1},
    ):
        with pytest.raises(UsageError):
            EDMConfig(image_size=32, **bad)


def test_a_step_reads_no_value_and_touches_no_cpu_tensor(monkeypatch):
    """So that it can be recorded as a CUDA graph: on the meta device, both raise an error."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())  # does not know that device
    with torch.device("meta"):
        method = EDM(resolve(EDMConfig, EDM.presets["default"], flags={"image_size": 16, "augment": 0.1}, env={}))
        method.setup(DATA)
    method.train()
    x, c = torch.zeros(4, 1, 16, 16, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    loss = method.loss(x, c)["mse"]
    loss.backward()
    assert loss.is_meta and all(p.grad is not None for p in method.g_parameters())


def test_a_compiled_network_is_the_same_in_parts_too():
    """With dynamo alone, whose guards decide about parts; the code generator would take a minute."""
    x, c, found = images(8), torch.arange(8) % 3, []
    for compiled in (False, True):
        method = make(dropout=0.3)
        if compiled:
            method.G.compile(backend="eager")
        for cuts in ((0, 8), (0, 4, 8)):
            method.zero_grad()
            for start, stop in pairwise(cuts):
                torch.manual_seed(5)
                with part(Part(start, stop, 8)):
                    ((stop - start) / 8 * method.loss(x[start:stop], c[start:stop])["mse"]).backward()
            found.append(torch.cat([p.grad.flatten() for p in method.g_parameters()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-5)
    assert {key.split(".")[0] for key in method.state_dict()} == {"G", "G_ema", "mirrored"}
