"""The networks of ContraD and Damage GAN: shapes, spectral norms, masks over all layers, and what pruning does."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from balancegan.nets.sndcgan import (
    ContrastiveDiscriminator,
    PrunableConv2d,
    SNDCGANGenerator,
    SNDCGANTrunk,
    prunable,
    pruned,
    set_masks,
)
from balancegan.nets.snresnet import SNResNet18Trunk

TRUNKS = (SNDCGANTrunk, SNResNet18Trunk)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_shapes_at_every_size(size, trunk):
    generator = SNDCGANGenerator(3, size, 4, 8)
    x = generator(torch.rand(2, 8), torch.tensor([0, 1]))
    assert x.shape == (2, 3, size, size) and x.abs().max() <= 1
    network = ContrastiveDiscriminator(trunk(3, size, 4), hidden=16)
    features = network.features(x)
    assert features.shape == (2, network.trunk.features)
    assert network.logit(features).shape == network(x).shape == (2,)
    assert network.project_real(features).shape == network.project_fake(features).shape == (2, 128)


def test_paper_sizes():
    assert SNResNet18Trunk(3, 32).features == 512
    convolutions = [m for m in SNDCGANTrunk(3, 32).modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 512]
    assert sum(isinstance(m, nn.Conv2d) for m in SNResNet18Trunk(3, 32, 8).modules()) == 1 + 16 + 3
    transposed = [m for m in SNDCGANGenerator(3, 32).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in transposed] == [256, 128, 64]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_layer_has_spectral_norm_one_and_no_batch_norm(trunk):
    network = trunk(3, 32, 8)
    for _ in range(50):
        network(torch.rand(2, 3, 32, 32))
    network.eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.05)


def test_masks_hit_exactly_the_smallest_weights_over_all_layers():
    torch.manual_seed(0)
    network = SNDCGANTrunk(3, 16, 4, PrunableConv2d)
    network(torch.rand(2, 3, 16, 16))
    before = [p.clone() for p in [*network.parameters(), *network.buffers()]]
    set_masks(network, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(before, [*network.parameters()], strict=False))
    network.eval()
    sizes = torch.cat([layer.weight.abs().flatten() for layer in prunable(network)])
    mask = torch.cat([layer.mask.flatten() for layer in prunable(network)])
    assert (mask == 0).sum() == int(0.9 * len(mask)) and len(prunable(network)) == 7
    assert sizes[mask == 0].max() <= sizes[mask == 1].min()
    shares = [layer.mask.mean().item() for layer in prunable(network)]
    assert max(shares) - min(shares) > 0.05  # one threshold for all layers, not one for each
    set_masks(network, 0.0)
    assert all((layer.mask == 1).all() for layer in prunable(network))


def test_reading_the_weights_for_masks_takes_no_power_iteration():
    network = SNDCGANTrunk(1, 16, 4, PrunableConv2d)
    before = {k: v.clone() for k, v in network.state_dict().items() if "mask" not in k}
    set_masks(network, 0.5)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items() if "mask" not in k)
    assert network.training


def test_a_pruned_pass_uses_the_masked_normalised_weight_and_leaves_nothing_behind():
    torch.manual_seed(0)
    network = SNDCGANTrunk(1, 16, 4, PrunableConv2d).eval()
    x = torch.rand(2, 1, 16, 16)
    dense = network(x)
    with pruned(network):
        assert torch.allclose(network(x), dense)  # nothing is masked yet
    set_masks(network, 0.7)
    with pruned(network):
        thinned = network(x)
    assert torch.equal(network(x), dense) and not torch.allclose(thinned, dense)
    reference = SNDCGANTrunk(1, 16, 4).eval()  # plain layers that hold the masked weights
    for mine, theirs in zip(
        prunable(network), (m for m in reference.modules() if isinstance(m, nn.Conv2d)), strict=True
    ):
        parametrize.remove_parametrizations(theirs, "weight")
        theirs.weight.data = (mine.weight * mine.mask).detach()
        theirs.bias.data = mine.bias.detach()
    torch.testing.assert_close(reference(x), thinned)


def test_masked_weights_get_gradient_from_the_dense_branch_only_and_one_backward_equals_two():
    torch.manual_seed(0)
    network = SNDCGANTrunk(1, 16, 4, PrunableConv2d).eval()  # no power iterations between the passes
    set_masks(network, 0.8)
    x1, x2 = torch.rand(2, 2, 1, 16, 16)
    layers = prunable(network)

    def gradients(*losses):
        network.zero_grad()
        for loss in losses:
            loss().backward()
        return [layer.parametrizations.weight.original.grad.clone() for layer in layers]

    def of_pruned():
        with pruned(network):
            return network(x1).square().sum()

    def of_dense():
        return network(x2).square().sum()

    def both():
        with parametrize.cached():  # as the training loss runs it: the normalised weights are made once
            return of_pruned() + of_dense()

    for one, two in zip(gradients(both), gradients(of_pruned, of_dense), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    # With respect to the normalised weights: nothing comes back to a masked one from the pruned pass.
    with parametrize.cached():
        weights = [layer.weight for layer in layers]
        thinned = torch.autograd.grad(of_pruned(), weights, retain_graph=True)
        dense = torch.autograd.grad(of_dense(), weights)
    for layer, a, b in zip(layers, thinned, dense, strict=True):
        assert (a[layer.mask == 0] == 0).all() and (b[layer.mask == 0] != 0).any()


def test_masks_are_saved_with_the_weights():
    network, other = (SNDCGANTrunk(1, 16, 4, PrunableConv2d) for _ in range(2))
    set_masks(network, 0.6)
    other.load_state_dict(network.state_dict())
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(prunable(network), prunable(other), strict=True))
