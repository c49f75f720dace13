"""Shapes, depth and label dependence of the networks."""

import itertools

import pytest
import torch
from torch import nn

from balancegan.nets.dcgan import (
    Classifier,
    Decoder,
    Discriminator,
    Encoder,
    GaussianGenerator,
    Generator,
    attention_side,
    conv_trunk,
    init_normal,
    stage_channels,
)
from balancegan.nets.layers import BatchNorm2d
from balancegan.nets.vae import VariationalEncoder, gated_trunk


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("trunk", [conv_trunk, gated_trunk])
def test_shapes_at_every_size(size, channels, trunk):
    x = torch.rand(2, channels, size, size)
    c = torch.tensor([0, 2])
    mu, logvar = VariationalEncoder(trunk(channels, size, 16), 16, 8)(x)
    assert mu.shape == logvar.shape == Encoder(trunk(channels, size, 16), 16, 8)(x).shape == (2, 8)
    assert trunk(channels, size, 16)(x).shape == (2, 16, 4, 4)
    for kind in (Generator, GaussianGenerator):
        image = kind(3, 8, Decoder(channels, size, 16, 8))(mu, c)
        assert image.shape == x.shape and image.abs().max() <= 1
    assert Discriminator(3, trunk(channels, size, 16), 16)(x, c).shape == (2,)
    assert Classifier(3, trunk(channels, size, 16), 16)(x).shape == (2, 4)


def test_depth_follows_the_size():
    assert [len(stage_channels(size, 64)) for size in (16, 32, 64, 128, 256)] == [2, 3, 4, 5, 6]
    assert stage_channels(64, 256) == [256, 256, 128, 64]
    assert [attention_side(size) for size in (16, 32, 256)] == [8, 16, 16]


def test_the_decoder_ends_in_tanh_of_its_logits():
    decoder = Decoder(1, 16, 16, 8).eval()
    o = torch.randn(3, 8)
    torch.testing.assert_close(decoder(o), torch.tanh(decoder.logits(o)))


def test_no_batch_norm_in_the_critic_and_no_bias_before_one():
    for trunk in (conv_trunk(3, 32, 16), gated_trunk(3, 32, 16)):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in trunk)
    layers = list(Decoder(3, 64, 16, 8).up)
    before_norm = [a for a, b in itertools.pairwise(layers) if isinstance(b, nn.BatchNorm2d)]
    assert before_norm and all(layer.bias is None for layer in before_norm)


def test_the_label_changes_image_and_logit():
    torch.manual_seed(0)
    z, x = torch.randn(1, 8), torch.rand(1, 3, 16, 16)
    generator, critic = Generator(2, 8, Decoder(3, 16, 16, 8)).eval(), Discriminator(2, conv_trunk(3, 16, 16), 16)
    a, b = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(generator(z, a), generator(z, b))
    assert not torch.allclose(critic(x, a), critic(x, b))


def test_one_trunk_pass_serves_several_labels():
    critic = Discriminator(3, gated_trunk(3, 16, 16), 16)
    x, c = torch.rand(2, 3, 16, 16), torch.tensor([1, 2])
    torch.testing.assert_close(critic(x, c), critic.head(critic.features(x), c))


def test_batch_norm_is_in_every_layer_but_the_first_and_none_before_it_has_a_bias():
    layers = list(conv_trunk(3, 64, 16, norm=BatchNorm2d))
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Conv2d, nn.LeakyReLU] + 3 * [nn.Conv2d, BatchNorm2d, nn.LeakyReLU]
    assert [layer.bias is None for layer in layers if isinstance(layer, nn.Conv2d)] == [False, True, True, True]


def test_the_gaussian_generator_draws_from_the_gaussian_of_the_class():
    generator = GaussianGenerator(2, 3, Decoder(1, 16, 16, 3))
    mean = torch.tensor([[0.0, 0.0, 0.0], [5.0, -1.0, 2.0]])
    root = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.0, 0.5]])
    covariance = torch.stack([torch.eye(3), root @ root.T])
    generator.set_prior(mean, covariance)
    z = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0))
    code = generator.code(z, torch.ones(len(z), dtype=torch.int64))
    torch.testing.assert_close(code.mean(0), mean[1], atol=0.05, rtol=0)
    torch.testing.assert_close(code.T.cov(), covariance[1], atol=0.1, rtol=0)
    assert {"mean", "factor"} <= set(generator.state_dict()) and not {"mean", "factor"} & {
        name for name, _ in generator.named_parameters()
    }


def test_dcgan_initialisation():
    network = Generator(2, 128, Decoder(3, 32, 64, 128))
    init_normal(network)
    assert network.decoder.dense.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.decoder.norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert network.decoder.norm.bias.abs().max() == 0 and network.embedding.weight.std() > 0.5
