"""Seeds and chunks."""

import numpy as np
import torch
from helpers import make_method

from balancegan.sampling.accepted import Tally, accepted_images
from balancegan.sampling.samplers import CHUNK, Sampler, latents


def sampler():
    return Sampler(make_method("sgbgan"), torch.device("cpu"))


def test_a_seed_is_one_image_in_whatever_company():
    s = sampler()
    together = s.images(1, list(range(70)))
    alone = s.images(1, [66])
    assert np.array_equal(together[66], alone[0]) and together.dtype == np.uint8
    assert not np.array_equal(s.images(2, [66]), alone)


def test_latents_depend_on_their_seed_alone():
    method = make_method("sgbgan")
    assert torch.equal(latents(method, [5, 9])[1], latents(method, [9])[0])


def test_tries_are_bounded_and_seeds_ordered():
    s = sampler()
    seen = []

    class EveryTenth:
        def __call__(self, images, seeds):
            seen.append(len(images))
            assert np.array_equal(seeds, np.arange(seeds[0], seeds[0] + len(images)))
            return seeds % CHUNK % 10 == 0

    tally = Tally()
    pairs = list(accepted_images(s, 0, 9, EveryTenth(), 10 * CHUNK, tally))
    assert (tally.samples, tally.assigned, tally.accepted) == (75, 75, 9)  # 640 … 714
    assert tally.rejected == 66
    assert [seed for seed, _ in pairs] == [640, 650, 660, 670, 680, 690, 700, 704, 714]
    assert np.array_equal(pairs[-1][1], s.images(0, [714])[0])

    class Never:
        def __call__(self, images, seeds):
            return np.zeros(len(images), bool)

    assert not list(accepted_images(s, 0, 4, Never()))
    assert not list(accepted_images(s, 0, 0, None))


def test_a_rare_pass_is_waited_for_and_a_hopeless_filter_is_not():
    s = sampler()
    looked = []

    class OneIn:
        def __init__(self, chunks):
            self.chunks = chunks

        def __call__(self, images, seeds):
            looked.append(1)
            mask = np.zeros(len(images), bool)
            mask[0] = len(looked) % self.chunks == 0
            return mask

    assert len(list(accepted_images(s, 0, 60, OneIn(2)))) == 60 and len(looked) == 120  # 1 in 128 passes
    looked.clear()
    assert len(list(accepted_images(s, 0, 60, OneIn(10)))) == 10 and len(looked) == 100  # 1 in 640 is given up
