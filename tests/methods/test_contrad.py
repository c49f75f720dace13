"""ContraD and Damage GAN: what trains what, masks, and classes by the linear evaluator."""

import numpy as np
import pytest
import torch
from helpers import make_method, train_tiny

from balancegan.compute.device import resolve_device
from balancegan.methods import load_method
from balancegan.methods.unconditional import LinearEvaluator
from balancegan.nets import losses
from balancegan.nets.sndcgan import prunable
from balancegan.runs.directory import RunDir
from balancegan.runs.restore import restore
from balancegan.sampling.accepted import accepted_images, first_images
from balancegan.sampling.samplers import CHUNK, Patience, RejectionSampler

CONTRASTIVE = ("contrad", "damage-gan")  # test_damage_gan_c.py tests the conditional variant
NARROW = {"width": 8, "d_width": 8}


def images(n=6):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.tensor([0, 1, 2] * (n // 3))


def gradients_of(method, names):
    """Return the parts of D that get a gradient from these terms of d_loss."""
    method.zero_grad()
    terms = method.d_loss(*images())
    sum(terms[name] for name in names).backward()
    return {name for name, p in method.D.named_children() if any(q.grad is not None for q in p.parameters())}


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_the_adversarial_loss_leaves_no_gradient_in_the_contrastive_trunk(name):
    method = make_method(name, detached=True, **NARROW)
    assert gradients_of(method, ("real", "fake")) == {"logit_head"}
    assert gradients_of(method, ("nt_xent",)) == {"trunk", "real_head"}
    assert gradients_of(method, ("supcon",)) == {"trunk", "fake_head"}


def test_damage_gans_presets_let_the_adversarial_loss_train_the_trunk():
    method = make_method("damage-gan", **NARROW)
    assert gradients_of(method, ("real", "fake")) == {"trunk", "logit_head"}
    assert load_method("damage-gan").presets["paper"] == load_method("contrad").presets["paper"]  # not there


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_the_generator_is_trained_through_augmentation_trunk_and_head(name, monkeypatch):
    method = make_method(name, **NARROW)
    seen = []
    crop = type(method.augment).crop
    monkeypatch.setattr(type(method.augment), "crop", lambda self, x: seen.append(x) or crop(self, x))
    sum(method.g_loss(*images()).values()).backward()
    assert seen[0].requires_grad and all(p.grad is not None for p in method.G.parameters())


def test_two_views_of_each_real_image_and_one_of_each_generated_one(monkeypatch):
    method = make_method("contrad", **NARROW)
    x, c = images()
    seen = {}
    monkeypatch.setattr(type(method.augment), "__call__", lambda self, batch: seen.update(batch=batch) or batch)
    for name in ("nt_xent", "supcon_fake"):
        loss = getattr(losses, name)
        monkeypatch.setattr(losses, name, lambda *a, name=name, loss=loss: seen.update({name: a}) or loss(*a))
    method.d_loss(x, c)
    assert torch.equal(seen["batch"][:6], x) and torch.equal(seen["batch"][6:12], x) and len(seen["batch"]) == 18
    view1, view2, temperature = seen["nt_xent"]
    torch.testing.assert_close(view1, view2)  # without augmentation, both views are equal
    assert temperature == 0.1
    real1, _, fake, _ = seen["supcon_fake"]
    assert real1.shape == fake.shape == (6, 128) and not torch.allclose(real1, fake)


def test_damage_gan_differs_from_contrad_in_the_first_view_alone():
    """Without pruning, both losses are equal; with masks, only the contrastive loss of the real views changes."""
    values = {}
    alike = {"upsampling": "transposed", "detached": True, "sampling": "sqrt"}
    for name, flags in (("contrad", {}), ("damage-gan", {"prune_frac": 0.0}), ("pruned", {"prune_frac": 0.9})):
        method = make_method("damage-gan" if name == "pruned" else name, **NARROW, **alike, **flags)
        method.load_state_dict(
            {**method.state_dict(), **make_method("contrad", **NARROW).state_dict()}
        )  # the same weights, except the masks
        method.begin_adversarial(None)
        torch.manual_seed(0)
        values[name] = {k: v.item() for k, v in method.d_loss(*images()).items()}
    for term, value in values["contrad"].items():
        assert values["damage-gan"][term] == pytest.approx(value, rel=1e-4)
        if term != "nt_xent":
            assert values["pruned"][term] == pytest.approx(value, rel=1e-4)
    assert values["pruned"]["nt_xent"] != pytest.approx(values["contrad"]["nt_xent"], rel=1e-3)


def test_masks_are_made_at_the_start_and_every_epoch():
    method = make_method("damage-gan", **NARROW, prune_frac=0.9)
    assert all((layer.mask == 1).all() for layer in prunable(method.D))
    method.begin_adversarial(None)
    first = [layer.mask.clone() for layer in prunable(method.D)]
    total = sum(m.numel() for m in first)
    assert sum(int((m == 0).sum()) for m in first) == int(0.9 * total)
    with torch.no_grad():
        for p in method.D.trunk.parameters():
            p.add_(torch.randn_like(p))
    method.on_epoch()
    assert any(not torch.equal(a, layer.mask) for a, layer in zip(first, prunable(method.D), strict=True))


def test_warm_up_raises_the_rates_and_ends_at_them(discs, tmp_path, monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a)
    )
    train_tiny(discs, tmp_path, method="contrad", warmup_steps=4, steps=6, lr_d=4e-4, lr_g=4e-4, **NARROW)
    assert rates == pytest.approx([1e-4, 1e-4, 2e-4, 2e-4, 3e-4, 3e-4, *[4e-4] * 6])


class TestLinearEvaluator:
    def blobs(self, counts, dim=5):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(len(counts)), counts)
        features = rng.normal(size=(len(labels), dim)) + 4.0 * np.eye(len(counts), dim)[labels]
        return features.astype(np.float32), labels

    @pytest.mark.parametrize("counts", [(80, 20, 10), (60, 40)])
    def test_equals_scikit_learn(self, counts):
        from sklearn.linear_model import LogisticRegression

        features, labels = self.blobs(counts)
        evaluator = LinearEvaluator(5, len(counts))
        evaluator.fit(features, labels)
        z = (features - features.mean(0)) / features.std(0)
        model = LogisticRegression(class_weight="balanced", max_iter=500).fit(z, labels)
        mine = evaluator(torch.from_numpy(features)).exp().numpy()
        np.testing.assert_allclose(mine, model.predict_proba(z), atol=2e-3)
        assert evaluator.fitted and abs(mine.sum(1) - 1).max() < 1e-5

    def test_classes_count_alike(self):
        """With balanced weights, a point half-way between a large and a small class is equally likely in either."""
        rng = np.random.default_rng(1)
        features = np.concatenate([rng.normal(0, 1, (2000, 1)), rng.normal(3, 1, (100, 1))]).astype(np.float32)
        evaluator = LinearEvaluator(1, 2)
        evaluator.fit(features, np.repeat([0, 1], (2000, 100)))
        assert evaluator(torch.tensor([[1.5]])).exp()[0, 1].item() == pytest.approx(0.5, abs=0.15)

    def test_a_class_without_images_is_never_assigned(self):
        features, labels = self.blobs((40, 40))
        evaluator = LinearEvaluator(5, 3)
        evaluator.fit(features, labels * 2)
        assert evaluator(torch.from_numpy(features)).exp()[:, 1].max() == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from helpers import write_images

    data = write_images(tmp_path_factory.mktemp("data") / "discs", {"ant": 24, "bee": 12, "cat": 8})
    run = RunDir(train_tiny(data, tmp_path_factory.mktemp("runs"), method="damage-gan", **NARROW)["run"])
    return restore(run, resolve_device("cpu"))


