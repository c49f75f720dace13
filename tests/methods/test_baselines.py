"""DCGAN, cWGAN-GP and BAGAN: what their losses feed the networks, and BAGAN's Gaussians against slow references."""

import numpy as np
import pytest
import torch
from helpers import make_method

from balancegan.methods.bagan import class_gaussians
from balancegan.nets import losses


def images(n=12):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.tensor([0, 0, 0, 1] * (n // 4))


def spy_on(method, monkeypatch):
    """Record every call of the discriminator: (images, labels or None)."""
    calls, forward = [], method.D.forward
    monkeypatch.setattr(
        method.D, "forward", lambda x, c=None: calls.append((x.detach(), c)) or forward(*(x,) if c is None else (x, c))
    )
    return calls


class TestDCGAN:
    def test_real_and_generated_images_come_apart_and_with_the_same_labels(self, monkeypatch):
        method = make_method("dcgan")
        x, c = images()
        calls = spy_on(method, monkeypatch)
        terms = method.d_loss(x, c)
        (real, c_real), (fake, c_fake) = calls
        assert torch.equal(real, x) and torch.equal(c_real, c) and torch.equal(c_fake, c)
        assert fake.shape == x.shape and not torch.equal(fake, x)
        assert set(terms) == {"real", "fake"}

    def test_losses_are_the_non_saturating_ones(self):
        method = make_method("dcgan")
        x, c = images()
        torch.manual_seed(1)
        loss = method.g_loss(x, c)["fake"]
        torch.manual_seed(1)
        p = torch.sigmoid(method.D(method.generate(c), c))
        torch.testing.assert_close(loss, -p.log().mean(), rtol=1e-3, atol=1e-4)

    def test_paper_layers(self):
        method = make_method("dcgan")
        slopes = {m.negative_slope for m in method.G.modules() if isinstance(m, torch.nn.LeakyReLU)}
        assert slopes == {0.0} and method.G.decoder.slope == 0.0  # ReLU
        assert any(isinstance(m, torch.nn.BatchNorm2d) for m in method.D.modules())
        for network in (method.G.decoder, method.D.trunk, method.D.dense):
            for layer in (m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.25)


class TestCWGANGP:
    def test_loss_is_the_wasserstein_estimate_with_equal_labels(self, monkeypatch):
        method = make_method("cwgan-gp")
        x, c = images()
        calls, seen = spy_on(method, monkeypatch), {}
        monkeypatch.setattr(
            losses,
            "gradient_penalty",
            lambda critic, real, fake, alpha: seen.update(critic=critic, fake=fake) or torch.zeros(()),
        )
        terms = method.d_loss(x, c)
        ((both, labels),) = calls
        assert torch.equal(both[:12], x) and torch.equal(both[12:], seen["fake"])
        assert torch.equal(labels, torch.cat([c, c]))
        calls.clear()
        seen["critic"](x)
        assert torch.equal(calls[0][1], c)
        with torch.no_grad():
            expected = method.D(both[12:], c).mean() - method.D(x, c).mean()
        torch.testing.assert_close((terms["real"] + terms["fake"]).detach(), expected, rtol=1e-4, atol=1e-5)

    def test_a_critic_cannot_gain_from_the_label_alone(self, monkeypatch):
        """The loss is 0 for a critic that only uses the label, however strongly it prefers one."""
        method = make_method("cwgan-gp")
        monkeypatch.setattr(method.D, "forward", lambda x, c: 1000.0 * (c == 0).float())
        monkeypatch.setattr(losses, "gradient_penalty", lambda *_: torch.zeros(()))
        assert sum(method.d_loss(*images()).values()) == 0

    def test_generator_raises_the_score(self):
        method = make_method("cwgan-gp")
        x, c = images()
        torch.manual_seed(1)
        loss = method.g_loss(x, c)["fake"]
        torch.manual_seed(1)
        torch.testing.assert_close(loss, -method.D(method.generate(c), c).mean())


class TestBAGAN:
    def test_targets_are_the_classes_and_one_more_for_generated(self, monkeypatch):
        method = make_method("bagan")  # three classes
        x, c = images(12)
        seen = {}
        entropies = losses.cross_entropies
        monkeypatch.setattr(
            losses, "cross_entropies", lambda logits, t: seen.update(logits=logits, t=t) or entropies(logits, t)
        )
        calls = spy_on(method, monkeypatch)
        terms = method.d_loss(x, c)
        assert seen["logits"].shape == (16, 4)
        assert seen["t"].tolist() == [*c.tolist(), 3, 3, 3, 3]  # ceil(12 / 3) generated images
        assert torch.equal(calls[0][0][:12], x)
        log_p = torch.log_softmax(seen["logits"].detach().double(), 1)
        slow = -sum(log_p[i, k] for i, k in enumerate(seen["t"].tolist())) / 16
        torch.testing.assert_close((terms["real"] + terms["fake"]).detach().double(), slow, rtol=1e-5, atol=1e-6)

    def test_generated_images_of_the_discriminator_are_uniform_over_classes(self, monkeypatch):
        method = make_method("bagan")
        asked, generate = [], method.generate
        monkeypatch.setattr(method, "generate", lambda c: asked.append(c) or generate(c))
        method.d_loss(torch.zeros(900, 3, 16, 16), torch.zeros(900, dtype=torch.int64))
        assert torch.bincount(asked[0], minlength=4)[:3].min() > 60 and len(asked[0]) == 300

    def test_generator_wants_the_class_that_was_asked_for_and_asks_uniformly(self, monkeypatch):
        method = make_method("bagan")
        asked, generate = [], method.generate
        monkeypatch.setattr(method, "generate", lambda c: asked.append(c) or generate(c))
        targets = []
        entropies = losses.cross_entropies
        monkeypatch.setattr(losses, "cross_entropies", lambda logits, t: targets.append(t) or entropies(logits, t))
        method.g_loss(torch.zeros(600, 3, 16, 16), torch.zeros(600, dtype=torch.int64))
        assert torch.equal(asked[0], targets[0])
        assert torch.bincount(asked[0], minlength=4)[:3].min() > 150

    def test_autoencoder_ignores_labels(self):
        method = make_method("bagan").eval()
        x, c = images()
        assert torch.equal(method.pretrain_loss(x, c)["mse"], method.pretrain_loss(x, (c + 1) % 3)["mse"])
        expected = (method.G.decoder(method.E(x)) - x).square().mean()
        torch.testing.assert_close(method.pretrain_loss(x, c)["mse"], expected)

    def test_end_of_pretraining_fits_the_encoded_training_images(self):
        method = make_method("bagan")
        x, c = images(12)

        class Two:
            def once(self):
                yield x[:7], c[:7]
                yield x[7:], c[7:]

        method.begin_adversarial(Two())
        with torch.no_grad():
            codes = method.E(x)
        for label in (0, 1):
            torch.testing.assert_close(method.G.mean[label], codes[c == label].mean(0), rtol=1e-4, atol=1e-5)
        trunk = method.E.trunk.state_dict()
        assert all(torch.equal(trunk[k], v) for k, v in method.D.trunk.state_dict().items())


class TestClassGaussians:
    def reference(self, codes, labels, num_classes):
        """Compute the definition with numpy and loops."""
        n, dim = codes.shape
        pooled = np.zeros((dim, dim))
        for code, label in zip(codes, labels, strict=True):
            d = code - codes[labels == label].mean(0)
            pooled += np.outer(d, d) / n
        result = []
        for k in range(num_classes):
            members = codes[labels == k]
            if len(members):
                own, count = np.cov(members.T, bias=True) if len(members) > 1 else np.zeros((dim, dim)), len(members)
            else:
                own, count = np.zeros((dim, dim)), 0
            result.append((count * own + dim * pooled) / (count + dim) + 1e-4 * np.trace(pooled) / dim * np.eye(dim))
        return np.stack(result)

    @pytest.mark.parametrize("counts", [(200, 50, 3), (40, 1, 0)])
    def test_equals_the_slow_reference_and_is_positive_definite(self, counts):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(3), counts)
        codes = rng.normal(size=(len(labels), 6)) @ rng.normal(size=(6, 6)) + 3.0 * labels[:, None]
        means, covariances = class_gaussians(torch.from_numpy(codes), torch.from_numpy(labels), 3)
        np.testing.assert_allclose(covariances.numpy(), self.reference(codes, labels, 3), rtol=1e-9)
        for k, n in enumerate(counts):
            np.testing.assert_allclose(means[k], codes[labels == k].mean(0) if n else codes.mean(0), rtol=1e-9)
        torch.linalg.cholesky(covariances.float())

    def test_a_large_class_keeps_its_own_covariance_and_a_small_one_borrows(self):
        rng = np.random.default_rng(1)
        large = rng.normal(size=(20_000, 4)) * (1, 2, 3, 4)
        small = rng.normal(size=(2, 4)) * 0.01
        codes = torch.from_numpy(np.concatenate([large, small]))
        labels = torch.tensor([0] * 20_000 + [1] * 2)
        _, covariances = class_gaussians(codes, labels, 2)
        torch.testing.assert_close(covariances[0], codes[:20_000].T.cov(), rtol=0.01, atol=0.05)
        torch.testing.assert_close(covariances[1], covariances[0] * 4 / 6, rtol=0.05, atol=0.05)

    def test_equal_codes_still_have_a_density(self):
        _, covariances = class_gaussians(torch.ones(5, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1]), 2)
        assert torch.linalg.cholesky(covariances).isfinite().all()
