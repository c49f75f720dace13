"""The contract of every method: the tests run over METHODS, so they cover new methods too."""

import copy

import numpy as np
import pytest
import torch
from helpers import GANS, make_method

from balancegan.core.config import resolve
from balancegan.core.errors import UsageError
from balancegan.methods import METHODS, load_method
from balancegan.methods.base import PRESETS, DataSpec


def batch(n=6):
    """Return images of four uniform quarters, and labels."""
    quarters = torch.randint(0, 2, (n, 3, 2, 2), generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    return quarters.repeat_interleave(8, 2).repeat_interleave(8, 3), torch.tensor([0, 1, 2] * (n // 3))


class Repeated:
    """`Batches` that always return the same few images."""

    def draw(self):
        return batch()

    def once(self):
        yield batch()

    def of_class(self, label, most):
        x, c = batch()
        return ((x[c == label] + 1) * 127.5).to(torch.uint8).numpy()[:most]


def begin(method, until):
    """Run the `begin` hooks of all stages up to the stage `until`."""
    for stage in method.stages():
        if stage.begin:
            stage.begin(Repeated())
        if stage.name == until:
            return


def updates(method):
    return [(stage.name, update) for stage in method.stages() for update in stage.updates]


def sampled(method, z, c):
    """Sample images; a method with sources gets the batch's first image of an allowed class."""
    if not method.uses_sources:
        return method.sample(z, c)
    x, labels = batch()
    allowed = [[i for i, k in enumerate(labels.tolist()) if k in method.source_classes(label)] for label in c.tolist()]
    return method.sample(z, c, x[[rows[0] for rows in allowed]])


def presets_resolve(name):
    kind = load_method(name)
    assert set(kind.presets) == set(PRESETS)
    for preset in PRESETS:
        cfg = resolve(kind.Config, kind.presets[preset], env={})
        assert cfg.image_size in kind.image_sizes
    assert kind.paper and kind.title and isinstance(kind.conditional, bool)


def refuses_other_sizes(name):
    with pytest.raises(UsageError, match="image_size"):
        make_method(name, image_size=48)


def refuses_a_stage_that_does_not_exist(name):
    if not load_method(name).pretrains():
        with pytest.raises(UsageError, match="no pre-training"):
            make_method(name, pretrain_steps=5)


def stages_have_names_and_lengths(name):
    method = make_method(name, steps=7, pretrain_steps=3 if load_method(name).pretrains() else 0)
    stages = method.stages()
    assert len({stage.name for stage in stages}) == len(stages) and stages[-1].steps == 7
    assert len(stages) == 1 or stages[0].steps == 3
    assert method.schedule.total == sum(stage.steps for stage in stages)
    for stage in stages:
        assert stage.updates and len({update.name for update in stage.updates}) == len(stage.updates)


def losses_are_finite_named_scalars_with_gradients(name):
    for i, (stage, _) in enumerate(updates(make_method(name))):
        method = make_method(name)
        begin(method, stage)
        _, update = updates(method)[i]
        terms = update.loss(*batch())
        assert terms and all(t.shape == () and torch.isfinite(t) for t in terms.values())
        sum(terms.values()).backward()
        grads = [p.grad for p in update.parameters() if p.grad is not None]
        assert grads and all(torch.isfinite(g).all() for g in grads)
        assert sum(g.abs().sum() for g in grads) > 0


def no_parameter_has_two_owners_in_a_step(name):
    for stage in make_method(name).stages():
        owned = [id(p) for update in stage.updates for p in update.parameters()]
        assert owned and len(set(owned)) == len(owned)


def the_first_of_several_stages_lowers_its_loss(name):
    method = make_method(name)
    *before, _ = method.stages()
    if not before:
        return
    update = before[0].updates[0]
    optimiser = torch.optim.Adam(update.parameters(), 2e-3)
    values = []
    for _ in range(30):
        total = sum(update.loss(*batch()).values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(total.item())
    assert values[-1] < 0.95 * values[0]


def samples_depend_on_seed_and_class_but_not_on_neighbours(name):
    method = make_method(name)
    begin(method, method.stages()[-1].name)
    with torch.no_grad():
        for p in method.G.parameters():  # a network may start as a constant
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    method.update_ema(0.0)
    z, c = method.latent(4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    assert z.shape == (4, *method.latent_shape)
    images = sampled(method, z, c)
    assert images.shape == (4, 3, 16, 16) and images.abs().max() <= 1
    torch.testing.assert_close(sampled(method, z[1:2], c[1:2]), images[1:2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(images[0], images[3])
    if method.conditional:
        assert not torch.allclose(sampled(method, z, (c + 1) % 3), images)


def conditions_and_references_go_together(name):
    method = make_method(name)
    names = method.condition_names(["ant", "bee", "cat"])
    references = list(method.references(Repeated(), 2))
    assert len(references) == len(names) and method.data.num_classes % len(names) == 0
    assert all(r.dtype == np.uint8 and r.shape[1:] == (3, 16, 16) for r in references)
    assert (names == ("ant", "bee", "cat")) == method.conditional


def ema_moves_towards_the_generator(name):
    method = make_method(name)
    if method.G_ema is None:
        return
    before = copy.deepcopy(method.G_ema.state_dict())
    with torch.no_grad():
        for p in method.G.parameters():
            p.add_(1.0)
    method.update_ema(0.75)
    for key, p in method.G.named_parameters():
        torch.testing.assert_close(method.G_ema.state_dict()[key], before[key] + 0.25, rtol=1e-4, atol=1e-5)
        assert not method.G_ema.state_dict()[key].requires_grad
        torch.testing.assert_close(p, before[key] + 1.0)


def works_for_one_channel(name):
    grey = load_method(name)(make_method(name).cfg)
    grey.setup(DataSpec(2, 1, 16, (4, 4)))
    x, c = torch.rand(4, 1, 16, 16) * 2 - 1, torch.tensor([0, 1, 0, 1])
    for _, update in updates(grey):
        assert all(torch.isfinite(t) for t in update.loss(x, c).values())


def state_keys_name_the_networks(name):
    assert "G" in {key.split(".")[0] for key in make_method(name).state_dict()}


CHECKS = (
    presets_resolve,
    refuses_other_sizes,
    refuses_a_stage_that_does_not_exist,
    stages_have_names_and_lengths,
    losses_are_finite_named_scalars_with_gradients,
    no_parameter_has_two_owners_in_a_step,
    the_first_of_several_stages_lowers_its_loss,
    samples_depend_on_seed_and_class_but_not_on_neighbours,
    conditions_and_references_go_together,
    ema_moves_towards_the_generator,
    works_for_one_channel,
    state_keys_name_the_networks,
)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_method(name, check):
    check(name)


@pytest.mark.parametrize("name", GANS)
class TestEveryGAN:
    def test_d_loss_leaves_the_generator_alone(self, name):
        method = make_method(name)
        begin(method, method.stages()[-1].name)
        sum(method.d_loss(*batch()).values()).backward()
        assert all(p.grad is None for p in method.g_parameters())

    def test_wrong_labels_are_wrong_and_uniform(self, name):
        method = make_method(name)
        c = torch.zeros(6000, dtype=torch.int64)
        wrong = method.wrong_labels(c)
        counts = torch.bincount(wrong, minlength=3)
        assert counts[0] == 0 and counts[1:].min() > 2700

    def test_state_keys_name_the_discriminator(self, name):
        assert "D" in {key.split(".")[0] for key in make_method(name).state_dict()}


def test_unknown_method_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        load_method("sgbgn")
    assert "sgbgan" in caught.value.hint
