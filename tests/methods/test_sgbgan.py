"""SGBGAN's own promises: transfer, what the losses feed the networks, no posterior collapse."""

import pytest
import torch

from balancegan import losses
from balancegan.config import resolve
from balancegan.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.methods.sgbgan import SGBGAN, SGBGANConfig

DATA = DataSpec(num_classes=3, channels=1, image_size=16, class_counts=(20, 6, 4))


def make(**overrides):
    torch.manual_seed(0)
    settings = {"image_size": 16, "width": 16, "latent_dim": 8, **overrides}
    method = SGBGAN(resolve(SGBGANConfig, SGBGAN.presets["tiny"], flags=settings, env={}))
    method.setup(DATA)
    return method


def squares(n):
    """Bright squares at places that vary, a class per brightness."""
    generator = torch.Generator().manual_seed(2)
    x = -torch.ones(n, 1, 16, 16)
    c = torch.randint(3, (n,), generator=generator)
    for i in range(n):
        top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
        x[i, :, top : top + 7, left : left + 7] = (0.0, 0.5, 1.0)[int(c[i])]
    return x, c


def test_paper_preset_is_table_2():
    cfg = resolve(SGBGANConfig, SGBGAN.presets["paper"], env={})
    assert (cfg.lambda_gp, cfg.n_critic, cfg.batch_size, cfg.latent_dim, cfg.image_size) == (5, 5, 128, 128, 64)
    assert (cfg.lr_pretrain, cfg.pretrain_beta1, cfg.lr_g, cfg.lr_d) == (2e-4, 0.5, 2e-4, 1e-4)
    assert cfg.ema_halflife == 0 and cfg.sampling == "natural"
    assert (cfg.w_kl, cfg.w_ce, cfg.w_mse) == (1, 1, 1)


def test_weights_are_equal_after_transfer():
    method = make()
    x, c = squares(16)
    optimiser = torch.optim.Adam(method.pretrain_parameters(), 1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        sum(method.pretrain_loss(x, c).values()).backward()
        optimiser.step()
    decoder = {k: v.clone() for k, v in method.G.state_dict().items()}
    trunk, before = method.E.trunk.state_dict(), method.D.trunk.state_dict()
    assert any(not torch.equal(trunk[k], before[k]) for k in trunk)
    method.end_pretrain(iter([]))
    after = method.D.trunk.state_dict()
    assert trunk.keys() == after.keys() and all(torch.equal(trunk[k], after[k]) for k in trunk)
    assert all(torch.equal(decoder[k], v) for k, v in method.G.state_dict().items())
    after["0.conv.weight"].add_(1)  # a copy: training D must not touch the encoder
    assert not torch.equal(method.E.trunk.state_dict()["0.conv.weight"], after["0.conv.weight"])


def test_pretraining_uses_latent_and_label():
    """No posterior collapse: after training, z and the label both change the reconstruction."""
    method = make()
    x, c = squares(96)
    optimiser = torch.optim.Adam(method.pretrain_parameters(), 3e-3)
    for _ in range(150):
        terms = method.pretrain_loss(x, c)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    assert terms["kl"] > 1  # nats: the posterior carries information
    with torch.no_grad():
        mu, _ = method.E(x)
        own = method.G(mu, c)
        error = (own - x).square().mean()
        other_z = (method.G(mu.roll(1, 0), c) - x).square().mean()
        other_c = (method.G(mu, (c + 1) % 3) - own).square().mean()
    assert other_z > 1.5 * error
    assert other_c > 1e-3


def test_reparameterisation_is_equation_6():
    method = make()
    mu, logvar = torch.randn(20000, 2), torch.full((20000, 2), 0.6)
    z = method.reparameterise(mu, logvar)
    alpha = (z - mu) / torch.exp(0.5 * logvar)
    assert alpha.mean().abs() < 0.03 and abs(alpha.std() - 1) < 0.03
    uniform = make(latent_noise="uniform")
    alpha = (uniform.reparameterise(mu, logvar) - mu) / torch.exp(0.5 * logvar)
    assert alpha.min() >= -1e-5 and alpha.max() <= 1 + 1e-5 and abs(alpha.mean() - 0.5) < 0.02


def test_label_embedding_is_equation_7():
    method = make().eval()
    z, c = torch.randn(3, 8), torch.tensor([0, 1, 2])
    torch.testing.assert_close(method.G(z, c), method.G.decoder(z * method.G.embedding.weight[c]))


class Spy:
    """Records what the discriminator is asked, and answers with zeros that carry gradients."""

    def __init__(self, method):
        self.heads, self.trunks = [], []
        self.method = method
        head, features = method.D.head, method.D.features

        def spied_head(feats, c):
            self.heads.append((feats.detach(), c))
            return head(feats, c)

        def spied_features(x):
            self.trunks.append(x.detach())
            return features(x)

        method.D.head, method.D.features = spied_head, spied_features


def test_discriminator_loss_feeds_the_right_images_and_labels(monkeypatch):
    method = make()
    x, c = squares(32)
    spy = Spy(method)
    seen = {}
    monkeypatch.setattr(
        losses,
        "gradient_penalty",
        lambda critic, real, fake, alpha: seen.update(real=real, fake=fake, alpha=alpha) or torch.zeros(()),
    )
    terms = method.d_loss(x, c)
    assert set(terms) == {"real", "fake", "wrong", "gp"}
    (feats, labels), (images,) = spy.heads[0], spy.trunks
    real_c, fake_c, wrong_c = labels.split(32)
    assert torch.equal(images[:32], x) and torch.equal(images[32:], seen["fake"])
    assert torch.equal(real_c, c) and (wrong_c != c).all()
    assert torch.equal(feats[:32], feats[64:])  # the same real features under the wrong label
    assert torch.equal(seen["real"], x) and seen["alpha"].min() >= 0 and seen["alpha"].max() <= 1
    counts = torch.bincount(torch.cat([fake_c, method.random_labels(6000, x.device)]), minlength=3)
    assert counts.min() > 1800


def test_one_pass_equals_three_separate_passes():
    method = make()
    x, c = squares(8)
    torch.manual_seed(5)
    terms = method.d_loss(x, c)
    torch.manual_seed(5)
    c_fake, c_wrong = method.random_labels(8, x.device), method.wrong_labels(c)
    with torch.no_grad():
        x_fake = method.G(method.latent(8), c_fake)
    torch.testing.assert_close(terms["real"], losses.bce_as_real(method.D(x, c)))
    torch.testing.assert_close(terms["fake"], losses.bce_as_fake(method.D(x_fake, c_fake)))
    torch.testing.assert_close(terms["wrong"], losses.bce_as_fake(method.D(x, c_wrong)))


def test_penalty_weight_scales_its_term_alone():
    values = []
    for weight in (1.0, 5.0):
        method = make(lambda_gp=weight)
        torch.manual_seed(3)
        values.append(method.d_loss(*squares(8)))
    torch.testing.assert_close(values[1]["gp"], 5 * values[0]["gp"])
    torch.testing.assert_close(values[1]["real"], values[0]["real"])


def test_bad_settings_are_refused():
    for bad in ({"width": 12}, {"latent_noise": "cauchy"}, {"latent_dim": 0}):
        with pytest.raises(UsageError):
            make(**bad)