def everything(label, x):
    """Assign every image to one class with certainty."""
    return torch.full((len(x),), label), torch.ones(len(x), dtype=torch.bool)


def test_images_of_a_class_are_those_that_the_evaluator_assigns_to_it(trained):
    sampler = RejectionSampler(trained.method, trained.device)
    label = int(trained.method.assign(_floats(sampler.chunk(0, 0)))[0].mode().values)
    images, mine = sampler.of_class(label, 0)
    assert (sampler.chunk(0, 0) == sampler.chunk(1, 0)).all()  # a seed gives the same image for every class
    probability = trained.method.evaluator(trained.method.D.eval().features(_floats(images))).exp()[:, label]
    sure = (probability - 0.5).abs().detach().numpy() > 0.05  # rounding to bytes may change a close decision
    assert ((probability.detach().numpy() > 0.5) == mine)[sure].all()
    for seed, image in accepted_images(sampler, label, 5, None):
        assert mine[seed % CHUNK] or seed >= CHUNK
        assert (image == sampler.images(label, [seed])[0]).all()


def test_a_class_that_is_never_produced_is_given_up(trained, monkeypatch):
    sampler = RejectionSampler(trained.method, trained.device)
    monkeypatch.setattr(trained.method, "assign", lambda x: everything(0, x))
    monkeypatch.setattr(RejectionSampler, "patience", Patience(3, 0.005, 100))
    seeds, images = first_images([sampler], 2, 4)
    assert seeds == [] and images.shape == (0, 3, 16, 16)
    seeds, images = first_images([sampler], 0, 4)
    assert seeds == [0, 1, 2, 3] and len(images) == 4


def test_every_chunk_is_generated_once_for_classes_that_are_not_in_it(trained, monkeypatch):
    sampler = RejectionSampler(trained.method, trained.device)
    made = []
    sample = trained.method.sample
    monkeypatch.setattr(trained.method, "sample", lambda z, c, source=None: made.append(1) or sample(z, c))
    monkeypatch.setattr(trained.method, "assign", lambda x: everything(0, x))
    sampler.of_class(1, 0)
    sampler.of_class(2, 0)
    assert len(made) == 1


def test_given_seeds_are_made_a_chunk_at_a_time_and_those_of_the_class_kept(trained, monkeypatch):
    sampler = RejectionSampler(trained.method, trained.device)
    made = []
    sample = trained.method.sample
    monkeypatch.setattr(trained.method, "sample", lambda z, c, source=None: made.append(1) or sample(z, c))
    monkeypatch.setattr(trained.method, "assign", lambda x: (torch.arange(len(x)) % 3, x.new_ones(len(x)) > 0))
    seeds, images = sampler.of_seeds(1, [4, 5, 7, CHUNK + 1, 3])
    assert seeds == [4, 7, CHUNK + 1] and len(made) == 2
    assert (images == sampler.images(1, seeds)).all()
    assert sampler.of_seeds(1, [0])[1].shape == (0, 3, 16, 16)


def _floats(images):
    return torch.from_numpy(images).float() / 127.5 - 1
