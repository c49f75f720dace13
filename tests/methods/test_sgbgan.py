"""SGBGAN's differences from BAGAN-GP: its objective, no posterior collapse, and no other difference."""

import pytest
import torch

from balancegan.core.config import resolve
from balancegan.core.errors import UsageError
from balancegan.methods.bagan_gp import BAGANGP
from balancegan.methods.base import DataSpec
from balancegan.methods.sgbgan import SGBGAN, SGBGANConfig
from balancegan.nets.layers import ConditionalBatchNorm2d, GLUConv2d, SelfAttention2d

DATA = DataSpec(num_classes=3, channels=1, image_size=16, class_counts=(20, 6, 4))


def make(**overrides):
    torch.manual_seed(0)
    settings = {"image_size": 16, "width": 16, "latent_dim": 8, **overrides}
    method = SGBGAN(resolve(SGBGANConfig, SGBGAN.presets["tiny"], flags=settings, env={}))
    method.setup(DATA)
    return method


def squares(n):
    """Return bright squares at random places; the brightness is the class."""
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


def test_pretraining_uses_latent_and_label():
    """After training, both z and the label change the reconstruction: no posterior collapse."""
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
    method = make(conditioning="product").eval()
    z, c = torch.randn(3, 8), torch.tensor([0, 1, 2])
    torch.testing.assert_close(method.G(z, c), method.G.decoder(z * method.G.embedding.weight[c]))


def test_bad_settings_are_refused():
    for bad in ({"width": 12}, {"latent_noise": "cauchy"}, {"latent_dim": 0}, {"attention": 4}, {"penalty_every": 0}):
        with pytest.raises(UsageError):
            make(**bad)
    for bad in ({"conditioning": "both"}, {"head": "none"}, {"w_wrong": -1}):
        with pytest.raises(UsageError):
            make(**bad)


def test_only_what_the_paper_changed_differs_from_bagan_gp():
    own = {name for name in vars(SGBGAN) if callable(getattr(SGBGAN, name)) and not name.startswith("__")}
    assert own == {"Config", "trunk", "encoder", "encode", "decoder", "pretrain_loss", "reparameterise"}
    for preset, theirs in BAGANGP.presets.items():
        assert SGBGAN.presets[preset] == theirs | ({} if preset == "paper" else {"attention": 8})
    method = make()
    for network in (method.E, method.D):
        assert any(isinstance(m, GLUConv2d) for m in network.modules())
    for network in (method.E, method.D, method.G):
        assert sum(isinstance(m, SelfAttention2d) for m in network.modules()) == 1


def test_each_of_the_papers_ideas_can_be_taken_out():
    without = make(gated=False, attention=0, w_kl=0, w_ce=0, w_mse=0, w_wrong=0, lambda_gp=0)
    assert not any(isinstance(m, GLUConv2d | SelfAttention2d) for m in without.modules())
    x, c = squares(6)
    assert all(term == 0 for term in without.pretrain_loss(x, c).values())
    terms = without.d_loss(x, c)
    assert terms["wrong"] == terms["gp"] == 0 and terms["real"] > 0


def test_the_presets_generator_knows_classes_by_its_norms_alone():
    method = make().train()
    for norm in (m for m in method.G.modules() if isinstance(m, ConditionalBatchNorm2d)):
        norm.gain.weight.data[1:], norm.shift.weight.data[1:] = norm.gain.weight.data[0], norm.shift.weight.data[0]
    z = torch.randn(3, 8)
    same, mixed = (method.G(z, torch.tensor(c)) for c in ([0, 0, 0], [0, 1, 2]))
    torch.testing.assert_close(same, mixed)
    method.G.norm.shift.weight.data[1] += 1
    assert not torch.allclose(method.G(z, torch.tensor([0, 1, 2])), mixed)
