"""The product's training step beside a plain loop: the same gradients, and a ratio of the times."""

import copy
import importlib.util
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import GANS, make_method, write_images

from balancegan.methods import METHODS

FOLDER = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not part of this copy")


@pytest.fixture
def load(monkeypatch):
    """Loads a script, with those that it imports at hand."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def loaded(name):
        for shared in ("common", "floors", "plain_loop"):
            monkeypatch.delitem(sys.modules, shared, raising=False)
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


def without_chance(method):
    """Draws that depend on their number alone, views that are the images, and no steps of the power iteration."""

    def drawn(n):
        return torch.Generator().manual_seed(n)

    method.latent = lambda n, **_: torch.rand(n, method.latent_dim, generator=drawn(n)) * 2 - 1
    method.random_labels = lambda n, device: torch.randint(3, (n,), generator=drawn(n))
    method.wrong_labels = lambda c: (c + 1) % 3
    method.augment = lambda x: x
    if hasattr(method.D, "logit_head"):
        method.D.eval()


def test_the_plain_loop_names_no_method_that_there_is_not(load):
    assert set(load("plain_loop").UPDATES) <= set(METHODS)


@pytest.mark.parametrize("name", GANS)
def test_shared_passes_have_the_loss_and_the_gradients_of_separate_ones(name, load):
    plain = load("plain_loop")
    method = make_method(name)
    if hasattr(method.cfg, "prune_frac"):
        method.on_epoch()
    for module in method.modules():
        if hasattr(module, "gamma"):
            module.gamma.data.fill_(0.5)  # or attention would do nothing
    other = copy.deepcopy(method)
    plain.write_out(other)
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    c = torch.tensor([0, 1, 2, 0, 0, 1])
    found = []
    separate, _ = plain.UPDATES.get(name, (type(other).d_loss, False))
    for one, update in ((method, method.d_loss), (other, partial(separate, other))):
        without_chance(one)
        torch.manual_seed(5)  # of the penalty's interpolation
        terms = update(x, c)
        sum(terms.values()).backward()
        found.append((terms, {key: p.grad for key, p in one.D.named_parameters()}))
    (terms, gradients), (plain_terms, plain_gradients) = found
    for key, value in terms.items():
        torch.testing.assert_close(value, plain_terms[key], rtol=1e-4, atol=1e-5)
    for key, gradient in plain_gradients.items():
        assert gradient is not None, key
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item() + 1e-7)


def test_the_script_prints_both_times_their_ratio_and_the_floor(load, tmp_path, capsys):
    script = load("training_step")
    data = write_images(tmp_path / "discs", {"a": 20, "b": 12})
    words = "--device cpu --image-size 16 --width 16 --batch-size 4 --rounds 2 --steps 1 --workers 0"
    assert script.main([str(data), *words.split(), "--methods", "sgbgan,damage-gan,dcgan"]) == 0
    out = capsys.readouterr().out
    row = r"\| {} \| 16 \| 4 \| 1 \| [\d.]+ \| [\d.]+ \| \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\) \| \d+ \| [\d.]+ \| "
    assert re.search(r"^tiny preset, CPU, \d threads, [\d,]+ GFLOP/s, torch ", out)
    for title in ("SGBGAN", "Damage GAN", "DCGAN"):
        assert re.search(row.format(title) + r"[\d.]+ \| \d+% \|$", out, re.MULTILINE), out
    with pytest.raises(SystemExit):
        script.parse(["--methods", "other"])


def test_without_data_images_of_noise_are_made(load, tmp_path, monkeypatch):
    script = load("training_step")
    monkeypatch.setattr(script, "COUNTS", (3, 2))
    assert len(list(script.write_noise(tmp_path / "noise").rglob("*.jpg"))) == 5


def test_operations_of_a_gradient_of_a_gradient_are_counted(load):
    floors = load("floors")
    a, b = torch.randn(4, 5, requires_grad=True), torch.randn(5, 6, requires_grad=True)

    def twice():
        (gradient,) = torch.autograd.grad((a @ b).sum(), a, create_graph=True)
        gradient.square().sum().backward()

    product = 2 * 4 * 5 * 6
    assert floors.flops(lambda: a @ b) == product
    assert floors.flops(twice) == 3 * product  # forward, by a, and that by b
