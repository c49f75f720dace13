"""What every method must keep, whichever is added: the tests run over METHODS."""

import copy

import pytest
import torch
from helpers import make_method

from balancegan.core.config import resolve
from balancegan.core.errors import UsageError
from balancegan.methods import METHODS, load_method
from balancegan.methods.base import PRESETS, DataSpec


def batch(n=6):
    """Images of four plain quarters, and labels."""
    quarters = torch.randint(0, 2, (n, 3, 2, 2), generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    return quarters.repeat_interleave(8, 2).repeat_interleave(8, 3), torch.tensor([0, 1, 2] * (n // 3))


class Repeated:
    """`Batches` that give the same few images again and again."""

    def __iter__(self):
        while True:
            yield batch()

    def once(self):
        yield batch()


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_presets_resolve(self, name):
        kind = load_method(name)
        assert set(kind.presets) == set(PRESETS)
        for preset in PRESETS:
            cfg = resolve(kind.Config, kind.presets[preset], env={})
            assert cfg.image_size in kind.image_sizes
        assert kind.paper and kind.title and isinstance(kind.conditional, bool)

    def test_refuses_other_sizes(self, name):
        with pytest.raises(UsageError, match="image_size"):
            make_method(name, image_size=48)

    def test_a_stage_that_does_not_exist_is_refused(self, name):
        if not load_method(name).pretrains():
            with pytest.raises(UsageError, match="no pre-training"):
                make_method(name, pretrain_steps=5)

    def test_losses_are_finite_named_scalars_with_gradients(self, name):
        method = make_method(name)
        x, c = batch()
        method.end_pretrain(Repeated())
        for loss, parameters in ((method.d_loss, method.d_parameters), (method.g_loss, method.g_parameters)):
            method.zero_grad()
            terms = loss(x, c)
            assert terms and all(t.shape == () and torch.isfinite(t) for t in terms.values())
            sum(terms.values()).backward()
            grads = [p.grad for p in parameters() if p.grad is not None]
            assert grads and all(torch.isfinite(g).all() for g in grads)
            assert sum(g.abs().sum() for g in grads) > 0

    def test_d_loss_leaves_the_generator_alone(self, name):
        method = make_method(name)
        method.end_pretrain(Repeated())
        sum(method.d_loss(*batch()).values()).backward()
        assert all(p.grad is None for p in method.g_parameters())

    def test_no_parameter_has_two_owners(self, name):
        method = make_method(name)
        d, g = {id(p) for p in method.d_parameters()}, {id(p) for p in method.g_parameters()}
        assert d and g and not d & g

    def test_pretraining_lowers_its_loss(self, name):
        method = make_method(name)
        assert bool(list(method.pretrain_parameters())) == method.pretrains()
        if not method.pretrains():
            return
        optimiser = torch.optim.Adam(method.pretrain_parameters(), 2e-3)
        x, c = batch()
        values = []
        for _ in range(30):
            total = sum(method.pretrain_loss(x, c).values())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            values.append(total.item())
        assert values[-1] < 0.95 * values[0]

    def test_samples_depend_on_seed_and_class_but_not_on_neighbours(self, name):
        method = make_method(name)
        method.end_pretrain(Repeated())
        method.update_ema(0.0)
        z, c = method.latent(4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
        images = method.sample(z, c)
        assert images.shape == (4, 3, 16, 16) and images.abs().max() <= 1
        torch.testing.assert_close(method.sample(z[1:2], c[1:2]), images[1:2], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(images[0], images[3])
        if method.conditional:
            assert not torch.allclose(method.sample(z, (c + 1) % 3), images)

    def test_wrong_labels_are_wrong_and_uniform(self, name):
        method = make_method(name)
        c = torch.zeros(6000, dtype=torch.int64)
        wrong = method.wrong_labels(c)
        counts = torch.bincount(wrong, minlength=3)
        assert counts[0] == 0 and counts[1:].min() > 2700

    def test_ema_moves_towards_the_generator(self, name):
        method = make_method(name)
        if method.G_ema is None:
            pytest.skip("no average")
        before = copy.deepcopy(method.G_ema.state_dict())
        with torch.no_grad():
            for p in method.G.parameters():
                p.add_(1.0)
        method.update_ema(0.75)
        for key, p in method.G.named_parameters():
            torch.testing.assert_close(method.G_ema.state_dict()[key], before[key] + 0.25, rtol=1e-4, atol=1e-5)
            assert not method.G_ema.state_dict()[key].requires_grad
            torch.testing.assert_close(p, before[key] + 1.0)

    def test_works_for_one_channel(self, name):
        kind = load_method(name)
        method = make_method(name)
        grey = kind(method.cfg)
        grey.setup(DataSpec(2, 1, 16, (4, 4)))
        x, c = torch.rand(4, 1, 16, 16) * 2 - 1, torch.tensor([0, 1, 0, 1])
        assert all(torch.isfinite(t) for t in grey.d_loss(x, c).values())

    def test_state_keys_name_the_networks(self, name):
        keys = set(make_method(name).state_dict())
        assert {key.split(".")[0] for key in keys} >= {"G", "D"}


def test_unknown_method_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        load_method("sgbgn")
    assert "sgbgan" in caught.value.hint
