"""BAGAN-GP and, by inheritance, SGBGAN: weight transfer, and what the losses feed the networks."""

import pytest
import torch
from helpers import make_method

from balancegan.compute import microbatch as parts
from balancegan.core.config import resolve
from balancegan.methods import load_method
from balancegan.methods.gradient_penalty import gradient_penalty
from balancegan.nets import losses

NAMES = ("bagan-gp", "sgbgan")


def images(n):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1, torch.randint(3, (n,), generator=generator)


class Spy:
    """Records the discriminator's inputs."""

    def __init__(self, method):
        self.heads, self.trunks = [], []
        head, features = method.D.head, method.D.features

        def spied_head(feats, c):
            self.heads.append((feats.detach(), c))
            return head(feats, c)

        def spied_features(x):
            self.trunks.append(x.detach())
            return features(x)

        method.D.head, method.D.features = spied_head, spied_features


@pytest.mark.parametrize("name", NAMES)
class TestWeightTransfer:
    def pretrain(self, method):
        x, c = images(16)
        optimiser = torch.optim.Adam(method.pretrain_parameters(), 1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            sum(method.pretrain_loss(x, c).values()).backward()
            optimiser.step()
        return {k: v.clone() for k, v in method.G.state_dict().items()}

    def test_weights_are_equal_after_transfer(self, name):
        method = make_method(name)
        decoder = self.pretrain(method)
        trunk, before = method.E.trunk.state_dict(), method.D.trunk.state_dict()
        assert any(not torch.equal(trunk[k], before[k]) for k in trunk)
        method.begin_adversarial(None)
        after = method.D.trunk.state_dict()
        assert trunk.keys() == after.keys() and all(torch.equal(trunk[k], after[k]) for k in trunk)
        assert all(torch.equal(decoder[k], v) for k, v in method.G.state_dict().items())
        next(iter(after.values())).add_(1)  # a copy: training D must not touch the encoder
        assert not torch.equal(next(iter(method.E.trunk.state_dict().values())), next(iter(after.values())))

    def test_the_trunk_can_start_from_scratch(self, name):
        method = make_method(name, trunk_from_encoder=False)
        before = {k: v.clone() for k, v in method.D.state_dict().items()}
        self.pretrain(method)
        method.begin_adversarial(None)
        assert all(torch.equal(before[k], v) for k, v in method.D.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
class TestLosses:
    def test_discriminator_is_fed_the_right_images_and_labels(self, name, monkeypatch):
        method = make_method(name)
        x, c = images(32)
        spy, seen = Spy(method), {}
        monkeypatch.setattr(
            losses,
            "gradient_penalty",
            lambda critic, real, fake, alpha: (
                seen.update(critic=critic, real=real, fake=fake, alpha=alpha) or torch.zeros(())
            ),
        )
        terms = method.d_loss(x, c)
        assert set(terms) == {"real", "fake", "wrong", "gp"}
        (feats, labels), (trunk,) = spy.heads[0], spy.trunks
        real_c, _, wrong_c = labels.split(32)
        assert torch.equal(trunk[:32], x) and torch.equal(trunk[32::4], seen["fake"])  # tiny: penalty_every = 4
        assert torch.equal(real_c, c) and (wrong_c != c).all()
        assert torch.equal(feats[:32], feats[64:])  # the same real features under the wrong label
        assert torch.equal(seen["real"], x[::4]) and seen["alpha"].min() >= 0 and seen["alpha"].max() <= 1
        spy.heads.clear()
        seen["critic"](x[::4])
        assert torch.equal(spy.heads[0][1], c[::4])  # interpolates are judged under the real images' labels

    def test_one_pass_equals_three_separate_passes(self, name):
        method = make_method(name)
        x, c = images(8)
        torch.manual_seed(5)
        terms = method.d_loss(x, c)
        torch.manual_seed(5)
        c_fake, c_wrong = method.random_labels(8, x.device), method.wrong_labels(c)
        with torch.no_grad():
            x_fake = method.generate(c_fake)
        torch.testing.assert_close(terms["real"], losses.bce_as_real(method.D(x, c)))
        torch.testing.assert_close(terms["fake"], losses.bce_as_fake(method.D(x_fake, c_fake)))
        torch.testing.assert_close(terms["wrong"], losses.bce_as_fake(method.D(x, c_wrong)))

    def test_penalty_weight_scales_its_term_alone(self, name):
        values = []
        for weight in (1.0, 5.0):
            method = make_method(name, lambda_gp=weight)
            torch.manual_seed(3)
            values.append(method.d_loss(*images(8)))
        torch.testing.assert_close(values[1]["gp"], 5 * values[0]["gp"])
        torch.testing.assert_close(values[1]["real"], values[0]["real"])

    def test_a_penalty_of_every_fourth_image_is_the_same_in_parts(self, name):
        """Parts of any size penalise the same images, and their weighted penalties add up to the whole batch's."""
        method = make_method(name, penalty_every=4)
        x, c = images(10)
        torch.manual_seed(5)
        alpha, x_fake = torch.rand(10), method.generate(c).detach()
        plain = losses.gradient_penalty
        expected = 5 * plain(lambda y: method.D(y, c[::4]), x[::4], x_fake[::4], alpha[::4])
        sums = []
        for size in (10, 5, 3, 1):
            values = []
            for this in parts.cut(10, size):
                torch.manual_seed(5)
                rows = slice(this.start, this.stop)
                with parts.part(this):
                    gp = gradient_penalty(method.D, method.cfg, x[rows], x_fake[rows], c[rows])
                    values.append(gp * this.size / 10)
            sums.append(torch.stack(values).sum())
        torch.testing.assert_close(torch.stack(sums), expected.expand(4))

    def test_generator_is_judged_under_the_labels_it_was_given(self, name, monkeypatch):
        method = make_method(name)
        given = []
        generate = method.generate
        monkeypatch.setattr(method, "generate", lambda c: given.append(c) or generate(c))
        spy = Spy(method)
        x, _ = images(300)
        method.g_loss(x, torch.zeros(300, dtype=torch.int64))
        assert torch.equal(spy.heads[0][1], given[0])
        assert torch.bincount(given[0], minlength=3).min() > 60  # uniform, whatever the real images are
        method.d_loss(x, torch.zeros(300, dtype=torch.int64))
        assert torch.bincount(given[1], minlength=3).min() > 60


def test_the_autoencoder_is_supervised_by_the_label_and_by_the_absolute_error():
    method = make_method("bagan-gp", conditioning="product").eval()
    x, c = images(6)
    expected = (method.G.decoder(method.E(x) * method.G.embedding.weight[c]) - x).abs().mean()
    torch.testing.assert_close(method.pretrain_loss(x, c)["mae"], expected)


@pytest.mark.parametrize("name", ("dcgan", "bagan", "cwgan-gp", "bagan-gp", "sgbgan"))
def test_every_paper_preset_is_table_2(name):
    kind = load_method(name)
    cfg = resolve(kind.Config, kind.presets["paper"], env={})
    assert (cfg.n_critic, cfg.batch_size, cfg.latent_dim, cfg.image_size) == (5, 128, 128, 64)
    assert getattr(cfg, "lambda_gp", 5) == 5 and cfg.beta1 == 0.5 and cfg.upsampling == "transposed"
    assert cfg.ema_halflife == 0 and cfg.sampling == "natural"
    assert (cfg.pretrain_steps, cfg.lr_pretrain) == ((1530, 2e-4) if kind.pretrains() else (0, cfg.lr_pretrain))
