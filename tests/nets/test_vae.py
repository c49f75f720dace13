"""Shapes, depth and label dependence of SGBGAN's networks."""

import itertools

import pytest
import torch
from torch import nn

from balancegan.nets.vae import Decoder, Discriminator, Encoder, Generator, attention_side, stage_channels


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_at_every_size(size, channels):
    x = torch.rand(2, channels, size, size)
    c = torch.tensor([0, 2])
    encoder = Encoder(channels, size, 16, 8)
    mu, logvar = encoder(x)
    assert mu.shape == logvar.shape == (2, 8)
    assert encoder.trunk(x).shape == (2, 16, 4, 4)
    image = Generator(3, channels, size, 16, 8)(mu, c)
    assert image.shape == x.shape and image.abs().max() <= 1
    assert Discriminator(3, channels, size, 16)(x, c).shape == (2,)


def test_depth_follows_the_size():
    assert [len(stage_channels(size, 64)) for size in (16, 32, 64, 128, 256)] == [2, 3, 4, 5, 6]
    assert stage_channels(64, 256) == [256, 256, 128, 64]
    assert [attention_side(size) for size in (16, 32, 256)] == [8, 16, 16]


def test_the_decoder_ends_in_tanh_of_its_logits():
    decoder = Decoder(1, 16, 16, 8).eval()
    o = torch.randn(3, 8)
    torch.testing.assert_close(decoder(o), torch.tanh(decoder.logits(o)))


def test_no_batch_norm_in_the_critic_and_no_bias_before_one():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in Discriminator(2, 3, 32, 16).modules())
    layers = list(Decoder(3, 64, 16, 8).up)
    before_norm = [a for a, b in itertools.pairwise(layers) if isinstance(b, nn.BatchNorm2d)]
    assert before_norm and all(layer.bias is None for layer in before_norm)


def test_the_label_changes_image_and_logit():
    torch.manual_seed(0)
    z, x = torch.randn(1, 8), torch.rand(1, 3, 16, 16)
    generator, critic = Generator(2, 3, 16, 16, 8).eval(), Discriminator(2, 3, 16, 16)
    a, b = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(generator(z, a), generator(z, b))
    assert not torch.allclose(critic(x, a), critic(x, b))


def test_one_trunk_pass_serves_several_labels():
    critic = Discriminator(3, 3, 16, 16)
    x, c = torch.rand(2, 3, 16, 16), torch.tensor([1, 2])
    torch.testing.assert_close(critic(x, c), critic.head(critic.features(x), c))
