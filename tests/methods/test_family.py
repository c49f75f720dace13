"""CAPGAN and BWGAN-GP: what each takes from its relatives, and balanced pre-training."""

import pytest
import torch
from helpers import make_method, train_tiny

from balancegan.core.errors import UsageError
from balancegan.data.batches import Batches
from balancegan.methods import load_method
from balancegan.nets.layers import ChannelNorm2d, GLUConv2d, SelfAttention2d


def images(n=12):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.tensor([0, 0, 0, 1] * (n // 4))


def test_channel_norm_normalises_each_position_alone():
    x = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = ChannelNorm2d(5)
    with torch.no_grad():
        norm.norm.weight.copy_(torch.arange(5.0))
        norm.norm.bias.fill_(0.5)
    found = norm(x)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                v = x[n, :, i, j].double()
                slow = (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt() * torch.arange(5.0) + 0.5
                torch.testing.assert_close(found[n, :, i, j].double(), slow, rtol=1e-4, atol=1e-5)


def test_capgan_is_sgbgan_without_gates_and_attention_with_layer_norm_and_balanced_pretraining():
    method = make_method("capgan")
    kinds = {type(module) for module in method.modules()}
    assert not kinds & {GLUConv2d, SelfAttention2d} and ChannelNorm2d in kinds
    norms = [sum(isinstance(m, ChannelNorm2d) for m in net.trunk) for net in (method.E, method.D)]
    convs = sum(isinstance(m, torch.nn.Conv2d) for m in method.E.trunk)
    assert norms == [convs - 1] * 2
    assert [stage.sampling for stage in method.stages()] == ["balanced", None]
    assert set(method.pretrain_loss(*images())) == {"kl", "ce", "mse"}
    for changed in ({"gated": True}, {"attention": 8}):
        with pytest.raises(UsageError, match="CAPGAN has neither"):
            make_method("capgan", **changed)
    paper = load_method("capgan").presets["paper"]
    assert (paper["n_critic"], paper["lambda_gp"], paper["lr_pretrain"], paper["lr_d"]) == (12, 10.0, 1e-3, 2e-4)


def test_pretraining_draws_classes_as_told(discs, tmp_path, monkeypatch):
    drawn, draw = [], Batches.draw
    monkeypatch.setattr(Batches, "draw", lambda self, how=None: drawn.append(how) or draw(self, how))
    train_tiny(discs, tmp_path, pretrain_sampling="balanced", pretrain_steps=3, steps=2)
    assert drawn == ["balanced"] * 3 + [None] * 2
    assert [stage.sampling for stage in make_method("sgbgan").stages()] == [None, None]
    with pytest.raises(UsageError, match="pretrain_sampling"):
        make_method("sgbgan", pretrain_sampling="odd")


def test_bwgan_gp_decodes_class_gaussians_and_has_the_wasserstein_loss():
    method = make_method("bwgan-gp", shared_fakes=False)
    x, c = images()
    terms = method.d_loss(x, c)
    assert set(terms) == {"real", "fake", "gp"}
    torch.testing.assert_close(terms["real"], -method.D(x, c).mean())
    torch.manual_seed(1)
    loss = method.g_loss(x, c)["fake"]
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -method.D(method.generate(c), c).mean())
    method.G.set_prior(torch.stack([torch.full((8,), float(k)) for k in range(3)]), torch.eye(8).repeat(3, 1, 1))
    z, labels = torch.zeros(2, 8), torch.tensor([0, 2])
    assert torch.equal(method.G.code(z, labels), labels[:, None].float().expand(2, 8))
    assert set(method.pretrain_loss(x, c)) == {"mse"}
    with pytest.raises(UsageError, match="BWGAN-GP encodes the class"):
        make_method("bwgan-gp", conditioning="norms")
