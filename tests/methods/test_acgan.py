"""AC-GAN: its losses against slow references, and CovidGAN's networks."""

import numpy as np
import pytest
import torch
from helpers import make_method

from balancegan.core.errors import UsageError
from balancegan.methods.base import DataSpec
from balancegan.nets.unet import Dropout


def images(n=8):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.tensor([0, 0, 1, 2] * (n // 4))


def acgan(**settings):
    return make_method("acgan", dropout=0.0, shared_fakes=False, **settings)


def slow_losses(answers, labels, target, prior):
    """Validity against a target, and the class, image by image."""
    valid, classes = (part.detach().double().numpy() for part in answers)
    p = 1 / (1 + np.exp(-valid))
    shifted = classes + prior
    validity = -np.mean([target * np.log(x) + (1 - target) * np.log(1 - x) for x in p])
    of_class = -np.mean([row[k] - np.log(np.exp(row).sum()) for row, k in zip(shifted, labels.tolist(), strict=True)])
    return validity, of_class


@pytest.mark.parametrize("class_loss", ["plain", "balanced"])
def test_losses_equal_slow_references(class_loss):
    method = acgan(class_loss=class_loss, sampling="natural")
    method.setup(DataSpec(3, 3, 16, (90, 9, 1)))
    x, c = images()
    torch.manual_seed(1)
    terms = method.d_loss(x, c)
    torch.manual_seed(1)
    c_fake = method.random_labels(len(x), x.device)
    x_fake = method.generate(c_fake).detach()
    prior = np.log([0.9, 0.09, 0.01]) if class_loss == "balanced" else 0.0
    real, class_real = slow_losses(method.D(x), c, 0.9, prior)
    fake, class_fake = slow_losses(method.D(x_fake), c_fake, 0.0, 0.0)
    found = {name: term.item() for name, term in terms.items()}
    expected = {"real": real, "fake": fake, "class_real": class_real, "class_fake": class_fake}
    assert found == pytest.approx(expected, rel=1e-4)
    torch.manual_seed(1)
    terms = method.g_loss(x, c)
    torch.manual_seed(1)
    c_fake = method.random_labels(len(x), x.device)
    valid, of_class = slow_losses(method.D(method.generate(c_fake)), c_fake, 1.0, 0.0)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"fake": valid, "class": of_class}, rel=1e-4
    )


def test_the_networks_are_covidgans():
    method = make_method("acgan", image_size=64, width=64, upsampling="transposed-5", dropout=0.5)
    method.setup(DataSpec(3, 3, 64, (4, 4, 4)))
    ups = [m for m in method.G.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [m.kernel_size for m in ups] == [(5, 5)] * 4 and ups[0].in_channels == 64 + 1  # the label's map
    assert method.G.label[0].embedding_dim == 50
    convs = [m for m in method.D.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.kernel_size for m in convs] == [(3, 3)] * 5 and [m.stride[0] for m in convs] == [2, 2, 2, 2, 1]
    assert [m.out_channels for m in convs] == [8, 8, 16, 32, 64]
    assert [m.dropped for m in method.D.modules() if isinstance(m, Dropout)] == [128] * 5
    for layer in (*ups, *convs):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.25)
    z, c = torch.randn(2, method.latent_dim), torch.tensor([0, 1])
    assert method.G(z, c).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(
    "wrong", [{"class_loss": "other"}, {"dropout": 1.0}, {"real_target": 0.5}, {"width": 12}, {"upsampling": "none"}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        make_method("acgan", **wrong)
