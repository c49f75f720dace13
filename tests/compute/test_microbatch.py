"""Batches in parts: the same random numbers, the same gradients, half the size when memory runs out."""

import pytest
import torch
from helpers import make_method
from torch import nn
from torch.nn.utils import parametrize

from balancegan.compute import microbatch as parts
from balancegan.compute.memory import Fitting
from balancegan.core.errors import OutOfMemoryError
from balancegan.methods import METHODS, load_method
from balancegan.methods.contrad import ContraD
from balancegan.training.accumulation import Accumulator

CPU = torch.device("cpu")
OUT = "[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
CONTRASTS = {"nt_xent", "supcon"}


@pytest.mark.parametrize("n, size, least", [(8, 8, 1), (8, 3, 1), (7, 2, 2), (5, 1, 2), (1, 1, 1), (64, 63, 1)])
def test_parts_cover_a_batch(n, size, least):
    cut = parts.cut(n, size, least)
    assert [p.start for p in cut] == [0, *(p.stop for p in cut[:-1])] and cut[-1].stop == n
    sizes = [p.size for p in cut]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= least
    assert max(sizes) <= max(size, 2 * least - 1)


def test_a_part_gets_its_rows_of_the_whole_batch():
    def draw(n):
        return torch.rand(n, 2, generator=torch.Generator().manual_seed(0))

    one, three = parts.rows(draw, 4), parts.rows(draw, 12)
    for start, stop in ((0, 1), (1, 4)):
        with parts.part(parts.Part(start, stop, 4)):
            assert torch.equal(parts.rows(draw, stop - start), one[start:stop])
            views = torch.cat([three[4 * k + start : 4 * k + stop] for k in range(3)])  # one view after the other
            assert torch.equal(parts.rows(draw, 3 * (stop - start)), views)
            assert parts.whole(stop - start) == 4
    assert parts.whole(4) == 4
    with parts.part(parts.Part(0, 3, 4)), pytest.raises(ValueError, match="multiple"):
        parts.rows(draw, 4)


def test_what_goes_along_with_a_batch_is_shared_out():
    def draw(n):
        return torch.arange(n)

    got = []
    for this in parts.cut(10, 3):
        with parts.part(this), parts.along(2) as mine:
            got += parts.rows(draw, mine).tolist()
    assert got == [0, 1]


def still(method):
    """Without what looks at several images at once, or changes from pass to pass."""
    for module in method.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or hasattr(module, "_power_method"):
            module.eval()
        if parametrize.is_parametrized(module):
            module.parametrizations.eval()
    return method


def gradients(method, name, size):
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    c = torch.tensor([0, 1, 2, 0, 0, 1, 0, 2])
    torch.manual_seed(2)
    accumulate = Accumulator(method, CPU, size)
    terms = accumulate(name, getattr(method, f"{name}_loss"), x, c, method.zero_grad)
    found = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    return terms, torch.cat(found)


LOSSES = [
    (method, name)
    for method in METHODS
    for name in ("pretrain", "d", "g")
    if name != "pretrain" or load_method(method).pretrains()
]


@pytest.mark.parametrize("method, name", LOSSES)
@pytest.mark.parametrize("size", [4, 3, 2])
def test_parts_have_the_gradients_of_the_whole(method, name, size):
    """To rounding, where the loss is a mean over images; a contrast sees its part alone, and so is left out."""
    made = still(make_method(method))
    if name == "d" and isinstance(made, ContraD):
        made.cfg = type(made.cfg)(**{**vars(made.cfg), "lambda_con": 0.0})
        original = made.d_loss
        made.d_loss = lambda x, c: {k: v for k, v in original(x, c).items() if k not in CONTRASTS}
    whole, at_once = gradients(made, name, 8)
    in_parts, added = gradients(made, name, size)
    assert whole.keys() == in_parts.keys()
    for term, value in whole.items():
        assert in_parts[term].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6), term
    assert (added - at_once).norm() <= 2e-5 * at_once.norm()


def test_a_contrast_is_of_a_part_alone():
    """As documented: fewer images to tell apart, so the loss is smaller."""
    whole, _ = gradients(still(make_method("contrad")), "d", 8)
    in_parts, _ = gradients(still(make_method("contrad")), "d", 2)
    assert in_parts["nt_xent"] < whole["nt_xent"]


def test_a_failed_attempt_leaves_no_trace():
    """Batch statistics, power iterations and random numbers are those from before it."""
    straight, halved = make_method("sgbgan"), make_method("sgbgan")
    original = halved.g_loss

    def g_loss(x, c):
        terms = original(x, c)  # the memory runs out late
        if len(x) > 4:
            raise RuntimeError(OUT)
        return terms

    halved.g_loss = g_loss
    _, expected = gradients(straight, "g", 4)
    _, found = gradients(halved, "g", 8)
    assert torch.equal(expected, found)
    for (name, a), b in zip(straight.named_buffers(), halved.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_the_size_is_halved_until_it_fits():
    tried, notes = [], []

    def work(size):
        tried.append(size)
        if size > 3:
            raise RuntimeError(OUT)
        return size

    fitting = Fitting(20, CPU, note=notes.append)
    assert fitting.run(work) == 3 and tried == [20, 10, 5, 3] and len(notes) == 3
    assert fitting.run(work) == 3 and len(tried) == 5  # and stays
    rows = fitting.rows(lambda some: torch.arange(10)[some], 10)
    assert rows.tolist() == list(range(10))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory."), torch.OutOfMemoryError("no")])
def test_where_one_does_not_fit_it_is_exit_5(error):
    def work(size):
        raise error

    with pytest.raises(OutOfMemoryError) as caught:
        Fitting(4, CPU, hint="do this").run(work)
    assert caught.value.exit_code == 5 and caught.value.hint == "do this"


def test_other_errors_are_no_shortage():
    def work(size):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Fitting(4, CPU).run(work)
